"""Open the data set that a data configuration names."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

from ..media.pictures import MAX_PIXELS
from ..modalities.table import MODALITIES
from ..utils.errors import UserError
from ..utils.randomness import seed_of
from ..utils.references import load_object
from .config import DataConfig
from .data_sets import PIXEL_SETS, built_in
from .dataset import PixelDataset, SelectedItems
from .file_data_sets import FileClips, FileImages
from .file_tables import FileTable, open_table, source_folder
from .media_types import images, videos
from .selection import chosen_rows, divided_rows
from .texts import open_texts
from .tokenizers import open_tokenizer
from .video_decoding import ClipShape


def open_samples(config: DataConfig, *, seed: int, held_out: bool = False, clips: int = 1) -> PixelDataset:
    """Open the images, clips or texts that `config` names; see `DataConfig`.

    Args:
        config: configuration of the data.
        seed: decides, with epoch and index, which images are mirrored; never which are held out.
        held_out: whether to open the held-out part, which training never sees; sources that are not built in
            have one if `config.validation_fraction` is above 0.
        clips: number of clips per video file, evenly spread where they are not drawn at random, see
            `FileClips`.

    Raises:
        UserError: if there are no samples, or the configuration does not fit them.
    """
    opener = cast(Callable[..., PixelDataset], load_object(config.modality.open_data))
    samples = opener(config, seed=seed, held_out=held_out, clips=clips)
    samples.source, samples.recorded_name = source_names(config)
    return samples


def source_names(config: DataConfig) -> tuple[str, str]:
    """Return the name of a source, empty for local files, and its name in pipelines.

    Names of local files are marked, so that a folder named mnist is not taken for the built-in data set.
    """
    path = Path(config.source).expanduser()
    if config.source in built_in() or not path.exists():
        return config.source, config.source
    return "", f"{'folder' if path.is_dir() else 'file'} {path.resolve().name}"


def open_images(config: DataConfig, *, seed: int, held_out: bool, clips: int) -> PixelDataset:
    """Return the data set of images that `config` names; see `open_samples`."""
    if clips > 1:
        raise UserError(_clips_error(config, clips))
    if config.source in PIXEL_SETS:
        return _built_in(config, seed, held_out)
    side = _side(config, held_out)
    flip_seed = seed if config.flip else None
    max_pixels = config.max_pixels or MAX_PIXELS
    return FileImages(
        _part(open_table(config, images(max_pixels)), config, seed, held_out),
        image_size=side,
        channels=config.channels,
        flip_seed=flip_seed,
        max_pixels=max_pixels,
    )


def open_clips(config: DataConfig, *, seed: int, held_out: bool, clips: int) -> PixelDataset:
    """Return the data set of video clips that `config` names; see `open_samples`."""
    if config.source in PIXEL_SETS:
        if clips > 1:
            raise UserError(_clips_error(config, clips))
        return _built_in(config, seed, held_out)
    config.refuse("max_pixels", reason="whose files are videos")
    side = _side(config, held_out)
    assert config.frames is not None  # otherwise the modality would be another
    shape = ClipShape(config.frames, config.frame_stride, config.short_clips, side, config.channels)
    table = _part(open_table(config, videos(shape)), config, seed, held_out)
    flip_seed = seed if config.flip else None
    return FileClips(table, shape=shape, seed=seed, flip_seed=flip_seed, clips=clips)


def open_tokens(config: DataConfig, *, seed: int, held_out: bool, clips: int) -> PixelDataset:
    """Open texts as token ids; see `open_samples`. The seed has no effect, since nothing is drawn."""
    del seed
    if clips > 1:
        raise UserError(_clips_error(config, clips))
    assert config.tokens is not None  # otherwise the modality would be another
    return open_texts(config, open_tokenizer(config.tokenizer), config.tokens, held_out=held_out)


def _built_in(config: DataConfig, seed: int, held_out: bool) -> PixelDataset:
    keys = ("split", "image_column", "text_column", "label_column", "listed", "max_pixels", "frame_stride")
    config.refuse(*keys, "short_clips", reason="which is built in")
    data_set = PIXEL_SETS[config.source]
    modality, requested = MODALITIES[data_set.modality], config.modality
    if modality is not requested and modality.length_key is not None:
        raise UserError(
            f"data.{modality.length_key} must be set to the number of {modality.length_key} of "
            f"{config.source}, such as 8"
        )
    if modality is not requested:
        raise UserError(
            f"data.source {config.source} holds {modality.samples}: leave out data.{requested.length_key}"
        )
    if config.validation_fraction and requested.length_key is not None:
        raise UserError(
            f"data.source {config.source} has a held-out part of its own: leave out data.validation_fraction"
        )
    if requested.length_key is not None:
        config.refuse("labels_per_class", reason="whose clips are made from few images")
    if config.image_size not in (None, data_set.side):
        raise UserError(
            f"data.image_size of {config.source} is {data_set.side}: leave it out "
            f"(it was {config.image_size})"
        )
    if not config.validation_fraction:
        samples = data_set.open(config, held_out)
    else:
        training = data_set.open(config, False)
        names = partial(seed_of, "validation fraction")
        rows = divided_rows(training.labels, config.validation_fraction, held_out, names)
        samples = SelectedItems(training, rows)
    rows = None
    if not held_out:
        rows = chosen_rows(samples.labels, samples.label_names, config, seed, samples.name)
    return samples if rows is None else SelectedItems(samples, rows)


def _part(table: FileTable, config: DataConfig, seed: int, held_out: bool) -> FileTable:
    """Return the part of a table that is held out, or the part that is not, with as many labels as wanted."""
    if config.validation_fraction:
        table = table.divided(config.validation_fraction, held_out)
    rows = None
    if not held_out:
        rows = chosen_rows(table.labels, table.label_names, config, seed, table.row_name, table.row_path)
    return table if rows is None else table.select(rows)


def _side(config: DataConfig, held_out: bool) -> int:
    """Return the side in pixels that files are cropped to.

    Raises:
        UserError: if the held-out part is requested and no files are held out, or if no size is given.
    """
    if held_out and not config.validation_fraction:
        raise UserError(
            f"data.source {config.source} has no held-out part, unlike {', '.join(PIXEL_SETS)}: set "
            "data.validation_fraction, such as 0.1"
        )
    if source_folder(config.source) is None and config.image_size is None:
        raise UserError(
            f"data.source {config.source} is not a folder here, nor one of {', '.join(PIXEL_SETS)}: give an "
            "existing folder; for a data set on the hub, data.image_size must be set too, such as 256"
        )
    if config.image_size is None or config.image_size < 1:
        raise UserError(
            f"data.image_size must be set for {config.source}, to the side in pixels, such as 256"
        )
    return config.image_size


def _clips_error(config: DataConfig, clips: int) -> str:
    return (
        f"autoencoder.clips is only for video files, not for {config.source}: leave it out (it was {clips})"
    )
