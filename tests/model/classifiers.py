"""Classifiers of three layers in float64, with the weights of a generator and random heads."""

from typing import Any

from torch import Tensor

from acdit.model.classifier import ACDiTForImageClassification
from acdit.model.layout import Layout
from acdit.model.transformer import ACDiTTransformer
from tests.reference import build
from tests.tiny import randomise

LAYOUT = Layout((4, 6), (2, 3))
WHOLE = LAYOUT.with_block(LAYOUT.grid)
ALL = (0, 1, 2, 3)


def generator(**config: Any) -> ACDiTTransformer:
    """A generator of three layers in float64."""
    return build(LAYOUT, num_layers=3, **config)


def classifier(network: ACDiTTransformer | None = None, **settings: Any) -> ACDiTForImageClassification:
    """A classifier of four classes with the weights of a generator and random heads, in float64."""
    built = ACDiTForImageClassification.from_generator(network or generator(), 4, **settings).double().eval()
    randomise(built.heads, seed=5)
    return built


def states_by_hooks(network: Any, run: Any) -> list[Tensor]:
    """What the embedding and the layers of a network return in a call, (N, T, B, hidden)."""
    seen: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda module, given, output: seen.append(output))
        for layer in (network.x_embedder, *network.blocks)
    ]
    run()
    for hook in hooks:
        hook.remove()
    return seen
