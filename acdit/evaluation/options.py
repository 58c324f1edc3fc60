"""What `acdit evaluate` takes, typed. Free of torch."""

from dataclasses import dataclass
from typing import Literal

from ..generation.options import GUIDING, RunOptions, _given
from ..model.layout import parse_dims
from ..utils.checks import option_at_least, option_suffix
from ..utils.errors import UserError


@dataclass
class EvaluateOptions(RunOptions):
    """Score a model's digits with an independent judge, as a table and as JSON.

    A model of video draws clips of moving digits, and continues held-out ones from 4 frames; or is
    compared with real clips, those of --data.
    Of a model of text it is the likelihood of texts that it never saw: those of --data, or the
    held-out works of Shakespeare.
    """

    samples: int | None = None
    """Images to score; as many as there are held-out digits when left out, 500 clips, and all texts."""
    block: list[str] | None = None
    """Block sizes to compare, such as 8x8,4x4,2x2, or 1,4,16 of texts; the model's own when left out."""
    data: str | None = None
    """Texts to score: a file, a folder or a Hugging Face data set; or real clips that a model of video is
    compared with by --features: a folder of videos, with a sub-folder for each class, or a data set."""
    split: str | None = None
    """Split of such a data set; validation when left out."""
    text_column: str | None = None
    """Its column of texts; found by its type when left out."""
    draws: int = 4
    """Estimates of every text's likelihood, where it is not exact."""
    estimate: Literal["times", "counts"] = "times"
    """times: the protocol of the papers; counts: less spread, and exact for blocks of up to 4 tokens."""
    times: bool = False
    """Measure the spread of a block's loss, and the range of times that makes it least."""
    judge: str | None = None
    """A causal language model, by name or path, for the generative perplexity of texts that are written."""
    texts: int | None = None
    """Texts that are written for the judge; 64 when left out."""
    frames: int | None = None
    """Frames of a continued clip; 64 when left out."""
    window: int | None = None
    """Blocks of a continued clip that a block sees behind itself; when left out as many as in training."""
    sinks: int | None = None
    """First blocks of a continued clip that stay visible beyond the window."""
    context_noise: float | None = None
    """Standard deviation of noise on finished blocks of clips that others are to see."""
    features: str | None = None
    """A network of features of clips as a TorchScript file, such as I3D (for clips of 10 frames or more): a
    program, so add --trust-features."""
    stride: int | None = None
    """Frames of a real video from one of a clip to the next, counted at its mean rate; 1 when left out."""
    trust_features: bool = False
    """Run the program in --features, with your rights."""
    plot: str | None = None
    """The .png to write: continued clips over time."""
    out: str | None = None
    """The JSON file to write."""

    def __post_init__(self) -> None:
        super().__post_init__()
        option_at_least(1, samples=self.samples)
        for block in self.block or ():
            parse_dims(block, "--block")
        option_at_least(1, frames=self.frames, window=self.window, draws=self.draws, texts=self.texts)
        option_at_least(1, stride=self.stride)
        if self.stride is not None and self.data is None:
            raise UserError("--stride is that of real videos: give --data too")
        option_at_least(0, sinks=self.sinks, context_noise=self.context_noise)
        if self.texts is not None and self.judge is None:
            raise UserError("--texts are written for a judge: give --judge too")
        if self.split is not None and self.data is None:
            raise UserError("--split is that of a data set: give --data too")
        option_suffix(".json", out=self.out)
        option_suffix(".png", plot=self.plot)
        if self.features is not None and not self.trust_features:
            raise UserError(
                f"--features {self.features} is a program that would run with your rights: add "
                "--trust-features if you know where it comes from"
            )

    @property
    def of_video(self) -> list[str]:
        """Options that were given and are for models of video alone."""
        return _given(self, ("frames", "window", "sinks", "context_noise", "features", "stride", "plot"))

    @property
    def of_text(self) -> list[str]:
        """Options that were given and are for models of text alone."""
        return _given(self, ("text_column", "judge", "texts")) + ["--times"] * self.times

    @property
    def not_of_images(self) -> list[str]:
        """Options that were given and are for models of text and of video."""
        return _given(self, ("data", "split"))

    @property
    def not_of_text(self) -> list[str]:
        """Options that were given and mean nothing to models of text."""
        return _given(self, GUIDING) + self.of_video
