"""Counts of generators whose low-rank adapters alone are trained, from layout and configuration alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .flops import Dimensions, mean_over_views, seen_blocks
from .layout import Layout
from .lora_names import adapted_layers


@dataclass(frozen=True)
class AdapterDimensions:
    """Dimensions of low-rank adapters (arXiv 2106.09685) on top of a frozen network.

    Attributes:
        rank: Rank of the adapters.
        layers: Names of the linear layers that have an adapter.
        label_table: Whether the class table is trained too.
    """

    rank: int
    layers: frozenset[str]
    label_table: bool

    @classmethod
    def of(
        cls, model: Dimensions, *, rank: int, targets: Sequence[str], label_table: bool
    ) -> "AdapterDimensions":
        """Create the dimensions from the targets of a recipe.

        Raises:
            UserError: If a target is not the end of the name of a linear layer.
        """
        layers = adapted_layers([name for name, _, _ in linear_layers(model)], targets)
        return cls(rank, frozenset(layers), label_table and model.num_classes is not None)


def linear_layers(model: Dimensions) -> Iterator[tuple[str, int, int]]:
    """Yield name, number of inputs and number of outputs of every linear layer of an `ACDiTTransformer`."""
    hidden, width = model.hidden_size, model.mlp_width
    if not model.discrete:  # token ids are looked up in a table
        yield "x_embedder", model.in_channels, hidden
    if model.time_conditioning:
        yield "t_embedder.mlp.0", model.time_width, hidden
        yield "t_embedder.mlp.2", hidden, hidden
    for layer in range(model.num_layers):
        yield f"blocks.{layer}.attn.qkv", hidden, 3 * hidden
        yield f"blocks.{layer}.attn.proj", hidden, hidden
        yield f"blocks.{layer}.mlp.fc1", hidden, width
        yield f"blocks.{layer}.mlp.fc2", width, hidden
        if model.conditioned:
            yield f"blocks.{layer}.adaLN_modulation.1", hidden, 6 * hidden
    yield "final_layer.linear", hidden, model.in_channels
    if model.conditioned:
        yield "final_layer.adaLN_modulation.1", hidden, 2 * hidden


def adapter_parameters(model: Dimensions, adapters: AdapterDimensions) -> int:
    """Return the number of parameters that the adapters add to the network."""
    return sum(
        adapters.rank * (inputs + outputs)
        for name, inputs, outputs in linear_layers(model)
        if name in adapters.layers
    )


def label_parameters(model: Dimensions, adapters: AdapterDimensions) -> int:
    """Return the number of parameters of the class table if it is trained beside the adapters, else 0."""
    return (1 + (model.num_classes or 0)) * model.hidden_size if adapters.label_table else 0


def adapter_training_flops(
    model: Dimensions,
    layout: Layout,
    adapters: AdapterDimensions,
    *,
    draws: int = 1,
    views: int | None = None,
    checkpointing: bool = False,
) -> float:
    """Return the FLOPs of a forward and a backward pass of one sample, see `flops.training_flops`.

    Frozen weights have no gradients, and nothing has one before the first layer that is trained.
    """

    def cost(blocks: Sequence[int]) -> int:
        tally = _Tally(model, adapters)
        _add_step(tally, model, layout, blocks, label_table=adapters.label_table)
        return (2 if checkpointing else 1) * tally.forward + tally.backward

    return mean_over_views(layout, cost, draws=draws, views=views)


class _Tally:
    """FLOPs of a forward and a backward pass, added up in the order of the forward pass."""

    def __init__(self, model: Dimensions, adapters: AdapterDimensions):
        self.forward = self.backward = 0
        self._adapters = adapters
        self._sizes = {name: (inputs, outputs) for name, inputs, outputs in linear_layers(model)}

    def linear(self, name: str, rows: int, gradient: bool, *, skip: int = 0) -> bool:
        """Add a linear layer; return whether its output needs a gradient, given whether its input does.

        The first `skip` outputs are not computed, unless the layer has an adapter.
        """
        inputs, outputs = self._sizes[name]
        adapted, rank = name in self._adapters.layers, self._adapters.rank
        product = 2 * rows * inputs * (outputs if adapted else outputs - skip)
        self.forward += product
        self.backward += product if gradient else 0
        if not adapted:
            return gradient
        down, up = 2 * rows * inputs * rank, 2 * rows * rank * outputs
        self.forward += down + up
        self.backward += down + 2 * up + (down if gradient else 0)
        return True

    def attention(self, flops: int, gradient: bool) -> None:
        """Add scores and weighted sums, whose backward pass has twice the products of the forward pass."""
        self.forward += flops
        self.backward += 2 * flops if gradient else 0


def _add_step(
    tally: _Tally, model: Dimensions, layout: Layout, blocks: Sequence[int], *, label_table: bool
) -> None:
    """Add the products of a training step with views of some blocks, as `flops.forward_flops` counts them.

    The order is that of the forward pass, so that what needs a gradient is known for each product.
    """
    hidden, tokens = model.hidden_size, layout.block_tokens
    given = 0 if model.context == "noised" else max(blocks)
    views, clean = len(blocks) * tokens, given * tokens
    pair = 2 * 2 * hidden * tokens * tokens  # of a query block and a key block
    view_pairs, clean_pairs = seen_blocks(blocks) * pair, seen_blocks(range(given)) * pair
    state = not model.discrete and tally.linear("x_embedder", clean + views, False)
    condition = False
    if model.time_conditioning:
        condition = tally.linear("t_embedder.mlp.0", len(blocks), False)
        condition = tally.linear("t_embedder.mlp.2", len(blocks), condition)
    condition |= label_table
    for layer in range(model.num_layers):
        name, last = f"blocks.{layer}", layer == model.num_layers - 1
        if model.conditioned:
            state |= tally.linear(f"{name}.adaLN_modulation.1", len(blocks), condition)
        needed = state
        state = tally.linear(f"{name}.attn.qkv", views, needed)
        skip = hidden if last else 0  # nobody reads the last queries of clean tokens
        tally.linear(f"{name}.attn.qkv", clean, needed, skip=skip)
        tally.attention(view_pairs + (0 if last else clean_pairs), state)
        rows = views if last else clean + views
        for part in ("attn.proj", "mlp.fc1", "mlp.fc2"):
            state = tally.linear(f"{name}.{part}", rows, state)
    if model.conditioned:
        state |= tally.linear("final_layer.adaLN_modulation.1", len(blocks), condition)
    tally.linear("final_layer.linear", views, state)
