"""The real data that samples are compared with: which part is the reference, and which was trained on."""

from dataclasses import dataclass, replace
from pathlib import Path

from ..data.config import DataConfig
from ..data.data_sets import PIXEL_SETS, built_in
from ..data.opening import open_samples
from ..data.splits import SPLIT_OF, held_out_split
from ..pipelines.classification import ACDiTImageClassificationPipeline
from ..pipelines.pixel_pipeline import ACDiTPipeline
from ..utils.errors import UserError, renamed_keys
from ..utils.progress_bar import ProgressBar
from .channels import with_channels
from .data_samples import DataSamples, open_data
from .references import open_reference
from .sample_sources import check_modality, open_samples_of
from .samples import Samples, StoredSamples
from .stored_reference import StoredReference

MOST_SAMPLES = 1_000  # number of samples that are compared, unless the user says otherwise
LEAST_PART = 50  # number of held-out items from which they are the reference
LEAST = 6  # number of items of a reference; metrics of 5 neighbours need as many
NO_VALUES = "there are no values of real data"  # in notes, which are left out if other real data are named
BATCH = 64  # number of files that are read at once to find damaged ones


@dataclass(frozen=True)
class Geometry:
    """Shape that real data are brought to, and how clips are cut from videos.

    Attributes:
        size: side of the images or frames in pixels.
        channels: number of channels, 1 or 3.
        frames: number of frames of a clip; None for images.
        stride: distance between the frames of a clip, in frames of the video; None = that of the model's own
            data if they are the source, or else 1.
    """

    size: int
    channels: int
    frames: int | None = None
    stride: int | None = None


@dataclass(frozen=True)
class RealSets:
    """Real data that samples are compared with.

    Attributes:
        reference: data that the samples are compared with.
        count: number of samples that are compared.
        real: as many other real items as samples, whose scores stand beside theirs; None if there are none.
        training: data that a model was trained on; None if they are not known.
        held_out: data of the same source that it was not trained on; None if they are not known.
        searched: data in which the neighbours of samples are searched; None if there are statistics alone.
        notes: lines for the user on how the data were divided, and why a set is missing.
    """

    reference: Samples | StoredReference
    count: int
    real: Samples | None
    training: Samples | None
    held_out: Samples | None
    searched: Samples | None
    notes: tuple[str, ...] = ()


def geometry_of(
    pipeline: ACDiTPipeline | ACDiTImageClassificationPipeline, stride: int | None = None
) -> Geometry:
    """Return the geometry of the samples of a pipeline.

    Args:
        pipeline: pipeline of images or video, or of the classes of images.
        stride: distance between the frames of a real clip, see `Geometry`.

    Raises:
        UserError: if the samples are not square, or neither grey nor RGB.
    """
    *frames, height, width = pipeline.layout.size
    height, width = height * pipeline.vae_scale_factor, width * pipeline.vae_scale_factor
    if height != width:
        items = "frames" if frames else "images"
        raise UserError(f"real data are cropped to squares: the {items} must be square, not {height}x{width}")
    if pipeline.vae is None and pipeline.vae_scale_factor > 1:
        raise UserError(
            "the model was saved without its autoencoder, so that it has no pixels: convert it again with "
            "--vae, or in Python pass vae= to from_pretrained"
        )
    if pipeline.pixel_channels not in (1, 3):
        raise UserError(
            f"samples must be grey or RGB to be scored, not of {pipeline.pixel_channels} channels"
        )
    return Geometry(height, pipeline.pixel_channels, *frames, stride=stride)


