"""From the configuration of data to the data set that it names."""

from ..utils.errors import UserError
from .clips import ClipShape
from .config import DataConfig
from .dataset import InMemoryDataset, PixelDataset
from .digits import DIGITS, LABEL_NAMES, digit_images
from .files import FileClips, FileImages
from .moving_digits import EDGE, MovingDigits
from .sources import open_table, videos
from .texts import open_texts
from .tokenizers import open_tokenizer

MOVING_DIGITS = "moving-digits"
WITHOUT_DOWNLOAD = (*DIGITS, MOVING_DIGITS)
EDGES = {"mnist": 32, "digits": 8, MOVING_DIGITS: EDGE}


def open_samples(config: DataConfig, *, seed: int, held_out: bool = False) -> PixelDataset:
    """The texts, images or clips that `config` names; arguments are those of `open_pixels`."""
    if config.tokens is None:
        return open_pixels(config, seed=seed, held_out=held_out)
    return open_texts(config, open_tokenizer(config.tokenizer), config.tokens, held_out=held_out)


def open_pixels(config: DataConfig, *, seed: int, held_out: bool = False, clips: int = 1) -> PixelDataset:
    """The images or clips that `config` names; see DataConfig.

    Args:
        seed: decides, with epoch and index, which images are mirrored; never which are held out.
        held_out: the fifth of the digits that training never sees. Other sources have no such part.
        clips: of each video file, evenly spread where nothing is drawn, see `FileClips`.

    Raises:
        UserError: if there are no images, or the configuration does not fit them.
    """
    edge = EDGES.get(config.source)
    if edge is not None and config.image_size not in (None, edge):
        raise UserError(f"data.image_size of {config.source} is {edge}: leave out {config.image_size}")
    if clips > 1 and (config.frames is None or config.source == MOVING_DIGITS):
        raise UserError(
            f"autoencoder.clips is for files of video, not for {config.source}: leave out {clips}"
        )
    if config.source in DIGITS:
        images, labels = digit_images(config.source, held_out=held_out)
        return InMemoryDataset(images, labels, LABEL_NAMES)
    if config.source == MOVING_DIGITS:
        if config.frames is None:
            raise UserError(f"data.frames must be the frames of a clip of {MOVING_DIGITS}, such as 8")
        return MovingDigits(config.frames, held_out=held_out)
    if held_out:
        raise UserError(
            f"data.source {config.source} has no held-out part, only {', '.join(WITHOUT_DOWNLOAD)} have"
        )
    if config.image_size is None or config.image_size < 1:
        raise UserError(f"data.image_size must be the edge in pixels for {config.source}, such as 256")
    flip_seed = seed if config.flip else None
    if config.frames is not None:
        shape = ClipShape(
            config.frames, config.frame_stride, config.short_clips, config.image_size, config.channels
        )
        table = open_table(config, videos(shape))
        return FileClips(table, shape=shape, seed=seed, flip_seed=flip_seed, clips=clips)
    table = open_table(config)
    return FileImages(table, image_size=config.image_size, channels=config.channels, flip_seed=flip_seed)
