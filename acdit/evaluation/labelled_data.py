"""Data with classes on which a model is evaluated: the held-out part of what it was trained on, or others."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..data.data_sets import PIXEL_SETS
from ..data.dataset import PixelDataset
from ..data.identity import class_changes, named_classes
from ..model.layout import dims
from ..pipelines.classification import ACDiTImageClassificationPipeline
from ..pipelines.input_images import square_pixels
from ..pipelines.pixel_pipeline import ACDiTPipeline
from ..utils.errors import UserError
from ..utils.names import NAMELESS, same_classes
from ..utils.progress_bar import ProgressBar
from ..utils.ranks import ALONE, Ranks
from .data_samples import DataSamples
from .real_sets import Geometry, check_data_modality, geometry_of, parts_of
from .training_data import built_in_data, describe_training_data, recorded_data

Classified = ACDiTPipeline | ACDiTImageClassificationPipeline
"""Pipelines that classify images or clips."""


@dataclass(frozen=True)
class LabelledData:
    """Samples with classes of a model.

    Attributes:
        samples: the samples.
        labels: class of each sample among those of the model, (N,).
        geometry: shape that images are resized to.
        notes: lines for the user on where the samples come from.
    """

    samples: DataSamples
    labels: Tensor
    geometry: Geometry
    notes: tuple[str, ...] = ()

    def spread(self, count: int | None) -> "LabelledData":
        """Return `count` samples at even steps, so that data sorted by class keep their proportions.

        Raises:
            UserError: if there are fewer.
        """
        if count is None:
            return self
        samples = self.samples.spread(count)
        rows = [number * len(self.samples) // count for number in range(count)]
        return replace(self, samples=samples, labels=self.labels[rows])

    def batches(
        self, size: int, ranks: Ranks = ALONE, description: str = ""
    ) -> Iterator[tuple[list[int], Tensor]]:
        """Yield the batches of this rank with a progress bar: rows, and pixels (n, C, [F,] H, W) in [-1, 1].

        Samples that cannot be read are left out and named in `samples.unreadable`.

        Args:
            size: number of samples in a batch.
            ranks: processes that share the samples.
            description: text of the progress bar.
        """
        batches = self.samples.batches(size, ranks.rank, ranks.world_size)
        total = len(range(ranks.rank * size, len(self.samples), ranks.world_size * size))
        for rows, pixels in ProgressBar(
            batches, description, total, unit="batch", delay=3, leave=False, disable=not ranks.main
        ):
            yield list(rows), self._fitted(pixels)

    def finish(self, read: Tensor, ranks: Ranks) -> Tensor:
        """Return which samples any rank has read, (N,), and exchange the names of the others.

        Args:
            read: samples that this rank has read, (N,), 0 or 1.
            ranks: processes that share the samples.

        Raises:
            UserError: on all ranks, if no sample could be read.
        """
        for unreadable in ranks.gathered(self.samples.unreadable):
            self.samples.unreadable.update(unreadable)
        kept = ranks.largest(read) > 0
        if not kept.any():
            name, reason = next(iter(self.samples.unreadable.items()))
            raise UserError(f"{self.samples.name} holds no readable sample; first problem: {name}: {reason}")
        return kept

    def _fitted(self, pixels: Tensor) -> Tensor:
        """Return pixels in the geometry: built-in images of another size are resized, grey is repeated."""
        if pixels.shape[1] == 1 and self.geometry.channels == 3:
            pixels = pixels.expand(-1, 3, *pixels.shape[2:])
        if self.geometry.frames is None and pixels.shape[-1] != self.geometry.size:
            pixels = square_pixels((pixels + 1) / 2, "images", self.geometry.size, self.geometry.channels)
        return pixels


def open_labelled(
    pipeline: Classified,
    model: str | None,
    source: str | None,
    split: str | None = None,
    stride: int | None = None,
) -> LabelledData:
    """Open the held-out part of a source, cropped and resized as for training.

    Args:
        pipeline: pipeline of the model.
        model: name of the model, which may be the folder of a training run.
        source: data source; None = the data that the model was trained on.
        split: part of the source; None = the held-out part, or all if there is none.
        stride: distance between the frames of a clip, in frames of the video, see `Geometry`.

    Raises:
        UserError: if the data are not known, cannot be opened, are of another modality, or have other
            classes than the model.
    """
    recorded = recorded_data(model)
    known = built_in_data(pipeline) if recorded is None else recorded.source
    source = known if source is None else source
    if source is None:
        raise UserError(
            "without --data, only models of built-in data sets can be evaluated, and training runs whose "
            f"data are still there, but {describe_training_data(pipeline)}: give labelled data with --data"
        )
    geometry = opened = geometry_of(pipeline, stride)
    check_data_modality(source, geometry)
    notes: list[str] = []
    if source in PIXEL_SETS and geometry.frames is None and PIXEL_SETS[source].side != geometry.size:
        opened = replace(geometry, size=PIXEL_SETS[source].side)
        sizes = (dims((side, side)) for side in (opened.size, geometry.size))
        notes.append("the images of {} are resized from {} to {}".format(source, *sizes))
    training, samples = parts_of(source, opened, split, recorded)
    if training is None and split is None and source == known:
        notes.append(f"{source} has no held-out part: the model may have been trained on these samples")
    return labelled(pipeline, samples, geometry, notes)


def labelled(
    pipeline: Classified, samples: DataSamples, geometry: Geometry, notes: Sequence[str] = ()
) -> LabelledData:
    """Return samples with the classes of a model.

    Raises:
        UserError: if the samples have no classes, or others than the model.
    """
    names = samples.label_names
    classes = matched_classes(pipeline.class_names, names, samples.name)
    assert samples.labels is not None  # there are names
    return LabelledData(samples, classes[samples.labels], geometry, tuple(notes))


def labelled_items(pipeline: Classified, data: PixelDataset) -> LabelledData:
    """Return the items of a data set with the classes of a model.

    Raises:
        UserError: if they have no classes, or others than the model, or another shape.
    """
    geometry, samples = geometry_of(pipeline), DataSamples(data, data.source or "the data")
    frames = () if geometry.frames is None else (geometry.frames,)
    needed = (geometry.channels, *frames, geometry.size, geometry.size)
    if samples.shape != needed:
        raise UserError(f"{samples.name} must be {dims(needed)}, not {dims(samples.shape)}")
    return labelled(pipeline, samples, geometry)


def matched_classes(names: Sequence[str | None], data_names: Sequence[str], source: str) -> Tensor:
    """Return the class of a model for each class of the data, by name, (K,).

    Args:
        names: names of the model's classes; None where they are not recorded.
        data_names: names of the data's classes.
        source: name of the data in messages.

    Raises:
        UserError: if the data have no classes, or others than the model.
    """
    if tuple(data_names) in ((), NAMELESS):
        raise UserError(f"{source} has no classes: give data with classes, such as one sub-folder per class")
    if all(name is None for name in names):  # not recorded
        if len(names) == len(data_names):
            return torch.arange(len(names))
        raise UserError(
            f"{source} has {len(data_names)} classes, but the model has {len(names)}, whose names are not "
            "recorded"
        )
    known = [name or "" for name in names]
    matches = same_classes(known, data_names)
    if matches is None:
        differences = ", ".join(class_changes(names, data_names))
        raise UserError(
            f"the classes of {source}, {named_classes(data_names)}, are not those of the model, "
            f"{named_classes(known)}; compared with the model, {differences}"
        )
    return torch.tensor(matches)
