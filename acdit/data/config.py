"""The typed configuration of data and of the latents made of it. Free of torch."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from ..modalities.modality import Modality
from ..modalities.table import modality_of_data
from ..utils.ranges import Count, CountFromZero, Ranged, SeveralTokens


@dataclass
class DataConfig(Ranged):
    """What to learn from: images or video clips, scaled to [-1, 1], or texts."""

    section: ClassVar[str] = "data."

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
    image_size: Count | None = None
    """Edge in pixels after centre crop; the digits have their own."""
    channels: Literal[1, 3] = 3
    """Grey or colour; the digits are grey."""
    frames: SeveralTokens | None = None
    """Frames of a clip, where the source holds videos; left out for images."""
    frame_stride: Count = 1
    """Frames of a video from one of a clip to the next, at its mean rate."""
    short_clips: Literal["loop", "skip"] = "loop"
    """What becomes of videos that are too short for a clip: repeated, or left out."""
    tokens: SeveralTokens | None = None
    """Tokens of a sequence, where the source holds texts; left out for images and video."""
    tokenizer: str = "bytes"
    """What makes tokens of texts: `bytes`, a file of `acdit tokenizer`, or a Hugging Face one."""
    listed: str | None = None
    """A list of the files of a folder to take, CLASS/FILE in each line, such as UCF-101's trainlist01.txt."""
    num_classes: Count | None = None
    """Classes, to plan a run where the data is not at hand; training insists that the data agrees."""
    flip: bool = True
    """Mirror half of the images, at random; never done to digits."""
    workers: CountFromZero = 0
    """Processes that read images, for each rank."""
    max_unreadable: CountFromZero = 100
    """Images that may turn out damaged, each replaced by the next good one, before training stops."""

    @property
    def modality(self) -> Modality:
        """The modality of the data: text where `tokens` is given, video where `frames` is, else images."""
        return modality_of_data(self)

    def __post_init__(self) -> None:
        super().__post_init__()
        modality_of_data(self)  # of which there must not be several


@dataclass
class AutoencoderConfig(Ranged):
    """Latent space: training reads latents that `acdit encode` made of the images."""

    section: ClassVar[str] = "autoencoder."

    model: str | None = None
    """An AutoencoderKL: a name on the hub, or a folder; None = pixels."""
    latents: str | None = None
    """Folder of the encoded latents; latents/NAME when left out."""
    dtype: Literal["float16", "float32"] = "float16"
    """Precision in which latents are stored."""
    shard_size: Count = 4096
    """Images in a file of latents."""
    clips: Count = 1
    """Clips of each video that are encoded, evenly spread over it; 1 = from its middle."""
