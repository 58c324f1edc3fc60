"""`acdit evaluate` with a model of text: options and execution. Imports torch only when it runs."""

import sys
from dataclasses import dataclass
from typing import ClassVar, Literal

from ..model.layout import dims, parse_dims
from ..utils.checks import option_suffix
from ..utils.errors import UserError
from ..utils.ranges import Count
from .model_options import RunOptions, block_of
from .score_files import check_score_file, write_scores


@dataclass
class TextEvaluateOptions(RunOptions):
    """Measure the likelihood of held-out texts: those of --data, or works of Shakespeare."""

    example: ClassVar[str] = "acdit evaluate --model shakespeare --block 1,4,16"

    samples: Count | None = None
    """Number of sequences to score; default: all."""
    block: list[str] | None = None
    """Block sizes to compare, such as 1,4,16; default: the model's own."""
    data: str | None = None
    """Texts to score: a file, a folder or a Hugging Face data set; default: the held-out works of
    Shakespeare."""
    split: str | None = None
    """Split of --data, if it has splits; default: validation."""
    text_column: str | None = None
    """Column of the Hugging Face data set that holds texts; default: found by its type."""
    draws: Count = 4
    """Number of estimates of every text's likelihood, where it is not exact."""
    estimate: Literal["times", "counts"] = "times"
    """Estimator: times, the protocol of the papers; counts, less spread, and exact for blocks of up to 4
    tokens."""
    times: bool = False
    """Measure the spread of a block's loss, and the range of times with the least spread."""
    judge: str | None = None
    """External causal language model, by name or path, for the generative perplexity of generated texts."""
    texts: Count | None = None
    """Number of texts to generate for --judge; default: 64."""
    out: str | None = None
    """JSON file to write; default: print the JSON."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for block in self.block or ():
            block_of(block)
        if self.texts is not None and self.judge is None:
            raise UserError("--texts is the number of texts for --judge: add --judge MODEL")
        if self.split is not None and self.data is None:
            raise UserError("--split selects a part of --data: add --data")
        option_suffix(".json", out=self.out)


def run(options: TextEvaluateOptions) -> None:
    """Score texts, with one row per block size."""
    check_score_file(options.out)
    from ..evaluation.texts import GENERATED_TEXTS, evaluate_texts, text_table
    from ..generation.batches import Sampling
    from ..pipelines.text import ACDiTTextPipeline
    from ..utils.progress_bar import ProgressBar
    from .open_model import open_pipeline

    pipeline = open_pipeline(options, ACDiTTextPipeline)
    if options.data is None and pipeline.data_source is None:
        note = "the model does not record its data set; it is scored on the held-out works of Shakespeare"
        ProgressBar.write(note, file=sys.stderr)
    blocks = options.block or [dims(pipeline.layout.block)]
    scores = evaluate_texts(
        pipeline,
        [parse_dims(block, "--block of texts", axes=1)[0] for block in blocks],
        Sampling(options.seed, options.batch, options.steps),
        source=options.data,
        split=options.split,
        text_column=options.text_column,
        sequences=options.samples,
        draws=options.draws,
        estimate=options.estimate,
        times=options.times,
        judge=options.judge,
        texts=options.texts or GENERATED_TEXTS,
    )
    print(text_table(scores))
    write_scores(options.model, scores, options.out)
