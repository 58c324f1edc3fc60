"""The package on a real GPU: `pytest tests/test_cuda.py` there; skipped elsewhere. About two minutes."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from acdit.bench.doctor import examine
from acdit.diffusion.generate import Guidance, draw_noise, generate
from acdit.diffusion.schedulers import default_sampler
from acdit.model import attention
from acdit.model.attention import BACKENDS, default_backend
from acdit.model.layout import Layout
from acdit.training.learner import compile_blocks
from acdit.training.run import Run
from acdit.utils.ranks import launched
from tests.contract.trio import PIPELINES, sampled
from tests.tiny import relative_error, tiny_inputs, tiny_model
from tests.training.small import advance, all_state, small_recipe, unequal

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA")

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
WIDE: dict[str, Any] = {"axis_lengths": (16, 16), "hidden_size": 128, "num_heads": 2}
LAYOUT = Layout((16, 16), (4, 8))


def learned(network: Any, device: torch.device, half: bool = False) -> tuple[Tensor, Tensor]:
    """Output and gradients of a training step, on the CPU."""
    torch.nn.Module.to(network.train(), device)
    dtype = next(network.parameters()).dtype
    noised, timestep, clean, labels = (part.to(device) for part in tiny_inputs(LAYOUT, dtype=dtype))
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        output = network(noised, timestep, layout=LAYOUT, clean=clean, labels=labels).sample.float()
    output.square().mean().backward()
    gradients = [parameter.grad.flatten() for parameter in network.parameters() if parameter.grad is not None]
    return output.detach().cpu(), torch.cat(gradients).cpu()


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bf16"])
@pytest.mark.parametrize("backend", [None, *BACKENDS])
def test_output_and_gradients_equal_those_of_the_cpu(backend, half):
    expected = learned(tiny_model(**WIDE, dtype=torch.float64), CPU)
    network = tiny_model(**WIDE)
    network.set_attention_backend(backend)
    for values, reference in zip(learned(network, CUDA, half), expected, strict=True):
        assert relative_error(values, reference.float()) < (2e-2 if half else 1e-5)


@pytest.mark.parametrize("head_dim", [8, 16])
def test_narrow_heads(head_dim):
    config = WIDE | {"hidden_size": 4 * head_dim, "num_heads": 4}
    expected = learned(tiny_model(**config, dtype=torch.float64), CPU)
    for values, reference in zip(learned(tiny_model(**config), CUDA), expected, strict=True):
        assert relative_error(values, reference.float()) < 1e-5


@pytest.mark.parametrize("backend", [None, "flex"])
def test_compiled_blocks_learn_alike(backend):
    torch.compiler.reset()
    plain, compiled = tiny_model(**WIDE), tiny_model(**WIDE)
    compile_blocks(compiled)
    for network in (plain, compiled):
        network.set_attention_backend(backend)
    for values, reference in zip(learned(compiled, CUDA), learned(plain, CUDA), strict=True):
        assert relative_error(values, reference) < 1e-5


def test_the_backend_is_chosen_without_gradients_and_in_any_mode():
    for mode in (torch.no_grad(), torch.inference_mode(), torch.autocast("cuda", torch.bfloat16)):
        with mode:
            attention._flex_agrees.cache_clear()
            assert default_backend(CUDA) in BACKENDS
    assert {finding.state for finding in examine(CUDA)} <= {"has", "uses", "right", "lacks"}


def samples(network: Any, device: torch.device) -> Tensor:
    noise = draw_noise([1, 2], LAYOUT, 3).to(device)
    labels = torch.tensor([1, 2], device=device)
    scheduler, guidance = default_sampler("flow"), Guidance(2.0)
    options: dict[str, Any] = {"scheduler": scheduler, "steps": 3, "labels": labels, "guidance": guidance}
    return torch.stack([block.sample.cpu() for block in generate(network, LAYOUT, noise, **options)], 1)


def test_samples_equal_those_of_the_cpu_whole_and_compiled():
    torch.compiler.reset()
    network = tiny_model(**WIDE)
    expected = samples(network, CPU)
    moved = copy.deepcopy(network)
    torch.nn.Module.to(moved, CUDA)
    assert relative_error(samples(moved, CUDA), expected) < 1e-4
    moved.compile_repeated_blocks()
    assert relative_error(samples(moved, CUDA), expected) < 1e-4


def test_one_step_of_the_network_waits_for_nothing():
    """The second call copies nothing to the device, which would wait for all that runs there."""
    network = tiny_model(**WIDE)
    torch.nn.Module.to(network, CUDA)
    given = [part.to(CUDA) for part in tiny_inputs(LAYOUT)]
    for mode in ("default", "error"):
        torch.cuda.set_sync_debug_mode(mode)
        try:
            output = network(given[0], given[1], layout=LAYOUT, clean=given[2], labels=given[3]).sample
            output.sum().backward()
            with torch.no_grad():
                network(given[0], given[1], layout=LAYOUT, clean=given[2], labels=given[3])
        finally:
            torch.cuda.set_sync_debug_mode("default")
        if mode == "default":  # what is made once is made by now
            torch.cuda.synchronize()


OFFLOADS: dict[str, Any] = {
    "model": lambda pipe: pipe.enable_model_cpu_offload(),
    "sequential": lambda pipe: pipe.enable_sequential_cpu_offload(),
    "leaves": lambda pipe: pipe.enable_group_offload(CUDA, CPU, "leaf_level"),
    "leaves, stream": lambda pipe: pipe.enable_group_offload(CUDA, CPU, "leaf_level", use_stream=True),
    "blocks": lambda pipe: pipe.enable_group_offload(CUDA, CPU, "block_level", num_blocks_per_group=1),
    "blocks, stream": lambda pipe: pipe.enable_group_offload(
        CUDA, CPU, "block_level", num_blocks_per_group=1, use_stream=True
    ),
}


@pytest.mark.parametrize("kind", PIPELINES)
def test_pipelines_sample_alike_wherever_their_weights_are(kind):
    on_cpu, expected = sampled(PIPELINES[kind]()), sampled(PIPELINES[kind]().to(CUDA)).cpu()
    if kind == "text":
        assert torch.equal(expected, on_cpu)
    else:
        assert relative_error(expected, on_cpu) < 1e-3
    for name, offload in OFFLOADS.items():
        pipeline = PIPELINES[kind]()
        offload(pipeline)
        for _ in range(2):
            assert torch.equal(sampled(pipeline).cpu(), expected), name


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_resumed_run_is_bit_exact(precision, tmp_path):
    options = {"training": {"precision": precision}, "model": {"hidden_size": 32, "num_heads": 2}}
    whole = Run(small_recipe(tmp_path / "whole", **options), launched())
    advance(whole, 4)
    first = Run(small_recipe(tmp_path / "parts", **options), launched())
    advance(first, 2)
    first.save()
    second = Run(small_recipe(tmp_path / "parts", **options), launched())
    advance(second, 2)
    assert second.device.type == "cuda" and not unequal(all_state(whole), all_state(second))
