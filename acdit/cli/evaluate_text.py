"""`acdit evaluate` with a model of text: options and execution. Imports torch only when it runs."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ..diffusion.orders import LEFT, RANDOM, parse_order
from ..model.layout import dims, parse_dims
from ..utils.checks import option_suffix
from ..utils.errors import UserError
from ..utils.progress_bar import ProgressBar
from ..utils.ranges import Count, CountFromZero, NonNegative
from .model_options import RunOptions, block_of, is_finished
from .score_files import check_score_file, write_reports

if TYPE_CHECKING:
    from ..evaluation.report import Report
    from ..evaluation.text_comparison import TextComparison
    from ..evaluation.text_samples import TextSource
    from ..utils.ranks import Ranks


@dataclass
class TextEvaluateOptions(RunOptions):
    """Measure the likelihood of held-out texts, and score generated or finished texts beside real ones.

    The held-out texts are those of --data, or works of Shakespeare. Generated texts (--count) and finished
    ones (--samples) are scored beside real texts of the same lengths.
    """

    example: ClassVar[str] = (
        "acdit evaluate --model shakespeare --block 1,4,16\n"
        "  acdit evaluate --model shakespeare --block 1,4,16 --order left\n"
        "  acdit evaluate --model shakespeare --sequences 0 --count 64 --temperatures 0.7,0.8,0.9,1 "
        "--plot curve.png\n"
        "  acdit evaluate --samples stories.txt --data held-out.txt"
    )

    claims: ClassVar[tuple[str, ...]] = ("draws",)
    sample_suffixes: ClassVar[tuple[str, ...]] = (
        *(".txt", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet"),
    )

    samples: Count | str | None = None
    """Finished texts to score in place of a model: a .txt, .jsonl or .parquet file, or a folder of them, as
    `acdit sample --out` writes them. A number of sequences (deprecated) is that of --sequences."""
    sequences: CountFromZero | None = None
    """Number of sequences whose likelihood is measured, 0 = none; default: all."""
    count: Count | None = None
    """Number of texts to generate and score; default: none, or 64 if an option needs them. Of finished texts:
    number that is scored; default: all."""
    block: list[str] | None = None
    """Block sizes to compare, such as 1,4,16; default: the model's own."""
    data: str | None = None
    """Real texts: a file, a folder, a Hugging Face data set, or shakespeare, whose held-out works are the
    default."""
    split: str | None = None
    """Split of --data, if it has splits; default: validation."""
    text_column: str | None = None
    """Column of --data and --samples that holds texts; default: the only column of texts."""
    special_tokens: bool | None = None
    """Read special tokens that are spelled in --data, such as <|endoftext|>, as these tokens; default: as in
    the training run that --model names, or no."""
    draws: Count = 4
    """Number of estimates of every text's likelihood, where it is not exact."""
    estimate: Literal["times", "counts"] = "times"
    """Estimator: times, the protocol of the papers; counts, less spread, and exact for blocks of up to 4
    tokens."""
    order: str | None = None
    """Order in which the tokens of a block are revealed: random (default; its likelihood is a bound), left,
    right, lowest-entropy, or the positions of a block, such as 1,0,2, whose likelihoods are exact. Generated
    texts are sampled in it too."""
    times: bool = False
    """Measure the spread of a block's loss, and the range of times with the least spread."""
    judge: str | None = None
    """External causal language model, by name or path, for the generative perplexity of texts."""
    texts: Count | None = None
    """Deprecated name of --count."""
    features: list[str] | None = None
    """Features of texts whose distributions are compared; default: minilm, if its package is installed."""
    metrics: list[str] | None = None
    """Metrics of texts, such as distinct_2,self_repetition,frechet_distance; default: all that can be
    computed."""
    temperatures: list[NonNegative] | None = None
    """Sampling temperatures of a curve, such as 0.7,0.8,0.9,1; each costs --count texts."""
    plot: str | None = None
    """PNG file to write: scores over entropy at these temperatures."""
    out: str | None = None
    """JSON file to write; default: print the JSON."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for block in self.block or ():
            block_of(block)
        if self.order is not None:
            parse_order(self.order, "--order")
        option_suffix(".json", out=self.out)
        option_suffix(".png", plot=self.plot)
        if self.split is not None and self.data is None:
            raise UserError("--split selects a part of --data: add --data")
        if self.text_column is not None and self.data is None:
            raise UserError("--text-column names a column of --data: add --data")
        if self.special_tokens is not None and self.data is None:
            raise UserError("--special-tokens is for reading --data: add --data")
        if self.texts is not None and self.count is not None:
            raise UserError("--texts is the former name of --count: leave it out")
        if self.plot is not None and not self.temperatures:
            raise UserError("--plot shows scores over temperatures: add --temperatures 0.7,0.8,0.9,1")
        if isinstance(self.samples, str):
            self._check_finished()
        elif self.samples is not None and self.sequences is not None:
            raise UserError("--samples NUMBER is the former name of --sequences: leave it out")
        if self.steps is not None and not self.generates:
            raise UserError("--steps is for generated texts, not likelihoods: add --count, or leave it out")
        if self.sequences == 0 and (self.draws, self.estimate) != (type(self).draws, type(self).estimate):
            raise UserError("--draws and --estimate are for likelihoods: leave them out, or --sequences 0")
        if self.times and self.sequences == 0:
            raise UserError("--times is measured on sequences: leave out --sequences 0")
        if self.times and self.order not in (None, RANDOM):
            raise UserError("--times is measured with tokens masked at random: leave out --order")
        if self.estimate == "counts" and self.order not in (None, RANDOM):
            raise UserError("--estimate is for --order random, other orders are exact: leave it out")
        if self.order == LEFT and self.draws != type(self).draws:
            raise UserError("--draws is for estimates, and --order left is exact: leave it out")

    @classmethod
    def needs_model(cls, values: Mapping[str, Any]) -> bool:
        """Return whether options as typed are for a model, and not for finished texts."""
        return not is_finished(values.get("samples"))

    def _check_finished(self) -> None:
        """Raise UserError for options that need a model, given with finished texts."""
        given = {
            "--model": self.model is not None,
            "--dtype": self.dtype != type(self).dtype,
            "--sequences": self.sequences is not None,
            "--block": self.block is not None,
            "--steps": self.steps is not None,
            "--temperatures": self.temperatures is not None,
            "--times": self.times,
            "--order": self.order is not None,
            "--draws": self.draws != type(self).draws,
            "--estimate": self.estimate != type(self).estimate,
            "--special-tokens": self.special_tokens is not None,
        }
        names = [name for name, is_given in given.items() if is_given]
        if names:
            raise UserError(
                f"{', '.join(names)}: for models, but --samples {self.samples} are finished texts"
            )
        if self.data is None:
            raise UserError("--samples are compared with real texts: name them with --data")

    @property
    def wanted(self) -> int | None:
        """Return the number of texts that is named, by either of its options."""
        return self.count if self.texts is None else self.texts

    @property
    def generates(self) -> bool:
        """Return whether texts of the model are scored."""
        given = (self.wanted, self.judge, self.features, self.metrics, self.temperatures)
        return any(value is not None for value in given)


def run(options: TextEvaluateOptions) -> None:
    """Score a model, with one row per block size, or finished texts."""
    check_score_file(options.out)
    if options.sequences == 0 and not options.generates:
        raise UserError(
            "--sequences 0 leaves nothing to measure: add --count, the number of texts to generate"
        )
    from ..evaluation.temperature_plot import check_plot, plot_temperatures
    from ..evaluation.texts import text_table
    from ..utils.ranks import launched

    plot = None if options.plot is None else Path(options.plot)
    check_plot(plot, options.metrics)
    finished, ranks = isinstance(options.samples, str), launched()
    with ranks.joined():
        reports = _score_finished(options, ranks) if finished else _score_model(options, ranks)
        if not ranks.main:
            return
        print(text_table(reports))
        write_reports(None if finished else options.model, reports, options.out)
        if plot is not None:
            plot_temperatures(reports, plot)


def _score_model(options: TextEvaluateOptions, ranks: "Ranks") -> "list[Report]":
    from ..diffusion.masked_schedulers import ConfidenceScheduler
    from ..diffusion.ordered_schedulers import OrderedScheduler
    from ..diffusion.schedulers import masked_scheduler
    from ..evaluation.texts import GENERATED_TEXTS, Generation, evaluate_texts
    from ..generation.batches import Sampling
    from ..pipelines.text import ACDiTTextPipeline
    from .open_model import open_pipeline

    for old, new, value in (
        ("--samples NUMBER", "--sequences", options.samples),
        ("--texts", "--count", options.texts),
    ):
        if value is not None and ranks.main:
            ProgressBar.write(f"{old} is deprecated: write {new} {value}", file=sys.stderr)
    pipeline = open_pipeline(options, ACDiTTextPipeline)
    if options.special_tokens and not pipeline.tokenizer.end:
        raise UserError("--special-tokens is for tokenizers that have some: leave it out")
    if options.estimate == "counts" and pipeline.transformer.config["time_conditioning"]:
        raise UserError("--estimate counts is for networks without time conditioning: leave it out")
    if options.data is None and pipeline.data_source is None and ranks.main:
        note = "the model does not record its data set; it is scored on the held-out works of Shakespeare"
        ProgressBar.write(note, file=sys.stderr)
    generation = None
    if options.generates:
        generation = Generation(
            options.wanted or GENERATED_TEXTS, _comparison(options, ranks), tuple(options.temperatures or ())
        )
    order = RANDOM if options.order is None else parse_order(options.order, "--order")
    ordered = isinstance(pipeline.scheduler, OrderedScheduler | ConfidenceScheduler)
    if generation is not None and (order != RANDOM or (options.order is not None and ordered)):
        name = "first-hitting" if order == RANDOM else order
        pipeline.scheduler = masked_scheduler(name, pipeline.scheduler, "--order")
    blocks = options.block or [dims(pipeline.layout.block)]
    number = options.samples if isinstance(options.samples, int) else None
    return evaluate_texts(
        pipeline,
        [parse_dims(block, "--block of texts", axes=1)[0] for block in blocks],
        Sampling(options.seed, options.batch, options.steps),
        source=_source(options),
        sequences=options.sequences if number is None else number,
        draws=options.draws,
        estimate=options.estimate,
        order=order,
        times=options.times,
        generation=generation,
    )


def _score_finished(options: TextEvaluateOptions, ranks: "Ranks") -> "list[Report]":
    from ..evaluation.text_comparison import compare_texts
    from ..evaluation.text_samples import has_columns, real_passages, stored_texts

    source, column = _source(options), options.text_column
    assert source is not None  # checked by the options
    path = Path(os.path.expanduser(str(options.samples)))
    in_samples, in_data = has_columns(str(path)), has_columns(source.name)
    if in_samples != in_data:  # the column is that of the one which has columns
        column, source = (column, replace(source, column=None)) if in_samples else (None, source)
    samples = stored_texts(path, column, options.wanted)
    return [compare_texts(samples, real_passages(source, samples), _comparison(options, ranks))]


def _source(options: TextEvaluateOptions) -> "TextSource | None":
    from ..evaluation.text_samples import TextSource
    from ..evaluation.training_data import recorded_data

    if options.data is None:
        return None
    special = options.special_tokens
    if special is None:
        recorded = recorded_data(options.model)
        special = recorded is not None and recorded.special_tokens
    return TextSource(options.data, options.split, options.text_column, special)


def _comparison(options: TextEvaluateOptions, ranks: "Ranks") -> "TextComparison":
    """Return the features and metrics of the options; this loads the external language model."""
    from ..evaluation.language_model import ExternalLanguageModel
    from ..evaluation.text_comparison import TextComparison
    from ..evaluation.text_metrics import TEXT_METRICS
    from .open_model import device_of

    judged = [name for name, metric in TEXT_METRICS.items() if metric.needs == "evaluator"]
    if options.judge is not None and options.metrics is not None and not {*judged} & {*options.metrics}:
        raise UserError(f"--judge is for {' and '.join(judged)}: add one to --metrics, or leave it out")
    device = device_of(options.device)
    evaluator = None if options.judge is None else ExternalLanguageModel(options.judge, device)
    return TextComparison(
        options.features, options.metrics, evaluator, options.seed, options.batch, device, ranks
    )
