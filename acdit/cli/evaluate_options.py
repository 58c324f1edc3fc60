"""Options of `acdit evaluate` that images and video share. Does not import torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ..evaluation.features.table import EXTRACTORS, find_program
from ..utils.checks import option_suffix
from ..utils.errors import UserError
from ..utils.ranges import Count
from ..utils.settings import WORDS, fields_of, spelled
from .model_options import GuidedOptions, RunOptions, is_finished
from .sweep_options import parse_sweep

CLASS_ACCURACY = "class_accuracy"
DRAWS = 4  # noise draws of class_accuracy
MODEL_SWEEPS = ("checkpoint", "ema")  # settings whose values are those of a training run
# Options that have no effect on finished samples.
OF_MODELS = frozenset(
    (
        *("model", "sweep", "guidance", "guidance_interval", "steps", "block", "fast", "vae_slicing"),
        *("vae_tiling", "frames", "window", "sinks", "context_noise", "dtype"),
    )
)


def holds_array(data: str | None) -> bool:
    """Return whether a value of --data names an .npz file, of finished pictures or of statistics."""
    return data is not None and Path(data).suffix.lower() == ".npz"


@dataclass
class PixelEvaluateOptions(GuidedOptions):
    """Options of the evaluation of images and video."""

    modality: ClassVar[str] = "image"
    """Modality of the features that may be named."""
    swept: ClassVar[tuple[str, ...]] = ("guidance", "steps", "checkpoint", "ema")
    """Settings that --sweep may vary."""

    count: Count | None = None
    """Number of samples to draw and score; default: as many as the real data that they are compared with, at
    most 1,000."""
    samples: Count | str | None = None
    """Finished samples to score in place of a model: an .npz file or a folder, as acdit sample writes them. A
    number is read as --count (deprecated)."""
    data: str | None = None
    """Real data to compare the samples with: mnist, digits or moving-digits, a folder, a Hugging Face data
    set, or an .npz file of pictures or of statistics; default: the data that the model was trained on, if
    they are known."""
    split: str | None = None
    """Split of --data, if it has splits; default: validation."""
    real: str | None = None
    """Other real data, whose scores stand beside those of the samples; default: a part of --data."""
    features: list[str] | None = None
    """Features to compare, such as efficientnet-lite0, inception:FILE or pixels; a TorchScript file is a
    program, so add --trust-features. Default: what suits the data and needs no download."""
    metrics: list[str] | None = None
    """Metrics, such as frechet_distance,coverage_density; default: all that can be computed. class_accuracy,
    named alone, takes the generator as a classifier of --data: the class of the lowest denoising loss."""
    draws: Count | None = None
    """Number of noise draws of every sample for class_accuracy; default: 4."""
    intervals: bool = False
    """Compute 95% intervals of the scores that have them."""
    trust_features: bool = False
    """Allow programs in --features to run with your permissions."""
    sweep: list[str] | None = field(default=None, metadata=WORDS)
    """Settings to vary, each as KEY=VALUE,VALUE, such as guidance=1,1.5,2 steps=10,25 checkpoint=all
    ema=0.999,none: every combination is scored, and the best marked."""
    plot: str | None = None
    """PNG file to write: the scores of --sweep, of continued clips over time, or confused classes."""
    neighbours: str | None = None
    """PNG file to write: the samples nearest to real data, beside their nearest neighbours."""
    out: str | None = None
    """JSON file to write; default: print the JSON."""

    @property
    def finished(self) -> str | None:
        """Return the path of finished samples; None if a model is scored."""
        return self.samples if isinstance(self.samples, str) else None

    @property
    def drawn(self) -> int | None:
        """Return the requested number of samples; None = the default."""
        return self.samples if isinstance(self.samples, int) else self.count

    @property
    def tells_classes(self) -> bool:
        """Return whether the generator is taken as a classifier."""
        return CLASS_ACCURACY in (self.metrics or ())

    @property
    def sweeps(self) -> Mapping[str, Sequence[Any]]:
        """Return the values of the settings that vary, by name."""
        return parse_sweep(self.sweep or (), self.swept)

    def __post_init__(self) -> None:
        super().__post_init__()
        option_suffix(".json", out=self.out)
        option_suffix(".png", plot=self.plot, neighbours=self.neighbours)
        if self.samples is not None and self.count is not None:
            what = "finished samples" if self.finished else "the same number"
            raise UserError(
                f"--count and --samples {self.samples} (which names {what}): leave out one of them"
            )
        self._check_features()
        self._check_sweep()
        self._check_neighbours()
        self._check_finished()
        self._check_classes()
        if self.split is not None and self.data is None:
            raise UserError("--split selects a part of --data: add --data")
        if self.split is not None and holds_array(self.data):
            raise UserError(f"--data {self.data} is compared with as a whole: leave out --split")

    @classmethod
    def needs_model(cls, values: Mapping[str, Any]) -> bool:
        """Return whether options as typed are for a model, and not for finished samples."""
        return not is_finished(values.get("samples"))

    def _check_features(self) -> None:
        """Check the names of features; a TorchScript file may stand for its features."""
        if self.features is not None:
            self.features = [self._feature_name(name) for name in self.features]
        programs = (
            [find_program(name, self.modality) for name in self.features or ()] if not self.finished else []
        )
        if self.trust_features and not any(programs) and not self.finished:
            raise UserError("--trust-features is for a program in --features, such as i3d:FILE: leave it out")
        for program in filter(None, programs):
            if not self.trust_features:
                raise UserError(
                    f"--features {program} is a program that runs with your permissions: add "
                    "--trust-features if you trust its source"
                )

    @staticmethod
    def _feature_name(name: str) -> str:
        known = name.partition(":")[0] in EXTRACTORS
        return name if known or not Path(name).suffix else f"torchscript:{name}"

    def _check_sweep(self) -> None:
        for key in self.sweeps:
            given = getattr(self, key, None) if key not in MODEL_SWEEPS else None
            if given is not None:
                raise UserError(f"--sweep varies {key}: leave out --{key}")
        if "steps" in self.sweeps and self.fast:
            raise UserError("--sweep varies steps, which --fast sets: leave out one of them")

    def _check_neighbours(self) -> None:
        if self.neighbours is not None and self.sweep is not None:
            raise UserError("--neighbours shows the samples of one setting: leave out --sweep")

    def _check_finished(self) -> None:
        if self.finished is None:
            return
        for name, option in fields_of(type(self)).items():
            if name in OF_MODELS and getattr(self, name) != option.default:
                raise UserError(
                    f"--{spelled(name)} is for a model, but --samples {self.samples} names finished "
                    "samples: leave out one of them"
                )
        if self.data is None:
            raise UserError(
                f"--samples {self.samples} must be compared with real data: give them with --data, such as "
                "--data mnist or --data FOLDER"
            )

    def _check_classes(self) -> None:
        """Check the options of class_accuracy, which draws no samples and so has none of sampling."""
        if not self.tells_classes:
            if self.draws is not None:
                raise UserError("--draws is for --metrics class_accuracy: add it, or leave out --draws")
            return
        if self.metrics != [CLASS_ACCURACY]:
            raise UserError(f"--metrics {CLASS_ACCURACY} needs no samples: name it alone")
        used = (
            *("metrics", "draws", "data", "split", "count", "plot", "out", "stride"),
            *fields_of(RunOptions),
        )
        for name, option in fields_of(type(self)).items():
            if (name not in used or name == "steps") and getattr(self, name) != option.default:
                raise UserError(
                    f"--{spelled(name)} has no effect on --metrics {CLASS_ACCURACY}: leave it out"
                )
