"""Objective and input of classifiers: clean blocks, or noised ones as in the protocol for DiT."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ..model.classifier import ACDiTForImageClassification
from ..model.layout import Layout
from ..utils.errors import UserError
from ..utils.randomness import generator
from .continuous import DiffusionObjective
from .objective import Losses, SampleKey
from .schedulers import PREDICTIONS


def noise_process(network: ACDiTForImageClassification) -> DiffusionObjective | None:
    """Return the noise process of a classifier's input, which is that of its generator; None for clean input.

    Raises:
        UserError: if it is not recorded how the generator noised its blocks.
    """
    if network.config["timestep"] is None:
        return None
    prediction = network.config["prediction_type"]
    if prediction not in PREDICTIONS:
        raise UserError(
            f"noised input needs the prediction_type of the generator, one of {', '.join(PREDICTIONS)}, not "
            f"{prediction}"
        )
    return DiffusionObjective(PREDICTIONS[prediction])


def noised_input(
    network: ACDiTForImageClassification,
    blocks: Tensor,
    noise: Tensor | None = None,
    timestep: float | None = None,
) -> Tensor:
    """Return the input of a classifier: the clean blocks, or blocks noised to its timestep.

    Args:
        network: the classifier.
        blocks: clean blocks (N, T, B, C).
        noise: noise (N, T, B, C); None = the same for every image, so that results can be repeated.
        timestep: timestep of noised input; None = that of the network.

    Raises:
        UserError: if it is not recorded how the generator noised its blocks.
    """
    process = noise_process(network)
    if process is None:
        return blocks
    if noise is None:
        noise = torch.randn(blocks.shape[1:], generator=generator("classifier noise")).expand(blocks.shape)
    # in half precision, the process would round low noise levels to none
    wide = torch.promote_types(blocks.dtype, torch.float32)
    time = network.config["timestep"] if timestep is None else timestep
    times = torch.full(blocks.shape[:2], time, device=blocks.device)
    noised, _ = process.corrupt(blocks.to(wide), noise.to(blocks.device, wide), times)
    return noised.to(blocks.dtype)


class ClassificationObjective:
    """Objective that computes the cross-entropy of every head, with soft labels and stochastic depth.

    With noised input, the noise of an image is drawn anew in every epoch.

    Args:
        label_smoothing: Probability that is spread evenly over all classes (arXiv 1512.00567).
        drop_path: Probability that a branch of the last layer is dropped for a sample; it rises linearly from
            0 in the first layer (arXiv 1603.09382). What is kept is scaled, so that the mean is unchanged.
    """

    def __init__(self, label_smoothing: float = 0.0, drop_path: float = 0.0):
        self.label_smoothing, self.drop_path = label_smoothing, drop_path

    def loss(
        self,
        model: Callable[..., Any],
        data: Tensor,
        *,
        layout: Layout,
        key: SampleKey,
        labels: Tensor | None = None,
        null_label: int | None = None,
        blocks: Sequence[int] | None = None,
        draws: Sequence[int] = (0,),
    ) -> Losses:
        """Compute the cross-entropy of every head on a batch.

        Args:
            model: An `ACDiTForImageClassification`, possibly wrapped for several ranks.
            data: Clean blocks (N, T, B, C).
            layout: Layout of the blocks.
            key: Key of the random draws.
            labels: Labels (N,), or probabilities of the classes (N, classes).
            null_label: Not used, since no label is dropped.
            blocks: Not used, since all blocks are read.
            draws: Not used, since there is one draw.

        Returns:
            Losses (N, heads), where the heads stand in place of views.
        """
        del null_label, blocks, draws
        if labels is None:
            raise ValueError("classification needs labels")
        wrapped = getattr(model, "module", model)  # of DistributedDataParallel
        network = cast(ACDiTForImageClassification, wrapped)
        timestep, noise = network.config["timestep"], None
        if timestep is not None:
            noise = torch.empty(data.shape)
            for row, (epoch, index) in enumerate(zip(key.epochs, key.indices, strict=True)):
                noise[row].normal_(generator=generator(key.seed, "classifier noise", epoch, index))
        logits = model(
            noised_input(network, data, noise),
            layout=layout,
            branch_scale=self._branch_scale(len(network.blocks), key, data),
        ).logits  # (N, heads, classes)
        classes, heads = logits.shape[2], logits.shape[1]
        targets = labels if labels.ndim == 2 else one_hot(labels, classes)
        targets = targets.to(logits.dtype if logits.dtype == torch.float64 else torch.float32)
        smoothed = (1 - self.label_smoothing) * targets + self.label_smoothing / classes
        errors = -(smoothed[:, None] * logits.to(targets.dtype).log_softmax(-1)).sum(-1)  # (N, heads)
        return Losses(
            errors,
            torch.full_like(errors, timestep or 0.0),
            tuple(range(heads)),
            # the loss is the sum over heads, so that each is trained as if it were alone
            weights=torch.full_like(errors, heads) if heads > 1 else None,
            correct=targets.gather(1, logits.argmax(-1)),
        )

    def _branch_scale(self, layers: int, key: SampleKey, data: Tensor) -> Tensor | None:
        """Draw the factors of both branches of every layer, (N, layers, 2); None = all are kept."""
        if self.drop_path == 0:
            return None
        kept = 1 - torch.linspace(self.drop_path, 0, layers).flip(0)  # a single layer is the last one
        scales = torch.empty(len(key.indices), layers, 2)
        for row, (epoch, index) in enumerate(zip(key.epochs, key.indices, strict=True)):
            drawn = torch.rand(layers, 2, generator=generator(key.seed, "drop path", epoch, index))
            scales[row] = (drawn < kept[:, None]) / kept[:, None]
        return scales.to(data.device, data.dtype)
