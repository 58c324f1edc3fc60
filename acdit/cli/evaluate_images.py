"""`acdit evaluate` with a model of images: its options, and what it does. Torch loads when it runs."""

from dataclasses import dataclass
from typing import ClassVar

from ..model.layout import dims, parse_dims
from ..utils.checks import option_suffix
from ..utils.ranges import Count
from .model_options import GuidedOptions, block_of
from .score_files import check_score_file, write_scores


@dataclass
class ImageEvaluateOptions(GuidedOptions):
    """Score a model's digits with an independent judge, as a table and as JSON."""

    example: ClassVar[str] = "acdit evaluate --model runs/mnist --block 8x8,4x4,2x2 --out scores.json"

    samples: Count | None = None
    """Images to score; as many as there are held-out digits when left out."""
    block: list[str] | None = None
    """Block sizes to compare, such as 8x8,4x4,2x2; the model's own when left out."""
    out: str | None = None
    """The JSON file to write."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for block in self.block or ():
            block_of(block)
        option_suffix(".json", out=self.out)


def run(options: ImageEvaluateOptions) -> None:
    """Score digits, one row a block size."""
    check_score_file(options.out)
    from ..evaluation.digits import evaluate_pipeline, score_table
    from ..pipelines.image import ACDiTImagePipeline
    from .open_model import open_guided, sampling_of

    pipeline = open_guided(options, ACDiTImagePipeline)
    blocks = [parse_dims(block, "--block") for block in options.block or [dims(pipeline.layout.block)]]
    for block in blocks:
        pipeline.layout.with_block(block)  # all of them tile the grid, or none is drawn
    rows = evaluate_pipeline(pipeline, blocks, sampling_of(options, pipeline), options.samples)
    print(score_table(rows))
    write_scores(options.model, rows, options.out)