def open_real_sets(
    source: str,
    geometry: Geometry,
    *,
    split: str | None = None,
    count: int | None = None,
    recorded: DataConfig | None = None,
) -> RealSets:
    """Open the real data of a source, and divide them.

    The held-out part of a source is the reference, and the training part gives the value of real data. A
    source without parts is cut into halves for these two purposes, except an .npz file, which is a reference
    of its own.

    Args:
        source: name of a built-in data set, a folder, an .npz file, or a Hugging Face data set.
        geometry: shape that the data are brought to.
        split: part of the source that is the reference; None = the held-out part, if there is one.
        count: number of samples that are compared; None = as many as in the reference, at most
            `MOST_SAMPLES`.
        recorded: configuration of the data that the model was trained on, if it is known.

    Raises:
        UserError: if the source cannot be opened or does not fit the geometry.
    """
    check_data_modality(source, geometry)
    if Path(source).suffix.lower() == ".npz":
        return _array_sets(source, geometry, count)
    sets = _data_sets(source, geometry, split, count, recorded)
    if sets.reference.shape[0] == geometry.channels:
        return sets
    parts = ("reference", "real", "training", "held_out", "searched")  # a built-in set is grey
    recoloured = {
        name: with_channels(part, geometry.channels)
        for name in parts
        if (part := getattr(sets, name)) is not None
    }
    return replace(sets, **recoloured)


def _data_sets(
    source: str, geometry: Geometry, split: str | None, count: int | None, recorded: DataConfig | None
) -> RealSets:
    """Return the sets of a source that is no .npz file; see `open_real_sets`."""
    training, held_out = parts_of(source, geometry, split, recorded)
    if training is None:
        sets = _undivided(held_out, count)
        return (
            sets
            if source in PIXEL_SETS
            else replace(sets, notes=(*sets.notes, _shape_note(source, geometry)))
        )
    if len(held_out) < LEAST_PART:
        sets = _undivided(training, count)
        note = f"only {len(held_out)} items of {source} are held out"
        return replace(sets, training=training, held_out=held_out, notes=(note, *sets.notes))
    size = min(count or MOST_SAMPLES, len(held_out))
    reference, notes = _readable(held_out.spread(size))
    size = count or len(reference)
    real, missing = None, (f"{training.name} is smaller than the samples: {NO_VALUES}",)
    if len(training) >= size:
        # of the items that the ratio of distances looks at, see `nearest_ratio`
        real, missing = training.spread(min(len(training), max(size, len(held_out)))).spread(size), ()
    return RealSets(reference, size, real, training, held_out, training, (*notes, *missing))


def _shape_note(source: str, geometry: Geometry) -> str:
    """Return a note on how the real data are brought to the shape of the samples."""
    colour = "grey" if geometry.channels == 1 else "colour"
    return f"{source} is read in {colour} at {geometry.size}x{geometry.size} pixels, like the samples"


def open_real(source: str, geometry: Geometry, count: int) -> Samples:
    """Open real data whose scores stand beside those of `count` samples.

    Raises:
        UserError: if the source cannot be opened, does not fit the geometry, or is smaller.
    """
    if Path(source).suffix.lower() == ".npz":
        return open_samples_of(source, size=geometry.size, channels=geometry.channels, count=count)
    check_data_modality(source, geometry, "--real")
    # it has no option for a part
    with renamed_keys({"data.split of": "--real: name the folder of one part; the part of"}):
        return _opened(source, geometry, None).spread(count)


def check_data_modality(source: str, geometry: Geometry, option: str = "--data") -> None:
    """Raise UserError if a built-in data set is of another modality than the samples.

    Args:
        source: name of the source.
        geometry: geometry of the samples.
        option: option that names the source.
    """
    if source not in built_in():
        return
    held = PIXEL_SETS[source].modality if source in PIXEL_SETS else "text"
    words = {"image": "images", "video": "clips", "text": "texts"}
    needed = "image" if geometry.frames is None else "video"
    if held != needed:
        raise UserError(f"{option} {source} holds {words[held]}, but the samples are {words[needed]}")


def _array_sets(source: str, geometry: Geometry, count: int | None) -> RealSets:
    """Return the sets of an .npz file, which is the reference of a protocol and therefore not divided."""
    note = f"{source} is the reference as a whole, so {NO_VALUES}: name other real data with --real"
    reference = open_reference(source, size=geometry.size, channels=geometry.channels)
    size = count or min(len(reference) or MOST_SAMPLES, MOST_SAMPLES)
    if isinstance(reference, StoredReference):
        return RealSets(reference, size, None, None, None, reference.pictures, (note,))
    check_modality(reference, "image" if geometry.frames is None else "video")
    return RealSets(reference, size, None, None, None, reference, (note,))


