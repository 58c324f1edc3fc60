"""Loss on samples that training never uses, by block and by noise level."""

from math import isfinite
from typing import Any

import torch

from ..data.autoencoders import encode
from ..data.config import DataConfig
from ..data.data_sets import built_in
from ..data.dataset import PixelDataset
from ..data.identity import class_changes
from ..data.image_decoding import Unreadable
from ..data.opening import open_samples
from ..data.splits import held_out_config
from ..diffusion.objective import TRAIN_STEPS, Losses, SampleKey
from ..model.layout import Layout
from ..utils.errors import UserError, renamed_keys
from ..utils.names import NAMELESS, same_classes
from ..utils.progress_bar import ProgressBar
from ..utils.randomness import generator
from ..utils.ranks import ALONE, Ranks
from .config import Recipe
from .learner import Learner
from .objectives import build_objective

AT_ONCE = 16  # number of samples that are read and encoded at once
BINS = 10  # number of bins of the timesteps, all of the same width
EPOCH = -1  # epoch in the random keys; epochs of training start at 0


def check_validation(recipe: Recipe) -> str | None:
    """Describe the source of a recipe's validation samples; return None without validation.

    Raises:
        UserError: If the recipe names no samples, and the data source has no held-out part.
    """
    config = recipe.validation
    if not config.every:
        return None
    if _has_own_source(recipe):
        if recipe.data.validation_fraction:
            raise UserError(
                f"data.validation_fraction {recipe.data.validation_fraction:g} holds out samples that "
                "validation.source, validation.split or validation.listed leave unused: set it to 0"
            )
        return "named by the recipe"
    if recipe.data.source in built_in() and recipe.data.validation_fraction:
        return f"{recipe.data.validation_fraction:.3g} of the training part of {recipe.data.source}"
    if recipe.data.source in built_in():
        return f"the held-out part of {recipe.data.source}"
    if not recipe.data.validation_fraction:
        key = "data.validation_fraction"
        keys = "validation.source" if key in recipe.modality.unused_keys else f"{key} or validation.source"
        raise UserError(
            f"validation needs samples that training never sees, but {recipe.data.source} has no held-out "
            f"part: set {keys}, or set validation.every to 0"
        )
    return f"{recipe.data.validation_fraction:.3g} of the files of every class"


def _has_own_source(recipe: Recipe) -> bool:
    config = recipe.validation
    return any(named is not None for named in (config.source, config.split, config.listed))


class Validation:
    """Images, clips or texts of a recipe's validation, on which the loss of a network is measured.

    Attributes:
        skipped: Samples that could not be read and are left out, by name, with the reasons.

    Args:
        recipe: Recipe of the run.
        label_names: Names of the classes of the training data.
        vae: Autoencoder of the run, or None.
        ranks: Ranks of the run. Each reads all samples, and encodes them on its device.

    Raises:
        UserError: If there are no such samples, or they have other classes.
    """

    def __init__(self, recipe: Recipe, label_names: tuple[str, ...], vae: Any, ranks: Ranks = ALONE):
        config = recipe.validation
        data = held_out_config(recipe.data, config.source, config.split, config.listed)
        samples = _open(recipe, data)
        classes = same_classes(label_names, samples.label_names)
        if classes is None:
            raise UserError(
                f"validation.source must have the classes of data.source, {_summary(label_names)}, "
                f"not {_summary(samples.label_names)}; compared with the training data, "
                f"{', '.join(class_changes(label_names, samples.label_names))}"
            )
        order = torch.randperm(len(samples), generator=generator("validation"))[: config.images].tolist()
        self.data, labels, self.skipped = _read(samples, order, vae, ranks)
        if _has_own_source(recipe):  # otherwise the run itself names what the source's folder holds besides
            self.skipped |= samples.skipped
        # latents of an earlier version have the same classes in another order
        self.labels = torch.tensor(classes)[labels] if classes else labels
        self.seed, self.classifies = recipe.training.seed, bool(recipe.modality.objectives)
        self.recipe, self.samples = recipe, samples

    def measure(self, learner: Learner, layout: Layout, batch: int, ranks: Ranks) -> dict[str, Any]:
        """Measure the loss of the averaged weights, by block and by bin of timesteps.

        A loss that is not finite, and that of an empty bin, is None. For a classifier, loss and accuracy are
        measured by head, and the accuracy is that of the best one.

        The noise is the same at every call and for any number of ranks. Masks of texts are counted, however
        training draws them, unless the network takes timesteps. All ranks must call this method.

        Args:
            learner: Learner whose network is measured.
            layout: Layout of the blocks.
            batch: Number of samples per forward pass.
            ranks: Ranks that divide the samples among them.
        """
        sums = torch.zeros(3, 0, dtype=torch.float64)  # errors, fractions of correct ones, and their weights
        all_rows = range(len(self.data))
        stride = batch * ranks.world_size
        with learner.averaged(), torch.no_grad():
            for first in range(ranks.rank * batch, ranks.rank * batch + len(all_rows), stride):
                rows = all_rows[first : first + batch]
                # a rank without samples takes part too, since all ranks must gather sharded weights
                losses = self._losses(rows or range(1), learner, layout)
                views = len(losses.blocks)  # one of each block, or one of each head
                if not sums.numel():
                    sums = torch.zeros(3, views + BINS, dtype=torch.float64)
                if rows:
                    _add(sums, losses)
        ranks.total(sums)
        errors, correct = ((part / sums[2])[: len(sums[0]) - BINS] for part in sums[:2])
        total, number = (part[: len(part) - BINS].sum().item() for part in (sums[0], sums[2]))
        loss = total / number if isfinite(total) else None
        if self.classifies:
            return {
                "loss": loss,
                "accuracy": float(correct.max()),
                "loss_by_head": _finite(errors),
                "accuracy_by_head": _finite(correct),
            }
        by_timestep = (sums[0] / sums[2])[-BINS:]
        return {"loss": loss, "by_block": _finite(errors), "by_timestep": _finite(by_timestep)}

    def _losses(self, rows: range, learner: Learner, layout: Layout) -> Losses:
        """Return the losses of some samples."""
        chosen = slice(rows.start, rows.stop)
        labelled = self.classifies or learner.network.config["num_classes"]
        objective = build_objective(self.recipe, self.samples, learner.time_conditioning, plain=True)
        return objective.loss(
            learner.model,
            layout.to_blocks(learner.moved(self.data[chosen])),
            layout=layout,
            key=SampleKey(self.seed, [EPOCH] * len(rows), list(rows)),
            labels=self.labels[chosen].to(learner.ranks.device) if labelled else None,
        )


