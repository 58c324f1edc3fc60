"""Tables and verdicts of the study of understanding: paired differences over seeds, with 95% t intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from ..evaluation.report import format_table
from ..metrics.paired import MeanInterval, paired_differences
from ..utils.files import whole
from .design import Rows
from .finite_scores import finite, with_interval
from .measurements import markdown_table
from .understanding_plots import plot_labels, plot_layers
from .verdicts import LEAST_SEEDS

ALL = 0  # number of labels per class in rows of generators that saw all labels
TUNED, SCRATCH = "fine-tuned", "from scratch"
TUNED_WIDE, SCRATCH_WIDE = "fine-tuned, bidirectional", "from scratch, bidirectional"
TUNED_DIT = "fine-tuned, noised input"
SHIPPED_TUNED = "fine-tuned shipped generator (saw all labels)"
GENERATIVE = "denoising loss (saw all labels)"
DIT_TIMESTEP = 100.0  # of noised input that is compared with clean input, out of 1000
AIMS = {400: 0.98}  # mean accuracy of fine-tuned networks that is aimed at, by labels per class
PROBES = {"mean": "linear probe", "attention": "attention probe"}


@dataclass(frozen=True)
class Comparison:
    """Comparison of two arms at one number of labels per class.

    Attributes:
        question: what is compared, such as `pretraining as a generator`.
        labels: labels per class.
        control: name of the arm without it.
        difference: what the treatment adds to the accuracy, with its interval over the seeds; None if a run
            of one of them diverged.
    """

    question: str
    labels: int
    control: str
    difference: MeanInterval | None

    def row(self) -> dict[str, Any]:
        """Return the comparison as a row of a table, with accuracies in percent."""
        row = {"question": self.question, "against": self.control, "labels per class": self.labels}
        if self.difference is None:
            unknown = {"difference": "", "95% interval": "", "seeds": 0}
            return row | unknown | {"verdict": "undecided: a run diverged"}
        low, high = self.difference.low, self.difference.high
        interval = "" if low is None or high is None else f"{100 * low:+.2f} to {100 * high:+.2f}"
        return row | {
            "difference": f"{100 * self.difference.mean:+.2f}",
            "95% interval": interval,
            "seeds": self.difference.count,
            "verdict": self.difference.verdict,
        }


def probe_name(probe: str, timestep: float | None) -> str:
    """Return the name of a probe's arm."""
    return f"{probe}, clean input" if timestep is None else f"{probe}, noised input, t={timestep:g}"


