"""Training runs of the study of understanding: generators, classifiers and probes on digits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .run_store import RunSpec

HELD_OUT_FRACTION = 0.2  # of the training digits, on which settings are chosen
AUGMENTATION = {
    "shift": 2,
    "rotation": 10,
    "scaling": 0.1,
    "mixup": 0.2,
    "drop_path": 0.1,
    "label_smoothing": 0.1,
}
SHIPPED = "mnist"  # the generator of the package, which has seen all labels


@dataclass(frozen=True)
class Settings:
    """Settings of training a classifier, chosen on a validation part of the training digits.

    Attributes:
        learning_rate: peak learning rate.
        steps: number of training steps.
        augmented: whether images are translated, rotated, scaled and mixed.
    """

    learning_rate: float
    steps: int
    augmented: bool


@dataclass(frozen=True)
class Budget:
    """Sizes of the runs of the study.

    Attributes:
        recipe: recipe of the generators.
        network: size of the network, see `ModelConfig`.
        block: block size of the generators, in tokens.
        whole: block size of the whole image, for noised input.
        pretraining_steps: training steps of a generator.
        batch: images per step.
        labels: numbers of labels per class.
        steps: training steps of the central setting of classifiers, by labels per class.
        probe_steps: training steps of probes, by labels per class.
        timesteps: timesteps of the noised input of probes.
        draws: noise draws of the generative classifier.
        count: number of held-out digits that the generative classifier reads; None = all.
    """

    recipe: str = "mnist"
    network: Mapping[str, int] = field(
        default_factory=lambda: {"num_layers": 4, "hidden_size": 96, "num_heads": 3}
    )
    block: str = "4x4"
    whole: str = "8x8"
    pretraining_steps: int = 2000
    batch: int = 32
    labels: tuple[int, ...] = (10, 50, 400)
    steps: Mapping[int, int] = field(default_factory=lambda: {10: 300, 50: 400, 400: 900})
    probe_steps: Mapping[int, int] = field(default_factory=lambda: {10: 300, 50: 300, 400: 600})
    timesteps: tuple[float, ...] = (0.0, 100.0, 300.0)
    draws: int = 8
    count: int | None = None


QUICK = Budget(
    recipe="digits",
    network={"num_layers": 1, "hidden_size": 16, "num_heads": 1},
    block="2x2",
    whole="4x4",
    pretraining_steps=2,
    batch=4,
    labels=(2,),
    steps={2: 2},
    probe_steps={2: 2},
    timesteps=(100.0,),
    draws=1,
    count=4,
)


def generator_run(budget: Budget, seed: int, *, labelled: bool, one_block: bool = False) -> RunSpec:
    """Return the run of a generator, which sees the labels of the digits or none.

    Without labels, every draw replaces the label by the null label.

    Args:
        budget: sizes of the runs.
        seed: seed of the run.
        labelled: whether it sees the labels.
        one_block: whether the whole image is one block, as for a diffusion transformer (DiT).
    """
    overrides = {
        "model": dict(budget.network),
        "layout": {"blocks": [budget.whole if one_block else budget.block]},
        "diffusion": {"label_dropout": 0.1 if labelled else 1.0},
        "training": {"steps": budget.pretraining_steps, "batch_size": budget.batch},
    }
    kind = f"{'with' if labelled else 'without'}-labels{'-one-block' if one_block else ''}"
    name = f"generator-{kind}-{seed}"
    return RunSpec(budget.recipe, overrides, seed, name)


def classifier_run(
    budget: Budget,
    settings: Settings,
    labels: int,
    seed: int,
    start: RunSpec | str | None,
    *,
    attention: str = "block-causal",
    timestep: float | None = None,
    validation: bool = False,
) -> RunSpec:
    """Return the run of a classifier with few labels.

    Args:
        budget: sizes of the runs.
        settings: settings of training.
        labels: labels per class.
        seed: seed of the run, which also chooses the labelled digits.
        start: generator to start from; None = from scratch.
        attention: attention of the classifier.
        timestep: timestep of noised input; None = clean input.
        validation: whether a part of the training digits is held out, on which settings are chosen.
    """
    overrides = _overrides(budget, labels, timestep, validation) | {
        "training.objective": "classification",
        "training.steps": settings.steps,
        "classifier.attention": attention,
        "optimizer.learning_rate": settings.learning_rate,
        # from scratch, all layers learn at the same rate
        "optimizer.layer_decay": 0.85 if start is not None else 1.0,
    }
    augmentation = AUGMENTATION if settings.augmented else dict.fromkeys(AUGMENTATION, 0)
    overrides |= {f"classifier.{key}": value for key, value in augmentation.items()}
    overrides |= {"training.init_from": start}
    if start is None:
        overrides |= {f"model.{key}": value for key, value in budget.network.items()}
    kind = "scratch" if start is None else "shipped" if start == SHIPPED else "tuned"
    name = f"{kind}-{labels}-{attention}{'' if timestep is None else f'-t{timestep:g}'}-{seed}"
    return RunSpec(f"classify-{budget.recipe}", overrides, seed, name)


def probe_run(
    budget: Budget, labels: int, seed: int, start: RunSpec, *, timestep: float | None = None
) -> RunSpec:
    """Return the run of linear and attention probes at all layers of a frozen generator."""
    overrides = _overrides(budget, labels, timestep, False) | {
        **{f"classifier.{key}": 0 for key in AUGMENTATION},
        "training.objective": "probes",
        "training.steps": budget.probe_steps[labels],
        "training.init_from": start,
        "classifier.probe": "both",
        "classifier.queries": 8,
        "optimizer.learning_rate": 1e-2,
        "optimizer.layer_decay": 1.0,
    }
    name = f"probes-{labels}{'' if timestep is None else f'-t{timestep:g}'}-{seed}"
    return RunSpec(f"classify-{budget.recipe}", overrides, seed, name)


def _overrides(budget: Budget, labels: int, timestep: float | None, validation: bool) -> dict[str, Any]:
    """Return what all classifiers and probes set."""
    values: dict[str, Any] = {
        "layout.blocks": [budget.block if timestep is None else budget.whole],
        "data.labels_per_class": labels,
        "training.batch_size": min(budget.batch, 10 * labels),
        "validation.every": 0,
    }
    if timestep is not None:
        values["classifier.timestep"] = timestep
    if validation:
        values["data.validation_fraction"] = HELD_OUT_FRACTION
    return values
