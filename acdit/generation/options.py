"""What the commands take (`train` aside, which takes a recipe), typed. Free of torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..model.layout import parse_dims
from ..utils.checks import option_at_least, option_suffix
from ..utils.errors import UserError

MOST_RATE = 1000  # frames a second of a video file
GUIDING = ("guidance", "guidance_interval", "fast", "vae_slicing", "vae_tiling")  # that texts have no use for


@dataclass
class RunOptions:
    """What every command that runs a model takes."""

    model: str | None = None
    """A pipeline directory, a training run, or mnist, moving-digits or shakespeare, the models in the
    package; when left out mnist, or where options are for video or for text the one that they are for."""
    seed: int = 0
    """Seed of the noise."""
    device: str | None = None
    """Such as cpu or cuda; a GPU where there is one, when left out."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the network."""
    batch: int = 64
    """Images that are drawn at once."""
    steps: int | list[int] | None = None
    """Solver steps per block, one number or one for each block; the model's own when left out."""
    guidance: float | None = None
    """Classifier-free guidance, 1 = none; the model's own when left out."""
    guidance_interval: tuple[float, float] | None = None
    """Lowest and highest noise level (sigma) at which guidance acts; all when left out."""
    fast: bool = False
    """8 steps a block, guided at the middle noise levels alone, for --steps and --guidance-interval: a
    quarter of the cost of 25 guided steps."""
    vae_slicing: bool = False
    """Let the autoencoder decode images one by one, to save memory."""
    vae_tiling: bool = False
    """Let the autoencoder decode large images tile by tile, to save memory."""

    def __post_init__(self) -> None:
        option_at_least(1, batch=self.batch)
        for steps in self.steps if isinstance(self.steps, list) else [self.steps]:
            option_at_least(1, steps=steps)
        low, high = self.guidance_interval or (0, 1)
        if not 0 <= low < high:
            raise UserError(f"--guidance-interval must be LOW,HIGH with 0 <= LOW < HIGH, not {low},{high}")
        if self.fast and (self.steps is not None or self.guidance_interval is not None):
            raise UserError("--fast stands for --steps and --guidance-interval: give it without them")