def report(
    counts: Sequence[int], num_layers: int, seeds: Sequence[int], rows: Rows, folder: Path
) -> tuple[str, list[Path]]:
    """Write tables and plots, and return the tables.

    Args:
        counts: numbers of labels per class.
        num_layers: number of layers of the probed network.
        seeds: seeds of the study.
        rows: all rows, by arm, labels per class, layer (-1 for the whole network) and seed.
        folder: output folder.
    """
    accuracies = {
        (row["arm"], row["labels"], row["layer"], row["seed"]): row["accuracy"] for row in rows.values()
    }
    arms = list(dict.fromkeys(row["arm"] for row in rows.values() if row["layer"] == -1))
    whole_arms = {
        arm: {labels: [accuracies[arm, labels, -1, seed] for seed in seeds] for labels in given}
        for arm in arms
        if (given := sorted({row["labels"] for row in rows.values() if row["arm"] == arm}))
    }
    probes = list(dict.fromkeys(row["arm"] for row in rows.values() if row["layer"] != -1))
    layers = range(num_layers + 1)
    by_layer = {
        labels: {
            arm: {layer: [accuracies[arm, labels, layer, seed] for seed in seeds] for layer in layers}
            for arm in probes
        }
        for labels in counts
    }
    best = {
        arm: {labels: max(by_layer[labels][arm].values(), key=_mean) for labels in counts} for arm in probes
    }
    tables = [_accuracy_rows(counts, {**whole_arms, **best})]
    compared = [
        comparison.row() for comparison in _comparisons(counts, whole_arms, by_layer, num_layers // 2)
    ]
    files = [folder / name for name in ("understanding.md", "labels.png", "layers.png")]
    constant = {
        arm: fmean(finite(values))
        for arm in whole_arms
        for labels, values in whole_arms[arm].items()
        if not labels and finite(values)
    }
    by_labels = {arm: values for arm, values in (whole_arms | best).items() if len(values) > 1}
    plot_labels(by_labels, constant, files[1])
    plot_layers(by_layer, files[2])
    note = (
        f"{len(compared)} comparisons, each paired over {len(seeds)} seeds. A verdict is what the whole "
        "95% t interval says. Accuracies in %, with 95% t intervals over the seeds. Of probes, the table "
        "shows the layer with the best mean accuracy on the same digits, which favours them over the other "
        "rows; comparisons are of the middle layer. The network that reads clean input was "
        "pretrained on several blocks, the one that reads noised input on a single block."
        f"{_aimed(whole_arms)}{_few(len(seeds))}"
    )
    page = [
        "# Recognition by generators",
        "",
        note,
        "",
        *markdown_table(tables[0]),
        "",
        *markdown_table(compared),
        "",
    ]
    with whole(files[0]) as temporary_path:
        temporary_path.write_text("\n".join(page))
    return "\n\n".join([format_table(tables[0]), format_table(compared), note]), files


def _aimed(arms: Mapping[str, Mapping[int, Sequence[float]]]) -> str:
    """Return a sentence on the mean accuracy of the fine-tuned networks, beside what is aimed at."""
    return "".join(
        f" The mean accuracy with {labels} labels per class after fine-tuning is "
        f"{100 * fmean(values):.2f}%; the aim, set before the runs, is at least {100 * AIMS[labels]:.1f}%."
        for labels, values in arms[TUNED].items()
        if labels in AIMS and len(finite(values)) == len(values)
    )


def _few(seeds: int) -> str:
    """Return a sentence on what few seeds mean for the claims of the paper."""
    if seeds >= LEAST_SEEDS:
        return ""
    return f" The claims of the paper are left undecided with fewer than {LEAST_SEEDS} seeds."


def _accuracy_rows(
    counts: Sequence[int], arms: Mapping[str, Mapping[int, Sequence[float]]]
) -> list[dict[str, str]]:
    """Return a row for each arm, with its accuracy at each number of labels."""
    columns = {ALL: "all labels in pretraining"} | {labels: f"{labels} per class" for labels in counts}
    rows = []
    for arm, by_labels in arms.items():
        row = {"network": arm} | dict.fromkeys(columns.values(), "")
        for labels, values in by_labels.items():
            row[columns[labels]] = with_interval([100 * value for value in values], ".2f", ".2f")
        rows.append(row)
    return rows


def _mean(values: Sequence[float]) -> float:
    """Return the mean of the accuracies of runs that did not diverge; -1 if all did."""
    return fmean(finite(values) or [-1.0])


def _differences(treated: Sequence[float], control: Sequence[float]) -> MeanInterval | None:
    """Return the mean difference of paired accuracies; None if a run diverged."""
    if len(finite([*treated, *control])) < len(treated) + len(control):
        return None
    return paired_differences(treated, control)


def _comparisons(
    counts: Sequence[int],
    arms: Mapping[str, Mapping[int, Sequence[float]]],
    by_layer: Mapping[int, Mapping[str, Mapping[int, Sequence[float]]]],
    layer: int,
) -> list[Comparison]:
    """Return the comparisons of the study, by question and number of labels.

    Probes are compared at one layer and one timestep that do not depend on the accuracies.
    """
    pairs = [
        ("pretraining as a generator", TUNED, SCRATCH),
        ("pretraining as a generator, bidirectional attention", TUNED_WIDE, SCRATCH_WIDE),
        ("bidirectional instead of block-causal attention", TUNED_WIDE, TUNED),
        ("clean instead of noised input, fine-tuned", TUNED, TUNED_DIT),
    ]
    compared = [
        Comparison(
            question,
            labels,
            control,
            _differences(arms[treated][labels], arms[control][labels]),
        )
        for question, treated, control in pairs
        for labels in counts
    ]
    for probe in PROBES.values():
        clean, noised = probe_name(probe, None), probe_name(probe, DIT_TIMESTEP)
        for labels in counts:
            difference = _differences(by_layer[labels][clean][layer], by_layer[labels][noised][layer])
            question = f"clean instead of noised input, {probe} of layer {layer}"
            compared.append(Comparison(question, labels, noised, difference))
    return compared
