"""The typed configuration of data and of the latents made of it. Free of torch."""

from dataclasses import dataclass
from typing import Literal

from ..modalities.modality import Modality
from ..modalities.table import modality_of_data
from ..utils.checks import at_least


@dataclass
class DataConfig:
    """What to learn from: images or video clips, scaled to [-1, 1], or texts."""

    source: str = "mnist"
    """`mnist` (padded to 32x32), `digits` (8x8) or as video `moving-digits` (32x32) without download, a
    folder of images or videos with one sub-folder a class, or a Hugging Face data set by name or path. As
    texts `shakespeare`, a file, a folder of files, or such a data set."""
    split: str = "train"
    """Split of a Hugging Face data set."""
    image_column: str | None = None
    """Column of a Hugging Face data set that holds images or videos; found by its type when left out."""
    text_column: str | None = None
    """Column of a Hugging Face data set that holds texts; found by its type when left out."""
    label_column: str | None = None
    """Column of a Hugging Face data set that holds the class; found by its type when left out."""
    image_size: int | None = None
    """Edge in pixels after centre crop; the digits have their own."""
    channels: Literal[1, 3] = 3
    """Grey or colour; the digits are grey."""
    frames: int | None = None
    """Frames of a clip, where the source holds videos; left out for images."""
    frame_stride: int = 1
    """Frames of a video from one of a clip to the next, at its mean rate."""
    short_clips: Literal["loop", "skip"] = "loop"
    """What becomes of videos that are too short for a clip: repeated, or left out."""
    tokens: int | None = None
    """Tokens of a sequence, where the source holds texts; left out for images and video."""
    tokenizer: str = "bytes"
    """What makes tokens of texts: `bytes`, a file of `acdit tokenizer`, or a Hugging Face one."""
    listed: str | None = None
    """A list of the files of a folder to take, CLASS/FILE in each line, such as UCF-101's trainlist01.txt."""
    num_classes: int | None = None
    """Classes, to plan a run where the data is not at hand; training insists that the data agrees."""
    flip: bool = True
    """Mirror half of the images, at random; never done to digits."""
    workers: int = 0
    """Processes that read images, for each rank."""
    max_unreadable: int = 100
    """Images that may turn out damaged, each replaced by the next good one, before training stops."""

    @property
    def modality(self) -> Modality:
        """The modality of the data: text where `tokens` is given, video where `frames` is, else images."""
        return modality_of_data(self)

    def __post_init__(self) -> None:
        at_least(1, data__image_size=self.image_size, data__num_classes=self.num_classes)
        at_least(2, data__frames=self.frames, data__tokens=self.tokens)
        modality_of_data(self)  # of which there must not be several
        at_least(1, data__frame_stride=self.frame_stride)
        at_least(0, data__workers=self.workers, data__max_unreadable=self.max_unreadable)


@dataclass
class AutoencoderConfig:
    """Latent space: training reads latents that `acdit encode` made of the images."""

    model: str | None = None
    """An AutoencoderKL: a name on the hub, or a folder; None = pixels."""
    latents: str | None = None
    """Folder of the encoded latents; latents/NAME when left out."""
    dtype: Literal["float16", "float32"] = "float16"
    """Precision in which latents are stored."""
    shard_size: int = 4096
    """Images in a file of latents."""
    clips: int = 1
    """Clips of each video that are encoded, evenly spread over it; 1 = from its middle."""

    def __post_init__(self) -> None:
        at_least(1, autoencoder__shard_size=self.shard_size, autoencoder__clips=self.clips)