def parts_of(
    source: str, geometry: Geometry, split: str | None, recorded: DataConfig | None
) -> tuple[DataSamples | None, DataSamples]:
    """Return the training part of a source, None if it has none, and the held-out part, or all."""
    if (
        recorded is not None
        and split is None
        and source not in PIXEL_SETS
        and _is_same(source, recorded.source)
    ):
        stride = geometry.stride or recorded.frame_stride
        return _recorded_parts(
            source, replace(recorded, flip=False, labels_per_class=None, frame_stride=stride)
        )
    held_out = _opened(source, geometry, split)
    part = split or ("validation" if source in PIXEL_SETS else held_out_split(source, texts=False))
    if SPLIT_OF.get(part.lower(), part) == "train":
        return None, held_out
    try:
        return _opened(source, geometry, "train"), held_out
    except UserError:  # the source has no training part
        return None, held_out


def _recorded_parts(source: str, config: DataConfig) -> tuple[DataSamples | None, DataSamples]:
    """Return the parts of the data of a training run, with the columns, files and fraction that it used."""
    training = DataSamples(open_samples(config, seed=0), f"{source}, training part")
    if config.validation_fraction:
        return training, DataSamples(open_samples(config, seed=0, held_out=True), f"{source}, held out")
    part = held_out_split(source, texts=False)
    try:
        others = None if part == config.split else open_samples(replace(config, split=part), seed=0)
    except UserError:  # the source has no such part
        others = None
    return (None, training) if others is None else (training, DataSamples(others, f"{source}, {part}"))


def _opened(source: str, geometry: Geometry, split: str | None) -> DataSamples:
    """Open a part of a source, or all of it, in a geometry."""
    return open_data(
        source,
        size=geometry.size,
        channels=geometry.channels,
        frames=geometry.frames,
        split=split,
        stride=geometry.stride or 1,
    )


def _undivided(samples: StoredSamples, count: int | None) -> RealSets:
    """Return the sets of a source without parts: halves, or all as the reference if it is too small."""
    half = len(samples) // 2
    if half < max(LEAST, count or 0):
        reference, notes = _readable(samples)
        missing = (
            f"{samples.name} holds {len(samples):,} items, less than twice as many as are compared, so none "
            f"are set apart from the reference: {NO_VALUES}"
        )
        size = count or min(len(reference), MOST_SAMPLES)
        return RealSets(reference, size, None, None, None, reference, (*notes, missing))
    divided = f"one half of {samples.name} is the reference, the other half gives the values of real data"
    reference, notes = _readable(samples.taken(range(0, 2 * half, 2)))
    others, _ = _readable(samples.taken(range(1, 2 * half, 2)))
    size = count or min(len(reference), len(others), MOST_SAMPLES)
    real = others.spread(size) if size <= len(others) else None
    return RealSets(reference, size, real, None, None, samples, (divided, *notes))


def _readable(samples: StoredSamples) -> tuple[StoredSamples, tuple[str, ...]]:
    """Return the samples that can be read, and a note on the others.

    The classes of the samples to draw are those of the readable items, so that files are read beforehand.

    Raises:
        UserError: if there are too few.
    """
    if samples.name.partition(",")[0] in built_in():
        return samples, ()
    rows: list[int] = []
    for numbers, _ in ProgressBar(samples.batches(BATCH), f"reading {samples.name}", delay=3, leave=False):
        rows += numbers
    left_out = dict(samples.unreadable)
    reasons = "".join(f"; {name}: {reason}" for name, reason in [*left_out.items()][:1])
    if len(rows) < LEAST:
        raise UserError(
            f"{samples.name} has {len(rows)} readable items, but at least {LEAST} are needed{reasons}"
        )
    if not left_out:
        return samples, ()
    items = "item" if len(left_out) == 1 else "items"
    return samples.taken(rows), (f"{len(left_out)} {items} of {samples.name} skipped{reasons}",)


def _is_same(source: str, recorded: str) -> bool:
    paths = [Path(each).expanduser() for each in (source, recorded)]
    return source == recorded or (all(path.exists() for path in paths) and paths[0].samefile(paths[1]))
