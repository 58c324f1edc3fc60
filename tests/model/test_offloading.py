"""Networks as diffusers offloads and casts them: weights are there in the call of their module alone."""

import pytest
import torch
from accelerate import cpu_offload
from torch import Tensor

from acdit.diffusion.generate import Guidance, generate
from acdit.diffusion.masked_schedulers import FirstHittingScheduler
from acdit.diffusion.schedulers import default_sampler
from acdit.model.layout import Layout
from acdit.model.transformer import ACDiTTransformer
from tests.tiny import relative_error, tiny_inputs, tiny_model

LAYOUT = Layout((6, 6), (2, 6))
TEXT = Layout((12,), (4,))
CPU = torch.device("cpu")


def drawn(network: ACDiTTransformer) -> Tensor:
    """Samples (1, T, B, ..), with guidance, cache, window and sinks where the network allows them."""
    if network.config["vocab_size"] is not None:
        sources = [torch.Generator().manual_seed(0)]
        masked, scheduler = torch.full((1, 3, 4), 10), FirstHittingScheduler(mask_token=10)
        blocks = generate(network, TEXT, masked, scheduler=scheduler, steps=4, generators=sources)
    else:
        noise, scheduler = tiny_inputs(LAYOUT, batch=1).noised, default_sampler("flow")
        more = {"labels": torch.tensor([2]), "guidance": Guidance(2.0), "window": 1, "sinks": 1}
        blocks = generate(network, LAYOUT, noise, scheduler=scheduler, steps=2, **more)
    return torch.stack([block.sample for block in blocks], 1)


def images() -> ACDiTTransformer:
    return tiny_model()


def text() -> ACDiTTransformer:
    config = {"axis_lengths": (12,), "num_classes": None, "time_conditioning": False}
    return tiny_model(in_channels=None, vocab_size=11, **config)


@pytest.mark.parametrize("made", [images, text])
def test_module_by_module(made):
    expected, network = drawn(made()), made()
    cpu_offload(network, CPU)
    assert all(parameter.is_meta for parameter in network.parameters())
    assert torch.equal(drawn(network), expected)


@pytest.mark.parametrize("made", [images, text])
def test_in_groups(made):
    expected, network = drawn(made()), made()
    network.enable_group_offload(onload_device=CPU, offload_device=CPU, offload_type="leaf_level")
    assert torch.equal(drawn(network), expected)


def test_weights_of_fewer_bits():
    """Each layer computes in float32 with weights that are kept in float8, as if they had been rounded."""
    network, rounded = images(), images()
    network.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    kept = dict(network.named_parameters())
    assert kept["blocks.0.attn.qkv.weight"].dtype == torch.float8_e4m3fn
    plain = {name: parameter.detach().float() for name, parameter in kept.items()}
    rounded.load_state_dict(plain)
    assert torch.equal(drawn(network), drawn(rounded))
    assert relative_error(drawn(network), drawn(images())) > 1e-3
