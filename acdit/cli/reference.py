"""`acdit reference`: statistics of features of real data in a file, to compare samples with."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from ..utils.checks import option_suffix
from ..utils.errors import UserError
from ..utils.ranges import AtLeastTwo, Count, Ranged
from .command import PlainCommand


@dataclass
class ReferenceOptions(Ranged):
    """Compute features of real data, and write their mean and covariance to a file.

    The file serves as --data of `acdit evaluate`, and says which features it holds.
    """

    section: ClassVar[str] = "--"

    source: str | None = None
    """Real data: a folder of images or videos, an .npz file of pictures, mnist, digits or moving-digits,
    or a Hugging Face data set."""
    features: str | None = None
    """Features, such as efficientnet-lite0, inception:FILE, digit-classifier or pixels; an unknown name lists
    all."""
    out: str = "reference.npz"
    """File to write, .npz."""
    split: str | None = None
    """Part of the data, such as train; default: the held-out part if there is one, or else all."""
    size: Count | None = None
    """Side in pixels that images and videos are cropped to; default: files are read as they are, and must
    have one size."""
    channels: Literal[1, 3] | None = None
    """Number of channels, 1 for grey or 3 for colour; default: as in the data."""
    frames: AtLeastTwo | None = None
    """Number of frames of a clip that is cut from each video."""
    stride: Count = 1
    """Distance between consecutive frames of a clip, in frames of the video at its mean rate."""
    count: Count | None = None
    """Number of images or clips, at even steps over the data; default: all."""
    batch: Count = 64
    """Number of images or clips per call of the network."""
    device: str | None = None
    """Device, such as cpu or cuda; default: a GPU if there is one."""
    with_features: bool = False
    """Also write the features of every image, for metrics of neighbours such as precision and recall."""
    trust_features: bool = False
    """Allow a program in --features, such as a TorchScript file, to run with your permissions."""

    def __post_init__(self) -> None:
        super().__post_init__()
        example = "acdit reference FOLDER --size 64 --features efficientnet-lite0 --out reference.npz"
        if self.source is None:
            raise UserError(f"reference needs real data: {example}")
        if self.features is None:
            raise UserError(f"reference needs --features: {example}")
        option_suffix(".npz", out=self.out)


def run(options: ReferenceOptions) -> None:
    """Compute the features, on all ranks, and write their statistics."""
    from ..evaluation.features.table import MODALITIES, find_program, open_extractor
    from ..evaluation.references import reference_features
    from ..evaluation.sample_sources import open_samples_of
    from ..evaluation.stored_reference import check_replaceable_reference, write_reference
    from ..utils.files import check_writable, only_writer
    from ..utils.ranks import launched
    from .open_model import device_of

    assert options.source is not None and options.features is not None  # checked in __post_init__
    out, ranks = Path(options.out), launched()
    check_writable(out)
    check_replaceable_reference(out)
    samples = open_samples_of(
        options.source,
        size=options.size,
        channels=options.channels,
        frames=options.frames,
        split=options.split,
        stride=options.stride,
        count=options.count,
    )
    if len(samples) < 2:
        raise UserError(f"a covariance needs at least 2 samples, but {options.source} holds {len(samples)}")
    if options.trust_features and find_program(options.features, MODALITIES[len(samples.shape)]) is None:
        raise UserError("--trust-features is for a program in --features, such as i3d:FILE: leave it out")
    device = device_of(options.device)
    extractor = open_extractor(options.features, samples.shape, device, trust=options.trust_features)
    with only_writer(out, "acdit reference", ranks.main):
        with ranks.joined():
            (features,) = reference_features(
                samples, [extractor], options.batch, ranks, statistics=not ranks.alone
            )
        if ranks.main:
            write_reference(
                out, features, samples.shape, samples.describe(), with_items=options.with_features
            )
    if ranks.main:
        skipped = len(samples.unreadable)
        more = f"; {skipped:,} skipped" if skipped else ""
        print(
            f"{out}: {features.width:,} features {extractor.info.name} of {len(features):,} items of "
            f"{samples.name}{more}"
        )


COMMAND = PlainCommand(
    name="reference",
    summary="features of real data",
    arguments="SOURCE",
    brief="acdit reference FOLDER",
    example="acdit reference FOLDER --size 64 --features efficientnet-lite0 --out reference.npz\n"
    "  acdit reference mnist --features digit-classifier --with-features",
    options=ReferenceOptions,
    positional="source",
    keys={
        "data.source": "",
        "data.split": "--split",
        "data.image_size": "--size",
        "data.channels": "--channels",
        "data.frames": "--frames",
        "data.frame_stride": "--stride",
    },
    run=run,
)