def _open(recipe: Recipe, data: DataConfig) -> PixelDataset:
    """Open the samples of a recipe's validation, of which a built-in data set has a part of its own.

    Raises:
        UserError: If they cannot be opened; the message names the keys that the recipe sets.
    """
    held_out = not _has_own_source(recipe) or data.source in built_in()
    given = [name for name in ("source", "split", "listed") if getattr(recipe.validation, name) is not None]
    with renamed_keys({f"data.{name}": f"validation.{name}" for name in given}):
        return open_samples(data, seed=recipe.training.seed, held_out=held_out)


def _add(sums: torch.Tensor, losses: Losses) -> None:
    """Add losses to a table of errors, fractions of correct ones and weights, (3, views + bins).

    The weights are the fractions of tokens that are not padding.
    """
    views = len(losses.blocks)
    columns = torch.tensor(losses.blocks).expand(len(losses.per_view), -1)
    bins = (losses.timesteps.cpu() * BINS / TRAIN_STEPS).long().clamp(0, BINS - 1) + views
    errors = losses.per_view.double().cpu()
    correct = torch.zeros_like(errors) if losses.correct is None else losses.correct.double().cpu()
    weights = torch.ones_like(errors) if losses.fractions is None else losses.fractions.double().cpu()
    for row, values in enumerate((weights * errors, weights * correct, weights)):
        sums[row].index_add_(0, torch.cat([columns.flatten(), bins.flatten()]), values.flatten().repeat(2))


def _finite(means: torch.Tensor) -> list[float | None]:
    """Return means as numbers, None for those that are not finite, such as 0 / 0 of an empty bin."""
    return [mean if isfinite(mean) else None for mean in means.tolist()]


def _read(
    samples: PixelDataset, order: list[int], vae: Any, ranks: Ranks
) -> tuple[torch.Tensor, torch.Tensor, dict[str, str]]:
    """Return some samples, their labels, and the names of those that cannot be read, with the reasons.

    With an autoencoder, the samples are latents, each drawn once; only `AT_ONCE` are in memory as pixels.

    Raises:
        UserError: If none can be read.
    """
    parts: list[tuple[torch.Tensor, ...]] = []  # the samples alone, or mean and deviation
    labels: list[int] = []
    skipped: dict[str, str] = {}
    if vae is not None:
        vae.to(ranks.device)
    firsts = range(0, len(order), AT_ONCE)
    for first in ProgressBar(firsts, "reading validation", delay=3, leave=False, disable=not ranks.main):
        read = []
        for index in order[first : first + AT_ONCE]:
            try:
                read.append(samples.prepared(index))
                labels.append(int(samples.labels[index]))
            except Unreadable as fault:  # another sample in its place would be counted twice
                skipped[samples.name(index)] = str(fault)
        if read and vae is None:
            parts.append((torch.stack(read),))
        elif read:
            parts.append(tuple(part.cpu() for part in encode(vae, torch.stack(read).to(ranks.device))))
    if vae is not None:
        vae.to("cpu")  # where it waits for samples to decode
    if not parts:
        name, reason = next(iter(skipped.items()))
        raise UserError(f"none of the {len(order)} samples for validation can be read; {name}: {reason}")
    data = torch.cat([part[0] for part in parts])
    if vae is not None:
        deviation = torch.cat([part[1] for part in parts])
        data += deviation * torch.randn(data.shape, generator=generator("validation", "latent"))
    return data, torch.tensor(labels), skipped


def _summary(names: tuple[str, ...]) -> str:
    if names in ((), NAMELESS):
        return "none"
    return f"{len(names)} from {names[0]} to {names[-1]}"
