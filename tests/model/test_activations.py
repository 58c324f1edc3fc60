"""Planned activation memory against what autograd is seen to keep."""

import pytest
import torch
from torch import Tensor

from acdit.diffusion.continuous import DiffusionObjective
from acdit.diffusion.objective import SampleKey
from acdit.model.flops import Dimensions, activation_bytes, parameters
from acdit.model.layout import Layout
from acdit.model.transformer import ACDiTTransformer
from tests.tiny import randomise

CHANNELS, HIDDEN, BATCH = 8, 64, 2
IMAGE = Layout((8, 8), (4, 4))
WHOLE = Layout((8, 8), (8, 8))


class Kept:
    """Bytes of the distinct storages in the tensors that it is shown, by whether they hold weights."""

    def __init__(self, model: ACDiTTransformer):
        self.weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        self.matrices = {tuple(p.shape) for p in model.parameters() if p.ndim == 2}
        self.seen: dict[int, Tensor] = {}  # holding the tensors keeps their storages from being used again

    def show(self, tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in self.weights:
            self.seen.setdefault(place, tensor)
        return tensor

    def bytes(self, weights: bool) -> int:
        """Of copies of weights in bf16, which lie transposed, or of all the rest."""
        return sum(
            tensor.untyped_storage().nbytes()
            for tensor in self.seen.values()
            if (tuple(tensor.shape[::-1]) in self.matrices and tensor.stride(0) == 1) == weights
        )


def network(layers: int, **config) -> ACDiTTransformer:
    model = ACDiTTransformer(CHANNELS, (8, 8), layers, HIDDEN, 2, num_classes=10, **config).train()
    model.set_attention_backend("dense")  # which joins keys, as FlexAttention does
    randomise(model)
    return model


def forward(model: ACDiTTransformer, layout: Layout, half: bool, draws: int, blocks=None) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        return (
            DiffusionObjective(context=model.config["context"])
            .loss(
                model,
                torch.zeros(BATCH, layout.num_blocks, layout.block_tokens, CHANNELS),
                layout=layout,
                key=SampleKey(0, [0] * BATCH, range(BATCH)),
                labels=torch.zeros(BATCH, dtype=torch.long),
                null_label=10,
                blocks=blocks,
                draws=range(draws),
            )
            .mean
        )


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    ("layout", "draws", "views"), [(IMAGE, 1, None), (IMAGE, 2, None), (IMAGE, 1, 2), (WHOLE, 1, None)]
)
def test_what_autograd_saves(layout, draws, views, half):
    model = network(3)
    kept = Kept(model)
    last = None if views is None else range(layout.num_blocks - views, layout.num_blocks)
    with torch.autograd.graph.saved_tensors_hooks(kept.show, lambda tensor: tensor):
        forward(model, layout, half, draws, last)
    dimensions = Dimensions.of(model.config)
    planned = activation_bytes(dimensions, layout, half=half, draws=draws, views=views)
    assert BATCH * planned == pytest.approx(kept.bytes(weights=False), rel=0.1)
    if half:
        assert 2 * parameters(dimensions) == pytest.approx(kept.bytes(weights=True), rel=0.1)


@pytest.mark.parametrize("half", [False, True])
def test_what_autograd_saves_with_noised_context(half):
    model = network(3, context="noised")
    kept = Kept(model)
    with torch.autograd.graph.saved_tensors_hooks(kept.show, lambda tensor: tensor):
        forward(model, IMAGE, half, 1)
    planned = activation_bytes(Dimensions.of(model.config), IMAGE, half=half)
    assert BATCH * planned == pytest.approx(kept.bytes(weights=False), rel=0.1)


@pytest.mark.parametrize("half", [False, True])
def test_what_checkpointing_keeps(half):
    """The inputs of every layer, and what the first one saves when it is run again."""
    model = network(5)
    kept = Kept(model)

    def watched(block, *inputs):
        for value in inputs:
            for tensor in value if isinstance(value, tuple) else (value,):
                if isinstance(tensor, Tensor):
                    kept.show(tensor)
        if block is not model.blocks[0]:
            with torch.no_grad():
                return block(*inputs)
        with torch.autograd.graph.saved_tensors_hooks(kept.show, lambda tensor: tensor):
            return block(*inputs)

    model.enable_gradient_checkpointing(watched)
    forward(model, IMAGE, half, 1)
    planned = activation_bytes(Dimensions.of(model.config), IMAGE, half=half, checkpointing=True)
    assert BATCH * planned == pytest.approx(kept.bytes(weights=False), rel=0.1)
