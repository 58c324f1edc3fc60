"""Options of commands that run a model, with or without guidance. Does not import torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ..model.layout import parse_dims
from ..pipelines.folders import folder_classes, pipeline_folder
from ..utils.errors import UserError
from ..utils.names import class_ids
from ..utils.ranges import Count, NonNegative, Number, Ranged, SamplingSteps, Seed
from ..utils.settings import spelled


@dataclass
class ModelOptions(Ranged):
    """Options of every command that runs a model."""

    section: ClassVar[str] = "--"
    suffixes: ClassVar[tuple[str, ...]] = ()
    """Suffixes that --out may have, if they depend on the modality of the model."""
    sample_suffixes: ClassVar[tuple[str, ...]] = ()
    """Suffixes of files of finished samples that are of this modality alone."""
    claims: ClassVar[tuple[str, ...]] = ()
    """Options, KEY or KEY=VALUE, by which this modality is chosen if no model is named and others are as
    likely."""
    example: ClassVar[str] = ""
    """Command lines that the help shows as an example."""

    model: str | None = None
    """Pipeline directory, training run, or a model in the package (mnist, moving-digits, shakespeare or
    mnist-classifier); default: mnist, or the model for video or text if the options are for video or text."""
    device: str | None = None
    """Device, such as cpu or cuda; default: a GPU if there is one."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the network."""
    batch: Count = 64
    """Number of samples at once."""

    @classmethod
    def needs_model(cls, values: Mapping[str, Any]) -> bool:
        """Return whether options, as typed, are for a model, by default one of the package."""
        del values
        return True


@dataclass
class RunOptions(ModelOptions):
    """Options of commands that sample with a model."""

    seed: Seed = 0
    """Seed of the noise."""
    steps: SamplingSteps | list[SamplingSteps] | None = None
    """Sampling steps per block, one number or one for each block; default: the model's own."""


@dataclass
class GuidedOptions(RunOptions):
    """Options of commands that run a model of images or of video."""

    guidance: Number | None = None
    """Scale of classifier-free guidance, 1 = none; default: the model's own."""
    guidance_interval: tuple[NonNegative, NonNegative] | None = None
    """Lowest and highest noise level (sigma) at which guidance applies; default: all."""
    fast: bool = False
    """Use 8 steps per block, guided only at the middle noise levels, in place of --steps and
    --guidance-interval: a quarter of the cost of 25 guided steps."""
    vae_slicing: bool = False
    """Decode images one by one with the autoencoder, to save memory."""
    vae_tiling: bool = False
    """Decode large images tile by tile with the autoencoder, to save memory."""

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.guidance_interval or (0, 1)
        if not low < high:
            raise UserError(f"--guidance-interval must be LOW,HIGH with 0 <= LOW < HIGH, not {low},{high}")
        if self.guidance == 1 and self.guidance_interval is not None:
            raise UserError("--guidance-interval has no effect with --guidance 1: leave it out")
        if self.fast and (self.steps is not None or self.guidance_interval is not None):
            raise UserError("--fast sets --steps and --guidance-interval: do not combine it with them")


def check_rising(guidance: float | None, rising: bool) -> None:
    """Raise UserError if guidance is to rise from 1 to 1."""
    if rising and guidance == 1:
        raise UserError("--guidance-rising has no effect with --guidance 1, which means none: leave it out")


def is_finished(samples: object) -> bool:
    """Return whether the value of --samples, as typed, names finished samples and is not a number."""
    return samples not in (None, "", "null") and not str(samples).lstrip("-").isdecimal()


def block_of(block: str | None) -> tuple[int, ...] | None:
    """Parse a block size, such as 4x4, to a tuple; return None if none is given."""
    return None if block is None else parse_dims(block, "--block")


def check_labels(labels: list[str] | None, name: str = "--labels") -> None:
    """Raise UserError for an empty list of labels, the value of the named option."""
    if labels == []:
        raise UserError(f"{name} must name at least one class, such as 0,1,2")


def check_no_class(no_class: bool, **others: object) -> None:
    """Raise UserError if --no-class is combined with one of the named options, whose values are not None."""
    given = [f"--{spelled(name)}" for name, value in others.items() if value is not None]
    if no_class and given:
        raise UserError(f"--no-class generates without a class: leave it out, or {' and '.join(given)}")


def labels_of(labels: list[str] | None, no_class: bool) -> Sequence[str | None] | None:
    """Return the classes that --labels and --no-class ask for; None = the default, [None] = no class."""
    return [None] if no_class else labels


def check_classes(model: str | None, labels: Sequence[str | None] | None, name: str = "--labels") -> None:
    """Raise UserError if the model in a folder does not know a class, before anything is loaded.

    Args:
        model: path or name of the model.
        labels: value of the named option; None among them = no class.
        name: name of the option.
    """
    if labels:
        class_ids(labels, *folder_classes(pipeline_folder(model)), name)
