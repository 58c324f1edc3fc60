"""Run a recipe to its end, resuming an earlier run, and export the pipeline."""

import math
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import cast

from ..data.summary import summary
from ..pipelines.block_pipeline import BlockPipeline
from ..pipelines.stored_pipeline import StoredPipeline
from ..utils.entry_files import NETWORK_MODULE, PIPELINE_MODULE
from ..utils.errors import UserError
from ..utils.files import check_replaceable, check_writable, only_process, remove_leftovers, whole
from ..utils.ranks import Ranks, launched
from ..utils.references import load_object
from .card import model_card, write_card
from .checkpoint import prune_checkpoints, validation_losses
from .config import Recipe
from .export import check_scheduler
from .log import LOG_FILE
from .monitoring import Watch, check_trackers
from .objectives import objective_name
from .progress import DivergedError, StepResult, skipped_items
from .recipes import recipe_to_dict
from .run import Run
from .signals import StopRequest
from .validation import Validation, check_validation

EXPORTED = (  # files of an exported pipeline
    rf"README\.md|{PIPELINE_MODULE}\.py|transformer/{NETWORK_MODULE}\.py|"
    r"(model_index|tokenizer)\.json|scheduler/scheduler_config\.json|"
    rf"classifier/{NETWORK_MODULE}\.py|"
    r"(transformer|classifier|vae)/(config\.json|diffusion_pytorch_model[\w.-]*\.(safetensors|json))"
)
GRACE = 30.0  # seconds between a launcher's request to stop a process and its kill


def train(
    recipe: Recipe, *, allow_changes: bool = False, follow: Callable[[int], None] | None = None
) -> Path | None:
    """Run a recipe to its end, resuming an earlier run, on the ranks that a launcher started.

    SIGTERM or SIGINT on any rank ends the run after the current step, with a checkpoint.

    Args:
        recipe: Recipe of the run.
        allow_changes: Whether to resume a run that was started with a different recipe.
        follow: Function that is called after each step with the number of completed steps, in place of a
            progress bar.

    Returns:
        Path of the exported pipeline, or None if the run was stopped before its end.

    Raises:
        DivergedError: If the loss, the gradient or the weights are not finite any more.
        UserError: If the recipe is invalid, differs from that of the run so far, or the run has to halt.
        OSError: If the last checkpoint or the pipeline could not be written.
    """
    ranks = launched()
    world_size = recipe.training.world_size
    if ranks.alone and world_size not in (None, 1):
        raise UserError(
            f"training.world_size is {world_size}, but no launcher started other processes: run "
            f"torchrun --nproc_per_node {world_size} -m acdit train RECIPE, or leave out training.world_size"
        )
    check_trackers(recipe)
    check_validation(recipe)
    objective_name(recipe)
    check_scheduler(recipe)
    with StopRequest() as stop, ranks.joined():
        return _train(recipe, ranks, stop, allow_changes, follow)


def _train(
    recipe: Recipe,
    ranks: Ranks,
    stop: StopRequest,
    allow_changes: bool,
    follow: Callable[[int], None] | None,
) -> Path | None:
    with only_process(recipe.folder, "a training run", ranks.main):
        _check_export(recipe)
        run = Run(recipe, ranks, allow_changes=allow_changes)
        if ranks.main:
            for folder in (recipe.folder, _samples(run)):
                remove_leftovers(folder)
        validation = None
        if recipe.validation.every:
            validation = Validation(recipe, run.data.label_names, run.vae, ranks)
        with Watch(recipe, run.step, ranks, run.half_precision, run.unlogged, follow) as watch:
            watch.say(f"{recipe.name}: {summary(run.data, recipe.modality.samples)}")
            for change in run.changes:
                watch.say(f"{recipe.name}: {change}")
            if validation and validation.skipped:
                watch.say(f"validation: {skipped_items(validation.skipped)}")
            if not _steps(run, stop, watch, validation):
                watch.say(f"stopped after step {run.step}; run the same command again to continue")
                return None
        if ranks.main and (skipped := run.data.skipped):
            watch.say(skipped_items(skipped))
        _export(run)
        ranks.wait()
    return run.folder / "pipeline"


def _steps(run: Run, stop: StopRequest, watch: Watch, validation: Validation | None) -> bool:
    """Run the remaining steps, and everything that is due after each step.

    Returns:
        Whether the run reached its end.
    """
    _catch_up(run, watch)
    with closing(run.steps(lambda: bool(stop))) as results:  # and with them the workers that load data
        return _each_step(run, results, watch, validation)


def _each_step(run: Run, results: Iterable[StepResult], watch: Watch, validation: Validation | None) -> bool:
    """Do everything that is due after each step, and return whether the run reached its end."""
    config = run.recipe.training
    losses = validation_losses(run.checkpoints, recipe_to_dict(run.recipe))
    best = min(losses.values(), default=math.inf)
    saved: int | None = run.step
    for result in results:
        watch.step(result)
        improved = False
        run.validation_loss = None
        if validation and result.step % run.recipe.validation.every == 0:
            measured = validation.measure(run.learner, run.layouts[0], run.micro_batch, run.ranks)
            watch.validation(result.step, measured)
            run.validation_loss = measured["loss"]
            improved = run.validation_loss is not None and run.validation_loss < best
            best = min(best, math.inf if run.validation_loss is None else run.validation_loss)
        last = result.stop or result.halt is not None or result.step == config.steps
        if improved or last or result.step % config.checkpoint_every == 0:
            saved = _save(run, watch, saved, last)
        if result.halt is not None:
            if result.diverged:
                raise DivergedError(result.halt, result.step)
            raise UserError(result.halt)
        if result.stop and result.step < config.steps:
            return False
        if _sample_is_due(run):
            _try_sample(run, watch)
        watch.resume_clock()
    return True


