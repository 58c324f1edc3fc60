"""`acdit evaluate` with a model of images: options and execution. Imports torch only when it runs."""

from dataclasses import dataclass
from typing import ClassVar

from ..model.layout import dims, parse_dims
from ..utils.checks import option_suffix
from ..utils.ranges import Count
from .model_options import GuidedOptions, block_of
from .score_files import check_score_file, write_scores


@dataclass
class ImageEvaluateOptions(GuidedOptions):
    """Score a model's digits with an independent classifier, as a table and as JSON."""

    example: ClassVar[str] = "acdit evaluate --model runs/mnist --block 8x8,4x4,2x2 --out scores.json"

    samples: Count | None = None
    """Number of images to score; default: the number of held-out digits."""
    block: list[str] | None = None
    """Block sizes to compare, such as 8x8,4x4,2x2; default: the model's own."""
    out: str | None = None
    """JSON file to write; default: print the JSON."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for block in self.block or ():
            block_of(block)
        option_suffix(".json", out=self.out)


def run(options: ImageEvaluateOptions) -> None:
    """Score digits, with one row per block size."""
    check_score_file(options.out)
    from ..evaluation.digits import evaluate_pipeline, score_table
    from ..pipelines.image import ACDiTImagePipeline
    from .open_model import open_guided, sampling_of

    pipeline = open_guided(options, ACDiTImagePipeline)
    blocks = [parse_dims(block, "--block") for block in options.block or [dims(pipeline.layout.block)]]
    for block in blocks:
        pipeline.layout.with_block(block)  # all must tile the grid before any is sampled
    rows = evaluate_pipeline(pipeline, blocks, sampling_of(options, pipeline), options.samples)
    print(score_table(rows))
    write_scores(options.model, rows, options.out)
