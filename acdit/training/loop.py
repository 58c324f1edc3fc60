"""The training loop: runs a recipe to its end, from wherever it stands, and exports the pipeline."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..diffusion import DiffusionObjective, SampleKey
from ..errors import UserError, require
from ..files import check_writable, whole
from ..pictures import picture_grid, save_picture
from ..transformer import ACDiTTransformer
from .build import (
    build_average,
    build_layouts,
    build_model,
    build_optimizer,
    build_pipeline,
    check_trainable,
    open_data,
)
from .checkpoint import (
    Checkpoint,
    check_recipe,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from .config import Recipe
from .order import StepBatches, choice, subset
from .schedules import rate_factor

SMOOTHING = 0.98  # of the loss that is shown

# What may change between a run and its continuation. Another number of steps goes on with the schedule of
# that length: exactly as if it had been so from the start, as long as the learning rate has not decayed yet.
CHANGEABLE = {
    "name",
    "out",
    "data.workers",
    "training.steps",
    "training.checkpoint_every",
    "training.keep_checkpoints",
    "training.sample_every",
    "training.tensorboard",
    "sampling.steps",
    "sampling.guidance_scale",
}


@dataclass(frozen=True)
class StepResult:
    """What a step did."""

    step: int
    loss: float
    learning_rate: float
    gradient_norm: float


class Run:
    """One training run: everything that a step needs, resumed from the newest checkpoint of its directory.

    Args:
        recipe: what to train, on what and how.

    Raises:
        UserError: if the recipe cannot work, or differs from the one that the directory was started with.
    """

    def __init__(self, recipe: Recipe):
        check_trainable(recipe)
        self.recipe = recipe
        self.folder = recipe.folder
        check_writable(self.folder / "checkpoints")
        config = recipe.training
        self.data, self.vae = open_data(recipe)
        self.layouts = build_layouts(recipe, self.data.image_size)
        self.accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),
            gradient_accumulation_steps=config.accumulation,
            log_with="tensorboard" if config.tensorboard else None,
            project_dir=str(self.folder),
        )
        ways = config.accumulation * self.accelerator.num_processes
        if config.batch_size % ways:
            raise UserError(
                f"training.batch_size must be a multiple of accumulation x ranks, {ways}, "
                f"not {config.batch_size}"
            )
        self.half_precision = _half_precision(config.precision)
        self.objective = DiffusionObjective(
            recipe.diffusion.prediction, recipe.diffusion.timesteps, recipe.diffusion.label_dropout
        )
        checkpoint = self._checkpoint()
        if checkpoint is None:
            self.network = build_model(recipe, self.layouts[0], self.data)
        else:
            self.network = cast(ACDiTTransformer, ACDiTTransformer.from_config(checkpoint.network))
        if config.gradient_checkpointing:
            self.network.enable_gradient_checkpointing()
        self.network.train().to(self.accelerator.device)
        self.ema = build_average(self.network, recipe.optimizer)
        optimizer = build_optimizer(self.network, recipe.optimizer)
        self.step = 0
        if checkpoint is not None:
            self._resume(checkpoint, optimizer)
        self.model, self.optimizer = self.accelerator.prepare(self.network, optimizer)

    def steps(self) -> Iterator[StepResult]:
        """Train to the end of the recipe, a step at a time."""
        config, optimizer = self.recipe.training, self.recipe.optimizer
        batches = StepBatches(
            len(self.data),
            config.batch_size,
            range(self.step, config.steps),
            seed=config.seed,
            accumulation=config.accumulation,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
        )
        loader = iter(DataLoader(self.data, batch_sampler=batches, num_workers=self.recipe.data.workers))
        while self.step < config.steps:
            rate = optimizer.learning_rate * rate_factor(self.step, config.steps, optimizer)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            losses, norms = zip(
                *(self._accumulate(next(loader)) for _ in range(config.accumulation)), strict=True
            )
            self.ema.step(self.network.parameters())
            self.step += 1
            loss = cast(torch.Tensor, self.accelerator.reduce(torch.stack(losses).mean(), "mean"))
            yield StepResult(self.step, loss.item(), rate, norms[-1])

    def _accumulate(self, batch: dict[str, Any]) -> tuple[torch.Tensor, float]:
        """Forward and backward of a micro-batch, and with the last one the update: loss and gradient norm."""
        norm = 0.0
        seed, diffusion = self.recipe.training.seed, self.recipe.diffusion
        layout = self.layouts[choice(len(self.layouts), seed, self.step)]
        images, labels = (
            batch[name].to(self.accelerator.device, non_blocking=True) for name in ("image", "label")
        )
        with self.accelerator.accumulate(self.model):
            # Not accelerate's own autocast, which a process can set up only once.
            with torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=self.half_precision):
                losses = self.objective.loss(
                    self.model,
                    layout.to_blocks(images),
                    layout=layout,
                    key=SampleKey(seed, batch["epoch"].tolist(), batch["index"].tolist()),
                    labels=labels,
                    null_label=self.network.config["num_classes"],
                    blocks=subset(layout.num_blocks, diffusion.views, seed, self.step),
                    draws=range(diffusion.draws),
                )
            self.accelerator.backward(losses.mean)
            if self.accelerator.sync_gradients:
                limit = self.recipe.optimizer.clip
                norm = float(
                    cast(torch.Tensor, self.accelerator.clip_grad_norm_(self.model.parameters(), limit))
                )
            self.optimizer.step()
            self.optimizer.zero_grad()
        return losses.mean.detach(), norm

    def save(self) -> None:
        """Write a checkpoint of the steps so far."""
        names = [name for name, _ in self.network.named_parameters()]
        tensors = {
            "model": self.network.state_dict(),
            "ema": dict(zip(names, self.ema.shadow_params, strict=True)),
            "optimizer": optimizer_tensors(self.optimizer),
        }
        checkpoint = Checkpoint(self.step, asdict(self.recipe), dict(self.network.config), tensors)
        if self.accelerator.is_main_process:
            save_checkpoint(self.folder / "checkpoints", checkpoint, self.recipe.training.keep_checkpoints)

    def pipeline(self) -> Any:
        """A pipeline around the moving average of the weights."""
        pipeline = build_pipeline(self.recipe, self.network, self.layouts[0], self.data, self.vae)
        self.ema.copy_to(pipeline.transformer.parameters())
        return pipeline

    def export(self) -> None:
        """Write the trained pipeline to `pipeline/` in the run's directory."""
        with whole(self.folder / "pipeline") as aside:
            self.pipeline().save_pretrained(aside)

    def sample(self) -> None:
        """Write a grid of samples, a column per class, to `samples/`."""
        classes = list(range(min(10, len(self.data.label_names))))
        pipeline = self.pipeline()
        pipeline.set_progress_bar_config(disable=True)
        images = pipeline(classes * 4, generator=torch.Generator().manual_seed(0)).images
        save_picture(
            picture_grid(images, len(classes)), self.folder / "samples" / f"step-{self.step:08d}.png"
        )

    def _checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint, if there is one; it must be one of this recipe."""
        checkpoint = load_checkpoint(self.folder / "checkpoints")
        if checkpoint is None:
            return None
        check_recipe(checkpoint, asdict(self.recipe), CHANGEABLE, self.folder)
        if checkpoint.step > self.recipe.training.steps:
            raise UserError(
                f"training.steps must be at least {checkpoint.step}, which {self.folder} has done, "
                f"not {self.recipe.training.steps}"
            )
        return checkpoint

    def _resume(self, checkpoint: Checkpoint, optimizer: torch.optim.Optimizer) -> None:
        self.network.load_state_dict(checkpoint.tensors["model"])
        names = [name for name, _ in self.network.named_parameters()]
        self.ema.shadow_params = [
            checkpoint.tensors["ema"][name].to(self.accelerator.device) for name in names
        ]
        self.ema.optimization_step = checkpoint.step
        restore_optimizer(optimizer, checkpoint.tensors["optimizer"])
        self.step = checkpoint.step


def train(recipe: Recipe) -> Path:
    """Run a recipe to its end, from where an earlier run of it stopped; returns the exported pipeline."""
    if recipe.training.tensorboard:
        require("tensorboard", "track")
    run = Run(recipe)
    config, main = recipe.training, run.accelerator.is_main_process
    if config.tensorboard:
        run.accelerator.init_trackers("tensorboard")
    smooth, started, first = None, time.monotonic(), run.step
    with tqdm(
        total=config.steps, initial=run.step, desc=recipe.name, unit="step", disable=not main
    ) as progress:
        for done in run.steps():
            smooth = done.loss if smooth is None else SMOOTHING * smooth + (1 - SMOOTHING) * done.loss
            rate = (done.step - first) * config.batch_size / (time.monotonic() - started)
            progress.set_postfix_str(
                f"loss {smooth:.4f}, lr {done.learning_rate:.1e}, {rate:.0f} images/s", refresh=False
            )
            progress.update()
            if config.tensorboard:
                shown = {
                    "loss": done.loss,
                    "learning_rate": done.learning_rate,
                    "gradient_norm": done.gradient_norm,
                }
                run.accelerator.log(shown, step=done.step)
            if done.step % config.checkpoint_every == 0 or done.step == config.steps:
                run.save()
            if main and config.sample_every and done.step % config.sample_every == 0:
                run.sample()
    if config.tensorboard:
        run.accelerator.end_training()
    skipped = run.data.skipped if main else {}
    if skipped:
        listed = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        tqdm.write(f"skipped {len(skipped)} unreadable images: {listed}")
    if main:
        run.export()
    run.accelerator.wait_for_everyone()
    return run.folder / "pipeline"


def _half_precision(asked: str) -> bool:
    if asked == "auto":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return asked == "bf16"