def _catch_up(run: Run, watch: Watch) -> None:
    """Do what was due after the checkpoint that the run resumes from, if the run ended before it was done.

    These are the removal of older checkpoints and the samples of that step. Entries of the log, trackers and
    validations come before the checkpoint; the pipeline is exported again in any case.
    """
    if not run.step:
        return
    config, missing = run.recipe.training, False
    if run.ranks.main:
        prune_checkpoints(run.checkpoints, config.keep_checkpoints, config.keep_every)
        missing = not list(_samples(run).glob(f"{_samples_name(run)}.*"))
    if _sample_is_due(run) and run.ranks.from_main(missing):
        _try_sample(run, watch)
    watch.resume_clock()


def _sample_is_due(run: Run) -> bool:
    """Return whether samples are written after the current step."""
    every = run.recipe.training.sample_every
    return bool(every) and run.step % every == 0


def _samples(run: Run) -> Path:
    """Return the folder of the samples of a run."""
    return run.folder / "samples"


def _samples_name(run: Run) -> str:
    """Return the name of the samples of the current step, without suffix."""
    return f"step-{run.step:08d}"


def _save(run: Run, watch: Watch, saved: int | None, last: bool) -> int | None:
    """Save a checkpoint, and return the step of the newest checkpoint.

    A failure, such as a full disk, is raised only if the checkpoint is the last one of the run.
    """
    started = time.monotonic()
    try:
        run.save()
    except OSError as fault:
        if last:
            raise
        watch.say(f"warning: {fault}; the checkpoint of step {saved} is kept, and the run continues")
        return saved
    seconds = time.monotonic() - started
    if seconds > GRACE and not last:
        watch.say(
            f"warning: writing a checkpoint took {seconds:.0f} s, but a launcher may kill the run "
            f"{GRACE:.0f} s after its request to stop: allow it more time, or steps since the last "
            "checkpoint may be lost"
        )
    return run.step


def _check_export(recipe: Recipe) -> None:
    """Raise UserError if the run cannot be written, or its export would replace files that none wrote."""
    for path in ("checkpoints/any", "samples/any", LOG_FILE):
        check_writable(recipe.folder / path)
    remedy = "move it to another folder and run the same command again"
    check_replaceable(recipe.folder / "pipeline", EXPORTED, remedy)
    if recipe.lora.rank:
        check_replaceable(recipe.folder / "lora", r"pytorch_lora_weights\.safetensors", remedy)


def _export(run: Run) -> None:
    """Write the trained pipeline to `pipeline/` in the run's directory, and its adapters to `lora/`."""
    pipeline, path = run.pipeline(), run.folder / "pipeline"
    if pipeline is not None:
        _check_export(run.recipe)  # files may have come since the run began
        with whole(path) as temporary_path:
            pipeline.save_pretrained(temporary_path)
            write_card(_card(run, pipeline), temporary_path, previous=path)
    adapters = run.adapters()
    if adapters is not None:
        with whole(run.folder / "lora") as temporary_path:
            BlockPipeline.save_lora_weights(
                temporary_path, adapters.weights, transformer_lora_adapter_metadata=adapters.config
            )


def _card(run: Run, pipeline: StoredPipeline) -> str:
    """Return the model card of the exported pipeline."""
    network = pipeline.components[run.recipe.modality.network[0]]
    return model_card(
        run.recipe,
        steps=run.step,
        source=run.data.recorded_name or run.recipe.data.source,
        classes=run.data.label_names,
        parameters=sum(weight.numel() for weight in network.parameters()),
    )


def _try_sample(run: Run, watch: Watch) -> None:
    """Write samples; a failure, such as a full disk, is said, and the run continues."""
    try:
        _sample(run, watch)
    except OSError as fault:
        watch.say(f"warning: {fault}; the samples of step {run.step} are missing, and the run continues")


def _sample(run: Run, watch: Watch) -> None:
    """Write samples of the averaged weights to `samples/`, for the first ten classes if there are classes.

    As long as the average lags far behind, samples of the raw weights stand beside them.
    """
    pipelines = {"averaged weights": run.pipeline()}
    if run.learner.average_lags:
        pipelines["raw weights"] = run.pipeline(averaged=False)
    if not run.ranks.main:
        return
    for pipeline in pipelines.values():
        assert pipeline is not None  # it is built on the first rank
        pipeline.to(run.device).set_progress_bar_config(disable=True)
    classes = list(range(min(10, len(run.data.label_names))))
    path = _samples(run) / _samples_name(run)
    preview = cast(Callable[..., None], load_object(run.recipe.modality.preview))
    preview(pipelines, classes, path)
    if len(pipelines) > 1 and run.step == run.recipe.training.sample_every:
        span = round(1 / (1 - run.recipe.optimizer.ema_decay))
        watch.say(
            f"{path.parent}: early samples are shown twice, by the averaged weights, which the finished "
            f"model uses, and by the raw ones; the average covers up to {span:,} steps, so its samples are "
            "grey or blurred at first"
        )
