"""ACDiTForImageClassification: the network of a generator with heads that recognise classes (section 5.1)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.utils.outputs import BaseOutput
from torch import Tensor, nn

from ..utils.errors import UserError
from .classification_head import ClassificationHead, Pooling
from .kv_cache import KVCache
from .layout import Layout
from .rope import Positions
from .stored_network import StoredNetwork
from .transformer import ACDiTTransformer

Attention = Literal["block-causal", "bidirectional"]
ATTENTIONS = ("block-causal", "bidirectional")
TIMESTEPS = 1000  # of the noise processes; the first one is 0
BACKBONE = (  # keys of the configuration that the backbone shares with the generator
    "in_channels",
    "axis_lengths",
    "num_layers",
    "hidden_size",
    "num_heads",
    "mlp_ratio",
    "rope",
    "rope_split",
    "positions",
    "format_version",
    "prediction_type",
)


@dataclass
class ACDiTClassifierOutput(BaseOutput):
    """Output of the classifier.

    Attributes:
        logits: Logits of every head, (N, heads, classes).
        hidden_states: States of the requested layers, each (N, T, B, hidden); None if none were requested.
    """

    logits: Tensor
    hidden_states: tuple[Tensor, ...] | None = None


class ACDiTForImageClassification(StoredNetwork):
    """Network of a generator, whose hidden states are mapped to classes by one or several heads.

    By default the input is the clean stream of the generator, without noise, timestep and label, so that
    there is no adaLN. With a `timestep`, the input is noised to this level and passes through the network as
    one view, as in the protocol for DiT.

    Args:
        num_labels: Number of classes.
        in_channels: Number of channels of a token, patch elements included.
        axis_lengths: See `ACDiTTransformer`, as the other arguments of its name.
        num_layers: Number of layers.
        hidden_size: Hidden size.
        num_heads: Number of attention heads.
        mlp_ratio: Width of the MLP divided by the hidden size.
        rope: Rotary variant.
        rope_split: Number of dimensions of a head per axis.
        layers: Layer of each head: 0 for the embedded tokens, k for the output of layer k; None = one head at
            the last layer.
        pooling: Pooling of the heads, one for all or one for each.
        queries: Number of queries of attention pooling.
        attention: `block-causal`, as the generator was trained, or `bidirectional`; for the clean stream.
        timestep: Timestep of the noised input, from 0 to below 1000; None = the clean stream.
        null_label: Whether the generator had a class table, of which the null label is kept; with `timestep`.
        prediction_type: What the generator predicts, which tells how input is noised, see `ACDiTTransformer`.
        format_version: Version of the model's format; this acdit reads version 1.
        positions: How tokens get their positions, see `ACDiTTransformer`.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["ACDiTBlock"]
    _repeated_blocks = ["ACDiTBlock"]
    _skip_layerwise_casting_patterns = ["norm", "_embedder", "adaLN_modulation", "heads"]

    @register_to_config
    def __init__(
        self,
        num_labels: int,
        in_channels: int,
        axis_lengths: Sequence[int] = (32, 32),
        num_layers: int = 12,
        hidden_size: int = 768,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        rope: Literal["eq4", "published"] = "eq4",
        rope_split: Sequence[int] | None = None,
        layers: Sequence[int] | None = None,
        pooling: Pooling | Sequence[Pooling] = "mean",
        queries: int = 1,
        attention: Attention = "block-causal",
        timestep: float | None = None,
        null_label: bool = False,
        prediction_type: str | None = None,
        format_version: int = 1,
        positions: Positions = "rope_nd",
    ):
        super().__init__()
        if num_labels < 1:
            raise ValueError(f"num_labels must be at least 1, not {num_labels}")
        if attention not in ATTENTIONS:
            raise ValueError(f"attention must be one of {', '.join(ATTENTIONS)}, not {attention!r}")
        if timestep is not None and not 0 <= timestep < TIMESTEPS:
            raise ValueError(f"timestep must lie from 0 to below {TIMESTEPS}, not {timestep}")
        if timestep is None and null_label:
            raise ValueError("null_label is for noised input: give a timestep too")
        if timestep is not None and attention != "block-causal":
            raise ValueError("noised input is one block: leave out attention")
        self.layers = (num_layers,) if layers is None else tuple(layers)
        poolings = (pooling,) * len(self.layers) if isinstance(pooling, str) else tuple(pooling)
        if len(poolings) != len(self.layers):
            raise ValueError(f"pooling must have one value, or one for each of {len(self.layers)} heads")
        if not self.layers:
            raise ValueError("layers must name at least one layer")
        for layer in self.layers:
            if not 0 <= layer <= num_layers:
                raise ValueError(f"layers must lie in 0..{num_layers} (0 = the embedded tokens), not {layer}")
        self.transformer = ACDiTTransformer(
            in_channels=in_channels,
            axis_lengths=axis_lengths,
            num_layers=max(self.layers),  # later layers would not be used
            hidden_size=hidden_size,
            num_heads=num_heads,
            mlp_ratio=mlp_ratio,
            num_classes=0 if null_label else None,
            time_conditioning=timestep is not None,
            rope=rope,
            rope_split=rope_split,
            positions=positions,
            format_version=format_version,
        )
        self.transformer.final_layer = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
        self.heads = nn.ModuleList(
            ClassificationHead(hidden_size, num_labels, each, queries) for each in poolings
        )

    @classmethod
    def from_generator(
        cls,
        generator: ACDiTTransformer,
        num_labels: int,
        *,
        layers: Sequence[int] | None = None,
        pooling: Pooling | Sequence[Pooling] = "mean",
        queries: int = 1,
        attention: Attention = "block-causal",
        timestep: float | None = None,
    ) -> Self:
        """Create a classifier with the weights of a generator, and new heads.

        Args:
            generator: Network of images, see `ACDiTTransformer`.
            num_labels: Number of classes.
            layers: Layer of each head, see the class, as the arguments below.
            pooling: Pooling of the heads, one for all or one for each.
            queries: Number of queries of attention pooling.
            attention: Attention of the clean stream.
            timestep: Timestep of the noised input; None = the clean stream.

        Raises:
            UserError: If the generator is not one of images, or does not take the timestep.
        """
        if not isinstance(generator, ACDiTTransformer):
            raise UserError(f"a classifier needs an ACDiTTransformer, not a {type(generator).__name__}")
        config, axes = generator.config, len(generator.config["axis_lengths"])
        if config["in_channels"] is None or axes != 2:
            kind = "text" if config["in_channels"] is None else "video"
            raise UserError(f"a classifier needs a generator of images, not one of {kind}")
        if config["context"] != "clean":
            raise UserError(
                "a classifier needs a generator that has learned from clean blocks, not noised ones"
            )
        noised = timestep is not None
        if noised and not config["time_conditioning"]:
            raise UserError("noised input needs a generator with time conditioning: leave out timestep")
        network = cls(
            num_labels=num_labels,
            **{key: config[key] for key in BACKBONE},
            layers=layers,
            pooling=pooling,
            queries=queries,
            attention=attention,
            timestep=timestep,
            null_label=noised and config["num_classes"] is not None,
        )
        network.load_backbone(generator.state_dict())
        return network

    def load_backbone(self, weights: Mapping[str, Tensor]) -> None:
        """Load the weights of a generator; those without use here are left out.

        Args:
            weights: State of an `ACDiTTransformer` of the same dimensions.

        Raises:
            UserError: If weights are missing, as those of a generator with adapters.
        """
        own, table = self.transformer.state_dict(), "y_embedder.embedding_table.weight"
        missing = [name for name in own if name not in weights]
        if missing:
            raise UserError(
                f"the generator has no weights {missing[0]}: fuse its adapters and unload them before"
            )
        chosen = {name: weights[name] for name in own if name != table}
        if table in own:
            chosen[table] = weights[table][-1:]  # the null label
        self.transformer.load_state_dict(chosen)

    def load_lora_adapter(self, *args: Any, prefix: str | None = None, **kwargs: Any) -> None:
        """Load an adapter of this network, or one of a generator, whose names begin with `transformer.`."""
        super().load_lora_adapter(*args, prefix=prefix, **kwargs)

    def set_attention_backend(self, backend: str | None) -> None:
        """Set the attention backend of the backbone, see `ACDiTTransformer`."""
        self.transformer.set_attention_backend(backend)

    def compile_repeated_blocks(self, *args: Any, **kwargs: Any) -> None:
        """Compile the layers of the backbone, see `ACDiTTransformer`."""
        self.transformer.compile_repeated_blocks(*args, **kwargs)

    @property
    def blocks(self) -> nn.ModuleList:
        """Return the layers of the backbone."""
        return self.transformer.blocks

    def forward(
        self,
        data: Tensor,
        *,
        layout: Layout,
        timestep: float | None = None,
        branch_scale: Tensor | None = None,
        return_layers: Sequence[int] | None = None,
        return_dict: bool = True,
    ) -> ACDiTClassifierOutput | tuple[Tensor, tuple[Tensor, ...] | None]:
        """Compute the logits of images.

        Args:
            data: Blocks (N, T, B, C): clean ones, or with a `timestep` one noised block, see `noised_input`.
            layout: Layout of the blocks.
            timestep: Timestep of noised input; None = that of the network's configuration.
            branch_scale: Factors of the branches of every layer, see `ACDiTTransformer`.
            return_layers: Layers whose hidden states are returned too.
            return_dict: Whether to return an `ACDiTClassifierOutput` or a tuple of its values.

        Raises:
            ValueError: If the blocks do not fit the layout, or a layer does not exist.
        """
        if data.shape[1] != layout.num_blocks:
            raise ValueError(f"data must have {layout.num_blocks} blocks, not {data.shape[1]}")
        requested = sorted({*self.layers, *(return_layers or ())})
        features = self.features(
            data, layout=layout, layers=requested, timestep=timestep, branch_scale=branch_scale
        )
        states = dict(zip(requested, features, strict=True))
        logits = torch.stack(
            [head(states[layer]) for head, layer in zip(self.heads, self.layers, strict=True)], 1
        )
        kept = None if return_layers is None else tuple(states[layer] for layer in return_layers)
        return ACDiTClassifierOutput(logits, kept) if return_dict else (logits, kept)

    def features(
        self,
        data: Tensor,
        *,
        layout: Layout,
        layers: Sequence[int],
        timestep: float | None = None,
        branch_scale: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> tuple[Tensor, ...]:
        """Return the hidden states of layers, each (N, T, B, hidden).

        Args:
            data: Blocks (N, T, B, C), see `forward`; with a cache, those that follow its blocks.
            layout: Layout of the blocks.
            layers: Layers, 0 for the embedded tokens and k for the output of layer k.
            timestep: Timestep of noised input; None = that of the network's configuration.
            branch_scale: Factors of the branches of every layer, see `ACDiTTransformer`.
            cache: Keys and values of earlier clean blocks; for block-causal attention.

        Raises:
            ValueError: If the blocks do not fit the layout, or a layer does not exist.
        """
        own = self.config["timestep"]
        if own is None and timestep is not None:
            raise ValueError("the network reads clean images: leave out timestep")
        timestep = own if timestep is None else timestep
        if timestep is None:
            clean, noised, times = data, None, None
        else:
            if layout.num_blocks != 1:
                raise ValueError(f"noised input is one block, but {layout} has {layout.num_blocks}")
            clean, noised = None, data
            times = torch.full(data.shape[:2], timestep, device=data.device)
        output = self.transformer(
            noised,
            times,
            layout=layout,
            clean=clean,
            cache=cache,
            bidirectional=self.config["attention"] == "bidirectional",
            branch_scale=branch_scale,
            return_hidden_states=tuple(layers),
        )
        return output.hidden_states


for _public in (ACDiTForImageClassification, ACDiTClassifierOutput):
    _public.__module__ = "acdit"  # saved files refer to this module, so that the code can be moved
