"""Reports of scores: as tables, and as values of JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from ..utils.names import printable, shortened

Better = Literal["lower", "higher", "near real"]
MOST_ROWS = 20  # rows of a table that are printed
WIDEST = 40  # characters of a name in a table that are printed


@dataclass(frozen=True)
class Interval:
    """Interval of a score.

    Attributes:
        low: lower bound.
        high: upper bound.
        level: nominal coverage, such as 0.95.
        estimand: value that the interval covers, in words.
    """

    low: float
    high: float
    level: float
    estimand: str


@dataclass(frozen=True)
class Score:
    """Value of a metric.

    Attributes:
        metric: name of the metric, such as `frechet_distance`.
        value: value of the samples or of the model.
        features: name of the features in `Report.features`; None for metrics that need none.
        real: value that real data reach at the same counts; None if it was not measured.
        better: which values are better.
        samples: number of samples.
        reference: number of reference items; None for metrics without a reference.
        interval: interval of the value; None if none was requested, or none is known to be right.
    """

    metric: str
    value: float
    features: str | None = None
    real: float | None = None
    better: Better = "lower"
    samples: int | None = None
    reference: int | None = None
    interval: Interval | None = None


@dataclass(frozen=True)
class Series:
    """Values of a metric along an axis, such as the frames of a clip.

    Attributes:
        metric: name of the metric.
        axis: name of the axis, such as `frame`.
        positions: positions on the axis.
        values: value at each position.
        features: name of the features in `Report.features`; None for metrics that need none.
        real: values that real data reach; None if they were not measured.
    """

    metric: str
    axis: str
    positions: tuple[float, ...]
    values: tuple[float, ...]
    features: str | None = None
    real: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Table:
    """Table of values beside the scores, such as those of every class.

    Attributes:
        name: name of the table, such as `classes`.
        columns: names of the columns.
        rows: values of each row, None where there is none.
        printed: whether `Report.table` shows the table, or its first `MOST_ROWS` rows; otherwise only JSON
            does.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | float | None, ...], ...]
    printed: bool = True

    def lines(self) -> list[str]:
        """Return the table as text, without the rows beyond the first `MOST_ROWS`."""
        shown = [dict(zip(self.columns, map(_cell, row), strict=True)) for row in self.rows[:MOST_ROWS]]
        rest = len(self.rows) - MOST_ROWS
        more = (
            [f"the first {MOST_ROWS} of {len(self.rows):,} {self.name}; JSON holds all"] if rest > 0 else []
        )
        return ["", *format_table(shown).splitlines(), *more] if shown else []


@dataclass(frozen=True)
class Report:
    """Scores of samples or of a model, with everything that they depend on.

    Attributes:
        scores: the scores.
        series: values along an axis.
        features: description of each feature extractor by name, see `FeatureInfo`.
        settings: settings of the samples or of the model, such as block size, guidance and seed.
        samples: description of the samples.
        reference: description of the reference; empty if there is none.
        versions: versions of the programs.
        notes: lines for the user, such as why a value is missing.
        tables: tables beside the scores.
    """

    scores: tuple[Score, ...]
    series: tuple[Series, ...] = ()
    features: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    samples: Mapping[str, Any] = field(default_factory=dict)
    reference: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()

    def score(self, metric: str, features: str | None = None) -> Score:
        """Return the score of a metric, on the given features if there are several.

        Raises:
            KeyError: if there is no such score.
        """
        for score in self.scores:
            if score.metric == metric and features in (None, score.features):
                return score
        raise KeyError(f"{metric} on {features}")

    def to_json(self) -> dict[str, Any]:
        """Return the report as a value of JSON."""
        return asdict(self)

    def table(self) -> str:
        """Format the scores as a table that fits the width of a terminal, with other tables and the notes."""
        rows: list[dict[str, object]] = [
            {
                "metric": score.metric,
                "features": score.features or "",
                "value": score.value,
                "interval": _shown(score.interval),
                "real": "" if score.real is None else score.real,
                "better": score.better,
            }
            for score in self.scores
        ]
        empty = [name for name in ("features", "interval", "real") if all(row[name] == "" for row in rows)]
        rows = [{name: value for name, value in row.items() if name not in empty} for row in rows]
        others = [line for table in self.tables if table.printed for line in table.lines()]
        notes = ["", *self.notes] if others and self.notes else self.notes
        return "\n".join([*([format_table(rows)] if rows else []), *others, *notes])


def joined(*reports: Report) -> Report:
    """Return one report of the same samples with the scores, series, tables and notes of several.

    Of a setting that several reports state, the value of the first counts.
    """
    first = reports[0]
    return replace(
        first,
        scores=tuple(score for report in reports for score in report.scores),
        series=tuple(series for report in reports for series in report.series),
        features={name: info for report in reports for name, info in report.features.items()},
        settings={key: value for report in reversed(reports) for key, value in report.settings.items()},
        notes=tuple(dict.fromkeys(note for report in reports for note in report.notes)),
        tables=tuple(table for report in reports for table in report.tables),
    )


def format_table(rows: Sequence[Mapping[str, object]]) -> str:
    """Format rows as a plain text table, with text aligned left and numbers aligned right.

    The columns are the keys of the first row.
    """
    columns = []
    for name in rows[0]:
        values = [row[name] for row in rows]
        cells = [name, *(f"{value:.4g}" if isinstance(value, float) else str(value) for value in values)]
        width = max(map(len, cells))
        text = all(isinstance(value, str) for value in values)
        columns.append([cell.ljust(width) if text else cell.rjust(width) for cell in cells])
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def _cell(value: str | float | None) -> str | float:
    """Return a value as a table shows it: names in one line, and long ones shortened."""
    if value is None:
        return "-"
    return shortened(printable(value), WIDEST) if isinstance(value, str) else value


def _shown(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval.low:.4g} to {interval.high:.4g}"
