"""Run `acdit evaluate` with images and video. Imports torch only when it runs."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..utils.errors import UserError, require
from ..utils.files import check_writable
from ..utils.progress_bar import ProgressBar
from .evaluate_options import PixelEvaluateOptions
from .score_files import check_score_file, write_reports

if TYPE_CHECKING:
    from ..evaluation.comparison import Comparison
    from ..evaluation.generated_samples import GeneratedSamples
    from ..evaluation.real_sets import Geometry, RealSets
    from ..evaluation.report import Report
    from ..evaluation.samples import Samples
    from ..evaluation.sweeps import SweepRow
    from ..generation.batches import Sampling
    from ..pipelines.pixel_pipeline import ACDiTPipeline
    from ..utils.ranks import Ranks

Score = Callable[["Sampling", str | None], "tuple[Report, GeneratedSamples, RealSets]"]
"""Function of sampling settings and a block size that returns a report, the samples and the real data."""


def run_pixels(
    options: PixelEvaluateOptions,
    prepare: "Callable[[Ranks], tuple[ACDiTPipeline, Score]]",
    blocks: Sequence[str] | None = None,
    plot: "Callable[[Report, Path], None] | None" = None,
) -> None:
    """Score finished samples, or a model in all settings of a sweep; the main rank prints and writes.

    Args:
        options: options of the command.
        prepare: function that opens the model and its real data, and returns how a setting is scored.
        blocks: block sizes to compare; None = the model's own.
        plot: function that plots a single report; None = only sweeps can be plotted.
    """
    _check_files(options, plot is not None)
    from ..evaluation.sweeps import plot_sweep, sweep_table
    from ..utils.ranks import launched

    ranks = launched()
    with ranks.joined():
        if options.finished is not None:
            rows = [_score_finished(options, ranks)]
            if options.out is not None:
                _write(options, rows, ranks)
        else:
            pipeline, score = prepare(ranks)
            swept = ({"block": list(blocks)} if blocks and len(blocks) > 1 else {}) | dict(options.sweeps)
            rows = _score_settings(options, pipeline, score, swept, ranks)
        if not ranks.main:
            return
        if len(rows) > 1:
            print(
                "\n".join(
                    [sweep_table(rows), *dict.fromkeys(note for row in rows for note in row.report.notes)]
                )
            )
        else:
            print(rows[0].report.table())
        if options.plot is not None and plot is not None and len(rows) == 1:
            plot(rows[0].report, Path(options.plot))
        elif options.plot is not None:
            plot_sweep(rows, Path(options.plot))
        if options.out is None:
            _write(options, rows, ranks)
        if isinstance(options.samples, int):
            note = f"acdit: --samples {options.samples} is an old name: write --count {options.samples}"
            print(note, file=sys.stderr)


def comparison_of(options: PixelEvaluateOptions, ranks: "Ranks") -> "Comparison":
    """Return how samples and real data are compared."""
    from ..evaluation.comparison import Comparison
    from .open_model import device_of

    return Comparison(
        options.features,
        options.metrics,
        options.intervals,
        options.trust_features,
        options.seed,
        options.batch,
        device_of(options.device),
        ranks,
    )


def open_sets(
    options: PixelEvaluateOptions,
    geometry: "Geometry",
    pipeline: "ACDiTPipeline | None" = None,
    count: int | None = None,
) -> "RealSets":
    """Open the real data of --data and --real, or those that a model was trained on.

    Args:
        options: options of the command.
        geometry: shape that the data are brought to.
        pipeline: pipeline of the model that is scored; None for finished samples.
        count: number of finished samples.

    Raises:
        UserError: if the data are not known, or cannot be opened.
    """
    from ..evaluation.real_sets import NO_VALUES, open_real, open_real_sets
    from ..evaluation.training_data import built_in_data, describe_training_data, recorded_data

    source = options.data
    recorded = None if pipeline is None else recorded_data(options.model)
    if source is None and pipeline is not None:
        source = built_in_data(pipeline) if recorded is None else recorded.source
        if source is None:
            raise UserError(
                "without --data, only models of built-in data sets can be scored, and training runs whose "
                f"data are still there, but {describe_training_data(pipeline)}: give real data of its kind "
                "with --data"
            )
    assert source is not None  # finished samples have --data
    sets = open_real_sets(
        source, geometry, split=options.split, count=count or options.drawn, recorded=recorded
    )
    if options.neighbours is not None and sets.searched is None:
        raise UserError(f"--neighbours needs real data with their pictures: {source} holds statistics alone")
    if options.real is not None:
        notes = tuple(note for note in sets.notes if NO_VALUES not in note)
        sets = replace(sets, real=open_real(options.real, geometry, sets.count), notes=notes)
    return sets


def _check_files(options: PixelEvaluateOptions, plots_single: bool) -> None:
    """Check that all files can be written before the work that would be lost."""
    check_score_file(options.out)
    for path in filter(None, (options.plot, options.neighbours)):
        check_writable(Path(path))
    if options.plot is not None:
        require("matplotlib", "examples")
        if not options.sweep and not plots_single:
            raise UserError(
                "--plot shows the scores of --sweep: add --sweep, such as --sweep guidance=1,1.5,2"
            )


def _score_settings(
    options: PixelEvaluateOptions,
    pipeline: "ACDiTPipeline",
    score: Score,
    swept: Mapping[str, Sequence[Any]],
    ranks: "Ranks",
) -> "list[SweepRow]":
    """Score every combination of settings; the JSON file holds those so far at any time."""
    from ..evaluation.sweeps import SweepRow
    from .open_model import sampling_of
    from .swept_settings import SweptSettings

    sampling, settings = sampling_of(options, pipeline), SweptSettings(options.model, swept)
    rows: list[SweepRow] = []
    for number, values in enumerate(settings.combinations):
        settings.load(pipeline, values)
        changed = {key: values[key] for key in ("guidance", "steps") if key in values}
        report, samples, sets = score(replace(sampling, **changed), values.get("block"))
        with samples:
            rows.append(SweepRow(values, replace(report, settings={**report.settings, **values})))
            if options.out is not None:
                _write(options, rows, ranks)
            if ranks.main and values:
                shown = ", ".join(
                    f"{key} {'none' if value is None else value}" for key, value in values.items()
                )
                first = report.scores[0]
                line = (
                    f"{number + 1} of {len(settings.combinations)}: {shown}: {first.metric} {first.value:.4g}"
                )
                ProgressBar.write(line, file=sys.stderr)
            if options.neighbours is not None:
                _save_neighbours(options, samples, sets, ranks)
    return rows


def _score_finished(options: PixelEvaluateOptions, ranks: "Ranks") -> "SweepRow":
    """Score finished samples."""
    from ..evaluation.comparison import compare, fitted_samples, with_names
    from ..evaluation.real_sets import Geometry
    from ..evaluation.sweeps import SweepRow

    assert options.finished is not None and options.data is not None  # checked by the options
    samples = fitted_samples(options.finished, options.data)
    channels, *frames, _, side = samples.shape
    geometry = Geometry(side, channels, *frames, stride=getattr(options, "stride", None))
    sets = open_sets(options, geometry, count=len(samples))
    sets = replace(sets, notes=(*sets.notes, *with_names(samples, sets.reference)))
    if options.neighbours is not None:
        _save_neighbours(options, samples, sets, ranks)
    return SweepRow({}, compare(samples, sets, comparison_of(options, ranks)))


def _save_neighbours(
    options: PixelEvaluateOptions, samples: "Samples", sets: "RealSets", ranks: "Ranks"
) -> None:
    """Draw the samples nearest to real data with their neighbours, by pixels and by the named features."""
    from ..evaluation.features.table import open_extractor
    from ..evaluation.neighbour_pictures import draw_neighbours, find_neighbours
    from ..media.images import save_picture, titled
    from .open_model import device_of

    assert options.neighbours is not None and sets.searched is not None  # checked before
    pictures = {}
    for name in dict.fromkeys(("pixels", *(options.features or ()))):
        extractor = open_extractor(
            name, samples.shape, device_of(options.device), trust=options.trust_features
        )
        found = find_neighbours(samples, sets.searched, extractor, batch=options.batch, ranks=ranks)
        pictures[name] = draw_neighbours(found, samples, sets.searched, options.batch, ranks)
    if ranks.main:
        save_picture(titled(pictures), Path(options.neighbours))


def _write(options: PixelEvaluateOptions, rows: "Sequence[SweepRow]", ranks: "Ranks") -> None:
    """Write the JSON of the rows so far, on the main rank."""
    if ranks.main:
        model = None if options.finished is not None else options.model
        write_reports(model, [row.report for row in rows], options.out)
