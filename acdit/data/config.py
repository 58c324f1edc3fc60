"""Typed configuration of the data and of its latents. Does not import torch."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from ..modalities.modality import Modality
from ..modalities.table import modality_of_data
from ..utils.errors import UserError
from ..utils.ranges import AtLeastTwo, Count, CountFromZero, FractionBelowOne, Ranged


@dataclass
class DataConfig(Ranged):
    """Configuration of the training data: images or video clips, scaled to [-1, 1], or texts."""

    section: ClassVar[str] = "data."

    source: str = "mnist"
    """Data source. Without download: `mnist` (padded to 32x32) or `digits` (8x8) for images, `moving-digits`
    (32x32) or `moving-digits-small` (16x16) for video, `shakespeare` for text. Otherwise a folder of images
    or videos with one sub-folder per class, a text file or table (.jsonl, .json, .csv, .tsv, .parquet), a
    folder of such files, or a Hugging Face data set by name or path."""
    split: str = "train"
    """Split of a Hugging Face data set, or of a folder whose sub-folders are splits, such as train and
    validation."""
    image_column: str | None = None
    """Column of a Hugging Face data set that holds images or videos; default: found by its type."""
    text_column: str | None = None
    """Column of a Hugging Face data set, or of a JSON, CSV, TSV or Parquet file, that holds texts; default:
    the only one."""
    label_column: str | None = None
    """Column of a Hugging Face data set, or of metadata.jsonl or metadata.csv in a folder, that holds the
    class; default: found by its type, in a folder `label`. Empty: no classes."""
    image_size: Count | None = None
    """Side in pixels after the centre crop; built-in data sets have a fixed size."""
    channels: Literal[1, 3] = 3
    """Number of channels: 1 for grey, 3 for colour; the digits are grey."""
    frames: AtLeastTwo | None = None
    """Number of frames of a clip, if the source holds videos; leave out for images."""
    frame_stride: Count = 1
    """Distance between consecutive frames of a clip, in frames of the video at its mean rate."""
    short_clips: Literal["loop", "skip"] = "loop"
    """Treatment of videos that are too short for a clip: `loop` repeats them, `skip` leaves them out."""
    tokens: AtLeastTwo | None = None
    """Number of tokens of a sequence, if the source holds texts; leave out for images and video."""
    special_tokens: bool = False
    """Read special tokens that are spelled in texts, such as <|endoftext|> between stories, as these tokens;
    otherwise they are plain text."""
    tokenizer: str = "bytes"
    """Tokenizer of texts: `bytes`, a file written by `acdit tokenizer`, or a Hugging Face tokenizer."""
    listed: str | None = None
    """File that lists the files of a folder to use, CLASS/FILE on each line, such as UCF-101's
    trainlist01.txt; default: all files."""
    validation_fraction: FractionBelowOne = 0.0
    """Fraction of the samples of each class that are held out for validation. Built-in data sets have a
    held-out part of their own; with a fraction, digits are held out from the training part in place of it."""
    labels_per_class: Count | None = None
    """Number of labelled samples per class of the training part that are used, chosen by `training.seed`;
    default: all."""
    num_classes: Count | None = None
    """Number of classes, to plan a run without the data; training checks that it matches the data."""
    flip: bool = True
    """Mirror half of the images at random; digits are never mirrored."""
    workers: CountFromZero = 0
    """Number of processes per rank that read images."""
    max_pixels: Count | None = None
    """Maximum number of pixels of an image file; larger ones are skipped, since decoding takes memory.
    Default: 178,956,970."""
    max_unreadable: CountFromZero = 100
    """Maximum number of damaged images before training stops; each is replaced by the next readable one."""

    @property
    def modality(self) -> Modality:
        """Return the modality of the data: text if `tokens` is given, video if `frames` is, else images."""
        return modality_of_data(self)

    def __post_init__(self) -> None:
        super().__post_init__()
        modality_of_data(self)  # raises UserError if several are given

    def refuse(self, *names: str, reason: str) -> None:
        """Raise UserError if a key is set that has no effect on the source, which is `reason`."""
        for name in names:
            value = getattr(self, name)
            if value != type(self).__dataclass_fields__[name].default:
                raise UserError(
                    f"data.{name} {value!r} has no effect on {self.source}, {reason}: leave it out"
                )


@dataclass
class AutoencoderConfig(Ranged):
    """Configuration of the latent space: training reads the latents that `acdit encode` wrote."""

    section: ClassVar[str] = "autoencoder."

    model: str | None = None
    """AutoencoderKL: a name on the hub, or a folder; default: none, the model works on pixels."""
    latents: str | None = None
    """Folder of the encoded latents; default: latents/NAME."""
    dtype: Literal["float16", "float32"] = "float16"
    """Precision of the stored latents."""
    shard_size: Count = 4096
    """Number of images per file of latents."""
    clips: Count = 1
    """Number of clips encoded per video, evenly spread over it; 1 = a single clip from its middle."""
