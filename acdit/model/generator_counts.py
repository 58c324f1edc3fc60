"""Parameters, FLOPs and bytes of generators by their configuration, whatever the kind of the network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

from .flops import (
    Dimensions,
    activation_bytes,
    cache_bytes,
    forward_flops,
    parameters,
    sampling_flops,
    training_flops,
)
from .layout import Layout, check_token_blocks


class GeneratorCounts:
    """Counts of an `ACDiTTransformer`; the functions of `flops` describe them.

    Attributes:
        network: Dimensions of the network.

    Args:
        config: Configuration of the network.
    """

    network: Dimensions

    def __init__(self, config: Mapping[str, Any]):
        self.network = Dimensions.of(config)

    @property
    def parameters(self) -> int:
        """Return the number of parameters."""
        return parameters(self.network)

    @property
    def unusual(self) -> dict[str, str | int]:
        """Return by name what sets the network apart from other ones of its size; empty for most."""
        variant = {"positions": self.network.positions, "context": self.network.context}
        usual = {"positions": "rope_nd", "context": "clean"}
        return {name: value for name, value in variant.items() if value != usual[name]}

    def network_tokens(self, layout: Layout, *, draws: int = 1, views: int | None = None) -> int:
        """Return the number of tokens of a sample in a training step, clean and noised ones."""
        if self.network.context == "noised":
            return layout.num_tokens
        noised = layout.num_blocks if views is None else min(views, layout.num_blocks)
        return (layout.num_blocks - 1 + noised * draws) * layout.block_tokens

    def forward_flops(self, layout: Layout) -> int:
        """Return the FLOPs of a forward pass of one sample with all blocks noised."""
        return forward_flops(self.network, layout)

    def training_flops(
        self, layout: Layout, *, draws: int = 1, views: int | None = None, checkpointing: bool = False
    ) -> float:
        """Return the FLOPs of forward and backward of one sample."""
        return training_flops(self.network, layout, draws=draws, views=views, checkpointing=checkpointing)

    def activation_bytes(
        self,
        layout: Layout,
        *,
        half: bool,
        draws: int = 1,
        views: int | None = None,
        checkpointing: bool = False,
    ) -> int:
        """Return the bytes of activations of one sample that are kept from the forward to the backward."""
        return activation_bytes(
            self.network, layout, half=half, draws=draws, views=views, checkpointing=checkpointing
        )

    def sampling_flops(self, layout: Layout, steps: Sequence[int], *, guided: bool) -> int:
        """Return the FLOPs of generating one sample with a cache, with `steps` of each block."""
        return sampling_flops(self.network, layout, steps, guided=guided)

    def cache_bytes(self, layout: Layout, bytes_per_value: int = 4, *, guided: bool = False) -> int:
        """Return the bytes of the keys and values of one sample, with those of both branches of guidance."""
        return cache_bytes(self.network, layout, bytes_per_value, guided=guided)


@dataclass(frozen=True)
class TokenHeadDimensions(Dimensions):
    """Dimensions of a `CausalTokenDiffusion`: those of its backbone, and those of its head."""

    head_layers: int = 3
    head_size: int = 0


class TokenHeadCounts(GeneratorCounts):
    """Counts of a `CausalTokenDiffusion`; see `GeneratorCounts`.

    Methods about FLOPs and activations raise UserError for a layout whose blocks are not single tokens.
    """

    def __init__(self, config: Mapping[str, Any]):
        backbone = Dimensions.of({**config, "vocab_size": None, "time_conditioning": True})
        self.network = self._model = TokenHeadDimensions(
            **vars(backbone),
            head_layers=config["head_layers"],
            head_size=config["head_size"] or config["hidden_size"],
        )

    @property
    def parameters(self) -> int:
        """Return the number of parameters."""
        model, size = self._model, self._model.head_size
        hidden, width, head_dim = model.hidden_size, model.mlp_width, model.hidden_size // model.num_heads
        attention = 4 * hidden * hidden + 4 * hidden + 2 * head_dim  # qkv, projection, QK-norm
        layer = attention + 2 * hidden * width + width + hidden + 2 * hidden  # the last terms: MLP, norms
        labels = 0 if model.num_classes is None else model.num_classes + 1
        backbone = (model.in_channels + 1 + labels + 1) * hidden + model.num_layers * layer  # with its norm
        embedders = (hidden + 1 + model.in_channels + 1 + model.time_width + 1 + size + 1) * size
        head_layer = size + 5 * (size + 1) * size
        final = size + (size + 1) * (model.in_channels + 2 * size)
        return backbone + embedders + model.head_layers * head_layer + final

    @property
    def unusual(self) -> dict[str, str | int]:
        """Return the size of the head by name."""
        return {"head layers": self._model.head_layers, "head size": self._model.head_size}

    def network_tokens(self, layout: Layout, *, draws: int = 1, views: int | None = None) -> int:
        """Return the number of tokens that pass through the backbone, the start token included."""
        del draws, views  # noised tokens pass through the head alone
        check_token_blocks(layout)
        return layout.num_tokens

    def forward_flops(self, layout: Layout) -> int:
        """Return the FLOPs of a forward pass of one sample with all tokens noised."""
        check_token_blocks(layout)
        return self._backbone(0, layout.num_tokens) + layout.num_tokens * self._head

    def training_flops(
        self, layout: Layout, *, draws: int = 1, views: int | None = None, checkpointing: bool = False
    ) -> float:
        """Return the FLOPs of forward and backward of one sample."""
        check_token_blocks(layout)
        tokens = layout.num_tokens
        count = tokens if views is None else min(views, tokens)
        backbone = sum(
            comb(last, count - 1) * self._backbone(0, last + 1) for last in range(count - 1, tokens)
        ) / comb(tokens, count)  # the backbone runs up to the last of the tokens that are drawn
        head = count * draws * self._head
        return (4 if checkpointing else 3) * backbone + 3 * head  # the head is not run again

    def activation_bytes(
        self,
        layout: Layout,
        *,
        half: bool,
        draws: int = 1,
        views: int | None = None,
        checkpointing: bool = False,
    ) -> int:
        """Estimate the bytes of activations of one sample that are kept from the forward to the backward.

        As in `flops.activation_bytes`, the estimate adds up the tensors that a layer saves. A token keeps 10
        vectors and 2 of the MLP's width in a layer of the backbone: inputs and outputs of 2 norms, the
        projection's query, key and value, rotated query and key, attention output. A noised token keeps 9
        vectors in a layer of the head: input and output of the norm, 2 of the MLP, its output, 3 of adaLN,
        and their input. It keeps 8 more around these layers, and a sinusoid.
        """
        check_token_blocks(layout)
        model, tokens = self._model, layout.num_tokens
        noised = (tokens if views is None else min(views, tokens)) * draws
        value = 2 if half else 4
        hidden, width, size = (
            value * length for length in (model.hidden_size, model.mlp_width, model.head_size)
        )
        layer = tokens * (10 * hidden + 2 * width)
        layers = model.num_layers * layer
        if checkpointing:
            layers = model.num_layers * tokens * hidden + layer
        head = noised * ((9 * model.head_layers + 8) * size + value * model.time_width)
        ends = tokens * (2 * hidden + value * model.in_channels)
        return layers + head + ends + noised * (8 + 2 * value) * model.in_channels

    def sampling_flops(self, layout: Layout, steps: Sequence[int], *, guided: bool) -> int:
        """Return the FLOPs of generating one sample with a cache, with `steps` of each token.

        Guidance doubles all of them, because the state depends on the class.
        """
        check_token_blocks(layout)
        once = sum(self._backbone(token, 1) + count * self._head for token, count in enumerate(steps))
        return once * (2 if guided and self.network.num_classes is not None else 1)

    def cache_bytes(self, layout: Layout, bytes_per_value: int = 4, *, guided: bool = False) -> int:
        """Return the bytes of the keys and values of one sample, with those of both branches of guidance."""
        model = self._model
        branches = 2 if guided and model.num_classes is not None else 1
        return branches * 2 * model.num_layers * layout.num_tokens * model.hidden_size * bytes_per_value

    def _backbone(self, cached: int, count: int) -> int:
        """Return the FLOPs of the backbone for tokens after some in the cache, the start token included."""
        model = self._model
        hidden, width = model.hidden_size, model.mlp_width
        token = 2 * 4 * hidden * hidden + 2 * 2 * hidden * width
        pairs = sum(cached + index + 1 for index in range(count))  # of a query and a key
        embedded = count if cached else count - 1  # the start token is looked up in a table
        ends = embedded * 2 * model.in_channels * hidden + count * 2 * hidden * model.head_size
        return model.num_layers * (count * token + pairs * 2 * 2 * hidden) + ends

    @property
    def _head(self) -> int:
        """Return the FLOPs of the head for one noised token."""
        model, size = self._model, self._model.head_size
        time = 2 * size * (model.time_width + size)
        layer = 2 * 2 * size * size + 2 * 3 * size * size  # MLP and modulation
        final = 2 * 2 * size * size + 2 * size * model.in_channels
        return 2 * model.in_channels * size + time + model.head_layers * layer + final


def generator_counts(config: Mapping[str, Any]) -> GeneratorCounts:
    """Return the counts of a generator by the configuration of its network."""
    return TokenHeadCounts(config) if config.get("head_layers") is not None else GeneratorCounts(config)
