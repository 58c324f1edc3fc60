"""Scores of models of text: likelihoods of unseen texts, and the texts that they generate."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..data.shakespeare import SHAKESPEARE
from ..data.texts import WrappedTexts, open_texts
from ..diffusion.ordered_likelihood import check_order_fits
from ..diffusion.orders import RANDOM, Order, order_name
from ..diffusion.text_likelihood import Estimate
from ..generation.batches import Sampling
from ..generation.sizes import require_sampling_memory
from ..model.layout import Layout
from ..pipelines.layouts import requested_text_layout
from ..pipelines.text import ACDiTTextPipeline
from ..utils.errors import UserError
from .likelihood import Scoring, likelihood, spread
from .model_evaluation import ModelSettings, evaluate_model, versions
from .report import Report, Score, Series, format_table
from .text_comparison import TextComparison, check_names, check_possible, compare_texts
from .text_samples import RealTexts, TextSamples, TextSource, generated_texts, real_sequences
from .training_data import describe_training_data, is_trained_on

SOME_WORDS = "enough words for any metric of texts"  # in place of a text that is generated later
KEPT = 64  # bytes of a token of a generated text: its id as a number of Python, and its letters
GENERATED_TEXTS = 64  # number of texts that are generated, unless the user says otherwise
LIKELIHOOD_SCORES = ("nats_per_token", "standard_error", "perplexity", "bits_per_byte")
SPREAD_SCORES = ("spread", "spread_of_all", "spread_low", "spread_high")


@dataclass(frozen=True)
class Generation:
    """Texts that are generated to be scored.

    Attributes:
        count: number of texts.
        comparison: features and metrics.
        temperatures: temperatures of the sampling, each of which gives a point of a curve; empty = that of
            the model's scheduler alone.
    """

    count: int
    comparison: TextComparison
    temperatures: tuple[float, ...] = ()


def evaluate_texts(
    pipeline: ACDiTTextPipeline,
    blocks: Sequence[int],
    sampling: Sampling,
    *,
    source: TextSource | None = None,
    sequences: int | None = None,
    draws: int = 4,
    estimate: Estimate = "times",
    order: Order = RANDOM,
    times: bool = False,
    generation: Generation | None = None,
) -> list[Report]:
    """Measure the likelihood of unseen texts by block size, and score generated texts on request.

    Args:
        pipeline: pipeline of the model.
        blocks: block sizes in tokens; each gives a report of likelihoods, and one of generated texts.
        sampling: seed of the draws, sequences per forward pass, and settings for the generation of texts.
        source: source of the unseen texts; None = the held-out works of Shakespeare.
        sequences: number of sequences whose likelihood is measured; None = all, 0 = no likelihoods.
        draws: number of estimates of each sequence's likelihood, where it is not exact.
        estimate: method of estimation, see `text_nelbo`.
        order: order in which the tokens of a block are revealed, for the likelihoods, see `text_bounds`.
        times: whether to measure the spread of a block's loss, by range of times.
        generation: number of texts to generate, and what is measured on them; None = no texts.

    Raises:
        UserError: if there are no texts, a block does not fit, the model's data set is not the default, or a
            metric cannot be computed, or the order does not fit the model or a block.
    """
    for block in blocks:
        check_order_fits(order, pipeline.transformer, block)
    if source is None and not is_trained_on(pipeline, SHAKESPEARE):
        raise UserError(
            "without --data, only models of shakespeare can be scored, but "
            f"{describe_training_data(pipeline)}: give held-out texts of its data with --data"
        )
    length = pipeline.layout.num_tokens
    layouts = [Layout((length,), (block,)) for block in blocks]
    if generation is not None:
        check_names(generation.comparison)
        for layout in layouts:
            require_sampling_memory(
                pipeline, layout, count=generation.count, batch=sampling.batch, kept=KEPT * length
            )
    used = source or TextSource(SHAKESPEARE)
    data = open_texts(used.config(), pipeline.tokenizer, length, held_out=used.held_out)
    name = f"{used.name}, held out" if used.held_out else used.name
    real = None
    if generation is not None:
        count = generation.count
        real = real_sequences(data, count, name)
        texts = TextSamples([SOME_WORDS] * count, [torch.zeros(1)] * count, "generated texts")
        check_possible(texts, real, generation.comparison)
    metrics = ("likelihood", "spread") if times else ("likelihood",)
    reports = []
    for layout in layouts:
        if sequences != 0:
            settings = ModelSettings(
                sampling,
                count=sequences,
                draws=draws,
                estimate=estimate,
                order=order,
                block=layout.block_tokens,
            )
            report = evaluate_model(pipeline, data, metrics, settings)
            reports.append(replace(report, samples={**report.samples, "name": name}))
        if generation is not None:
            reports.append(generation_report(pipeline, real, layout, sampling, generation))
    return reports


def measure_texts(
    pipeline: ACDiTTextPipeline, data: WrappedTexts, settings: ModelSettings, metrics: Sequence[str]
) -> Report:
    """Measure the metrics `likelihood` and `spread` of `MODEL_METRICS`; see `evaluate_model`.

    The sequences are the first of a fixed shuffled order of the data.
    """
    layout = requested_text_layout(pipeline.layout, settings.block)
    count = min(settings.count or len(data), len(data))
    sampling = settings.sampling
    order = settings.order
    scoring = Scoring(count, sampling.batch, settings.draws, settings.estimate, sampling.seed, order)
    scores: list[Score] = []
    series: list[Series] = []
    facts: dict[str, Any] = {}
    counts: dict[str, Any] = {}
    notes: tuple[str, ...] = ()
    if "likelihood" in metrics:
        row = likelihood(pipeline, data, layout, scoring)
        present = [name for name in LIKELIHOOD_SCORES if row[name] is not None]
        scores += [Score(name, row[name], samples=count) for name in present]
        facts = {"order": order_name(order), "estimate": row["estimate"], "draws": row["draws"]}
        counts = {"tokens": row["tokens"], "bytes": row["bytes"]}
        notes = () if row["bytes"] else ("no bits per byte: end tokens stand for no bytes",)
    if "spread" in metrics:
        row = spread(pipeline, data, layout, scoring)
        values = (row[key] for key in ("deviation", "deviation_of_all", "low", "high"))
        scores += [Score(name, value) for name, value in zip(SPREAD_SCORES, values, strict=True)]
        series = _spread_series(row["ranges"])
    return Report(
        tuple(scores),
        tuple(series),
        settings={"block": layout.block_tokens, **facts, "seed": scoring.seed},
        samples={"name": data.source or "texts", "count": count, **counts},
        versions=versions(),
        notes=notes,
    )


def generation_report(
    pipeline: ACDiTTextPipeline,
    real: RealTexts | None,
    layout: Layout,
    sampling: Sampling,
    generation: Generation,
) -> Report:
    """Report scores of generated texts beside those of real ones, at one or several temperatures.

    Args:
        pipeline: pipeline of the model.
        real: real texts, as many as are generated; None = no comparison.
        layout: layout whose blocks are used.
        sampling: seed, texts per batch and steps.
        generation: number of texts, temperatures and metrics.
    """
    settings = {"block": layout.block_tokens, "steps": sampling.steps}

    def report_at(temperature: float | None) -> Report:
        samples = generated_texts(
            pipeline,
            generation.count,
            sampling,
            block=layout.block_tokens,
            temperature=temperature,
            ranks=generation.comparison.ranks,
        )
        report = compare_texts(samples, real, generation.comparison)
        return replace(report, settings={**report.settings, **settings})

    if not generation.temperatures:
        return report_at(None)
    reports = [report_at(temperature) for temperature in generation.temperatures]
    return temperature_series(generation.temperatures, reports)


def temperature_series(temperatures: Sequence[float], reports: Sequence[Report]) -> Report:
    """Return the scores of several temperatures as series of one report.

    Scores that are missing at one of the temperatures are left out.

    Args:
        temperatures: the temperatures.
        reports: report of each temperature.
    """
    series = []
    values = [{(score.metric, score.features): score for score in report.scores} for report in reports]
    for (metric, features), score in values[0].items():
        if all((metric, features) in each for each in values):
            series.append(
                Series(
                    metric,
                    "temperature",
                    tuple(temperatures),
                    tuple(each[metric, features].value for each in values),
                    features,
                    None if score.real is None else (score.real,) * len(temperatures),
                )
            )
    notes = tuple(
        f"temperature {temperature:g}: {note}"
        for temperature, report in zip(temperatures, reports, strict=True)
        for note in report.notes
    )
    same = len({report.notes for report in reports}) == 1
    return replace(reports[0], scores=(), series=tuple(series), notes=reports[0].notes if same else notes)


def text_table(reports: Sequence[Report]) -> str:
    """Format reports of text as tables that fit the width of a terminal, followed by their notes."""
    likelihoods = [
        report for report in reports if any(score.metric == "perplexity" for score in report.scores)
    ]
    tables = []
    if likelihoods:
        in_order = any(report.settings["order"] != RANDOM for report in likelihoods)
        columns = ("block", *(["order"] if in_order else []), "estimate")
        rows = [
            {key: report.settings[key] for key in columns} | _row(report, LIKELIHOOD_SCORES)
            for report in likelihoods
        ]
        tables.append(format_table(rows))
    spreads = [{"block": report.settings["block"]} | _row(report, SPREAD_SCORES) for report in likelihoods]
    if spreads and any(report.series for report in likelihoods):
        tables.append(format_table(spreads))
    for report in reports:
        if report in likelihoods:
            continue
        block = report.settings.get("block")
        heading = [] if block is None else [f"{report.samples['count']} generated texts, blocks of {block}"]
        rows = _series_rows(report.series)
        shown = [format_table(rows)] if rows else []
        tables.append("\n".join([*heading, *shown, *filter(None, [report.table()])]))
    notes = [note for report in likelihoods for note in report.notes]
    return "\n\n".join([*tables, *dict.fromkeys(notes)])


def _row(report: Report, names: Sequence[str]) -> dict[str, Any]:
    """Return the values of scores by name; nothing for those that are missing."""
    values = {score.metric: score.value for score in report.scores}
    return {name: values.get(name, "") for name in names}


def _series_rows(series: Sequence[Series]) -> list[dict[str, Any]]:
    """Return a row for each series, with a column for each position and for real data."""
    return [
        {
            "metric": each.metric,
            "features": each.features or "",
            **{f"{position:g}": value for position, value in zip(each.positions, each.values, strict=True)},
            "real": "" if each.real is None else each.real[0],
        }
        for each in series
    ]


def _spread_series(ranges: Sequence[dict[str, float]]) -> list[Series]:
    """Return the spread of every range of times: a series for each lower end, over the upper ends."""
    series = []
    for low in dict.fromkeys(each["low"] for each in ranges):
        rows = [each for each in ranges if each["low"] == low]
        ends, values = (tuple(row[key] for row in rows) for key in ("high", "deviation"))
        series.append(Series(f"spread_from_{low:.2f}", "upper end of the times", ends, values))
    return series
