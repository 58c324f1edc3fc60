"""Counts of FLOPs, bytes and parameters of classifiers and probes, from layout and configuration alone."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .flops import Dimensions, final_parameters, parameters
from .layout import Layout


@dataclass(frozen=True)
class ClassifierDimensions:
    """Dimensions of a classifier, as the counts need them.

    Attributes:
        backbone: Dimensions of the layers, without classes.
        classes: Number of classes.
        poolings: Pooling of every head.
        queries: Number of queries of attention pooling.
        bidirectional: Whether all clean blocks see each other.
        null_label: Whether there is a null label.
        frozen: Whether the heads alone are trained.
    """

    backbone: Dimensions
    classes: int
    poolings: tuple[str, ...]
    queries: int
    bidirectional: bool
    null_label: bool
    frozen: bool

    @classmethod
    def of(cls, config: Mapping[str, Any], *, frozen: bool) -> "ClassifierDimensions":
        """Create the dimensions from the config of an `ACDiTForImageClassification`."""
        layers = config["layers"] or [config["num_layers"]]
        timed = config["timestep"] is not None
        used = {"num_layers": max(layers), "num_classes": None, "time_conditioning": timed}
        pooling = config["pooling"]
        return cls(
            Dimensions.of({**config, **used}),
            config["num_labels"],
            (pooling,) * len(layers) if isinstance(pooling, str) else tuple(pooling),
            config["queries"],
            config["attention"] == "bidirectional",
            config["null_label"],
            frozen,
        )

    @property
    def shown(self) -> Dimensions:
        """Return the dimensions of the layers with the number of classes."""
        return replace(self.backbone, num_classes=self.classes)


def head_parameters(model: ClassifierDimensions) -> int:
    """Return the number of parameters of all heads."""
    hidden, attending = model.backbone.hidden_size, model.poolings.count("attention")
    each = hidden + (hidden + 1) * model.classes  # norm and linear layer
    return len(model.poolings) * each + attending * hidden * (hidden + model.queries)


def classifier_parameters(model: ClassifierDimensions) -> int:
    """Return the number of parameters of the network with its heads."""
    backbone = parameters(model.backbone) - final_parameters(model.backbone)
    return backbone + model.null_label * model.backbone.hidden_size + head_parameters(model)


def classifier_forward_flops(model: ClassifierDimensions, layout: Layout) -> int:
    """Return the FLOPs of one forward pass of one sample; a multiply-add counts as two."""
    return _backbone_flops(model, layout) + _embedding_flops(model, layout) + _head_flops(model, layout)


def classifier_training_flops(
    model: ClassifierDimensions, layout: Layout, *, checkpointing: bool = False
) -> int:
    """Return the FLOPs of a forward and a backward pass of one sample.

    The backward pass counts as two forward passes of what is trained, without the gradients of the input
    that nobody needs, and gradient checkpointing as one more forward of the layers. A frozen backbone has no
    backward pass.

    Args:
        model: Dimensions of the network.
        layout: Layout of the sample.
        checkpointing: Whether activations are recomputed.
    """
    forward, heads = classifier_forward_flops(model, layout), 2 * _head_flops(model, layout)
    if model.frozen:
        return forward + heads
    layers = _backbone_flops(model, layout)
    return forward + heads + (3 if checkpointing else 2) * layers + _embedding_flops(model, layout)


def classifier_activation_bytes(
    model: ClassifierDimensions, layout: Layout, *, half: bool, checkpointing: bool = False
) -> int:
    """Estimate the bytes per sample that autograd keeps from the forward to the backward pass.

    The tensors of a layer are those that `activation_bytes` counts for a token without joined keys; a head
    keeps the hidden states and their normalised values, and those that attention pooling projects. Gradient
    checkpointing keeps the inputs of every layer and all tensors of one layer. A frozen backbone keeps
    nothing but what its heads need.
    """
    sizes, value = model.backbone, 2 if half else 4
    hidden, width = layout.num_tokens * sizes.hidden_size * value, layout.num_tokens * sizes.mlp_width * value
    attending = model.poolings.count("attention")
    heads = 2 * len(model.poolings) * hidden + attending * hidden
    if model.frozen:
        return heads
    layer = 12 * hidden + 2 * width + (7 * sizes.hidden_size * value if sizes.conditioned else 0)
    inputs = layout.num_tokens * sizes.in_channels * value
    if checkpointing:
        return sizes.num_layers * hidden + layer + inputs + heads
    return sizes.num_layers * layer + inputs + heads


def _backbone_flops(model: ClassifierDimensions, layout: Layout) -> int:
    """Return the FLOPs of the products whose inputs and weights both get gradients, except those of heads."""
    sizes, tokens, blocks = model.backbone, layout.num_tokens, layout.num_blocks
    hidden, width = sizes.hidden_size, sizes.mlp_width
    seen = blocks * blocks if model.bidirectional else blocks * (blocks + 1) // 2
    pairs = seen * layout.block_tokens**2
    layer = tokens * (8 * hidden * hidden + 4 * hidden * width) + 4 * hidden * pairs
    if sizes.time_conditioning:
        layer += 2 * hidden * 6 * hidden
    return sizes.num_layers * layer + (2 * hidden * hidden if sizes.time_conditioning else 0)


def _embedding_flops(model: ClassifierDimensions, layout: Layout) -> int:
    """Return the FLOPs of the products whose inputs are data and need no gradients."""
    sizes = model.backbone
    timed = 2 * sizes.time_width * sizes.hidden_size if sizes.time_conditioning else 0
    return 2 * layout.num_tokens * sizes.in_channels * sizes.hidden_size + timed


def _head_flops(model: ClassifierDimensions, layout: Layout) -> int:
    hidden = model.backbone.hidden_size
    pooled = 2 * layout.num_tokens * hidden * (hidden + model.queries)  # values and scores
    return len(model.poolings) * 2 * hidden * model.classes + model.poolings.count("attention") * pooled