@dataclass
class SampleOptions(RunOptions):
    """Draw images block by block: one picture with a row for each label, or with --count a set of files.

    A model of video draws clips: an .mp4, a .gif, or a .png with a row of frames for each clip.
    A model of text writes to the terminal while it goes on, or into a .txt.
    """

    prompt: str | None = None
    """The text to continue; from nothing when left out."""
    max_new_tokens: int | None = None
    """Tokens of a text after the prompt, at most; as many as the model knows places for when left out."""
    temperature: float | None = None
    """Of a text's tokens, 0 = the most likely ones; 1 when left out."""
    top_p: float | None = None
    """Of a text's tokens, draw only the likeliest that together have this probability; 1 when left out."""

    labels: list[int | str] | None = None
    """Classes by number or name; when left out the first ten, or with --count all."""
    samples: int | None = None
    """Images of each label in the picture; 8 when left out, and 1 of videos and texts."""
    count: int | None = None
    """Draw a set of so many images, over any number of ranks; the same command again goes on with it."""
    balanced: bool = False
    """Let the images of a set take the classes in turn; each draws its own from its seed when left out."""
    guidance_rising: bool = False
    """Let guidance rise from 1 at the first block to its full value at the last."""
    block: str | None = None
    """Block size in tokens, such as 4x4; the model's own when left out."""
    prefix: str | None = None
    """A picture whose first blocks are continued (needs --keep-blocks), or a video (needs --keep-frames)."""
    keep_blocks: int | None = None
    """Blocks of a picture that are kept."""
    keep_frames: int | None = None
    """First frames of a video that are kept: whole blocks, one after the other, whatever the file's rate."""
    frames: int | None = None
    """Frames of a video, those of the prefix included; the model's own when left out."""
    window: int | None = None
    """Blocks of a video that a block sees behind itself; when left out all, or as many as in training."""
    sinks: int | None = None
    """First blocks of a video that stay visible beyond the window."""
    context_noise: float | None = None
    """Standard deviation of noise on finished blocks that others are to see, against drift of long videos."""
    rate: int | None = None
    """Frames a second of a video file; 8 when left out: a model does not know the rate of its clips."""
    out: str | None = None
    """The .png of a picture, samples.png when left out; of videos an .mp4, .gif or .png; of a set the .npz,
    or a folder of PNGs where there is no suffix; of texts a .txt."""

    def __post_init__(self) -> None:
        super().__post_init__()
        option_at_least(1, samples=self.samples, keep_blocks=self.keep_blocks, keep_frames=self.keep_frames)
        option_at_least(1, frames=self.frames, window=self.window, rate=self.rate)
        if self.rate is not None and self.rate > MOST_RATE:
            raise UserError(f"--rate must be at most {MOST_RATE} frames a second, not {self.rate}")
        option_at_least(0, sinks=self.sinks, context_noise=self.context_noise, temperature=self.temperature)
        option_at_least(1, max_new_tokens=self.max_new_tokens)
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UserError(f"--top-p must lie above 0, up to 1, not {self.top_p}")
        if self.labels == []:
            raise UserError("--labels must name at least one class, such as 0,1,2")
        if self.block is not None:
            parse_dims(self.block, "--block")
        kept = [kept for kept in (self.keep_blocks, self.keep_frames) if kept is not None]
        if (self.prefix is None) != (not kept) or len(kept) > 1:
            raise UserError(
                "--prefix FILE and --keep-blocks N (of a video --keep-frames N) must be given together"
            )
        if self.count is not None:
            self._check_set(self.count)
        elif self.balanced:
            raise UserError("--balanced is for a set of images: give --count N too")
        elif self.out is not None and Path(self.out).suffix.lower() == ".npz":
            raise UserError(f"--out {self.out} is for a set of images: give --count N, or write a .png file")
        else:
            option_suffix(".png", ".gif", ".mp4", ".txt", out=self.out)

    @property
    def of_video(self) -> list[str]:
        """Options that were given and are for models of video alone."""
        given = _given(self, ("keep_frames", "frames", "window", "sinks", "context_noise", "rate"))
        return given + self._out_as(".gif", ".mp4")

    @property
    def of_text(self) -> list[str]:
        """Options that were given and are for models of text alone."""
        return _given(self, ("prompt", "max_new_tokens", "temperature", "top_p")) + self._out_as(".txt")

    @property
    def not_of_text(self) -> list[str]:
        """Options that were given and mean nothing to models of text."""
        pictured = ("labels", "count", "prefix", "keep_blocks", *GUIDING)
        return _given(self, pictured) + self.of_video + self._out_as(".png")

    @property
    def path(self) -> Path:
        """Where pictures go."""
        return Path(self.out or "samples.png")

    def _out_as(self, *suffixes: str) -> list[str]:
        """--out, as typed, if it is such a file."""
        return [f"--out {self.out}"] * (self.out or "").lower().endswith(suffixes)

    def _check_set(self, count: int) -> None:
        option_at_least(1, count=count)
        if self.prefix is not None:
            raise UserError("--count draws whole images: it takes neither --prefix nor --keep-blocks")
        if self.samples is not None:
            raise UserError("--samples is for a picture of samples: leave it out, --count says how many")
        path = self.path
        if path.suffix.lower() not in (".npz", "") or path.name in ("", ".."):
            raise UserError(
                "with --count, --out must be an .npz file, or a folder for PNGs (a path without suffix), "
                f"not {str(path)!r}"
            )


def _given(options: RunOptions, names: Sequence[str]) -> list[str]:
    """Those of the options that have a value, as they are typed."""
    return [f"--{name.replace('_', '-')}" for name in names if getattr(options, name) not in (None, False)]
