"""Training run, one step at a time, with all that a step needs, resumed from the newest checkpoint."""

import math
from collections.abc import Callable, Generator
from dataclasses import asdict, replace
from functools import cached_property
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor
from torch.profiler import record_function

from ..data.dataset import PixelDataset
from ..data.image_decoding import Unreadable
from ..data.worker_processes import load_batches
from ..diffusion.objective import SampleKey
from ..model.transformer import ACDiTTransformer
from ..pipelines.stored_pipeline import StoredPipeline
from ..utils.errors import UserError
from ..utils.files import check_writable
from ..utils.finite import nonfinite
from ..utils.ranks import ALONE, Ranks
from ..utils.references import load_object
from .augmented_data import AugmentedDataset
from .build import build_layouts, build_model, open_data
from .checkpoint import Stored, newest_checkpoint, save_checkpoint
from .config import Recipe
from .costs import Costs
from .export import build_pipeline, check_scheduler
from .learner import Learner, TrainedNetwork, compile_blocks
from .lora import Adapters, adapters_of, merged
from .mixing import soft_labels
from .objectives import build_objective
from .progress import (
    DivergedError,
    Progress,
    StepResult,
    listed,
    not_finite_after,
    stuck_after,
    too_many_damaged,
)
from .recipes import recipe_to_dict
from .resuming import check_tokenizer, compare_with_checkpoint
from .schedules import rate_factor
from .step_batches import StepBatches, choice, subset


class Run:
    """A training run.

    Args:
        recipe: Recipe of the run.
        ranks: Processes that train together, in a group that they have joined.
        allow_changes: Whether recipe and data may differ from those of the checkpoint.

    Attributes:
        changes: Lines to print before the first step: differences from the checkpoint, mapped class rows, and
            what is not recorded.

    Raises:
        UserError: If the recipe is invalid, or recipe or data differ from those that the directory was
            started with.
    """

    def __init__(self, recipe: Recipe, ranks: Ranks = ALONE, *, allow_changes: bool = False):
        self.recipe, self.ranks, self.folder, self.device = recipe, ranks, recipe.folder, ranks.device
        self.checkpoints = self.folder / "checkpoints"
        check_writable(self.checkpoints)
        config = recipe.training
        micro_batches = config.accumulation * ranks.world_size
        if config.batch_size % micro_batches:
            raise UserError(
                f"training.batch_size must be a multiple of accumulation x ranks, {micro_batches}, "
                f"not {config.batch_size}"
            )
        self.micro_batch = config.batch_size // micro_batches  # images per forward pass
        self.data, self.vae = open_data(recipe)
        self._items: Any = self.data  # as the loader reads them
        if recipe.modality.objectives:
            self._items = AugmentedDataset(self.data, recipe.classifier, config.seed)
        self.layouts = build_layouts(recipe, self.data.size)
        self.progress, self.identity = Progress(), self.data.identity
        self.changes = [*self.data.notes]
        stored, classes, network_config = newest_checkpoint(self.checkpoints, ranks), None, None
        if stored is not None:
            resumption = compare_with_checkpoint(
                stored, recipe, self.data, self.identity, ranks, allow_changes
            )
            check_tokenizer(stored, self.data)
            self.changes += resumption.changes
            classes, network_config = resumption.classes, stored.state["network"]
            if classes is not None:
                network_config = network_config | {"num_classes": len(classes[1])}
        network = build_model(recipe, self.layouts[0], self.data, network_config, self.changes.append)
        self.network_config = dict(network.config)
        if config.gradient_checkpointing:
            network.enable_gradient_checkpointing()
        torch.nn.Module.to(network.train(), self.device)
        if config.compile:
            compile_blocks(network, config.compile_mode)
        self.learner = Learner(network, recipe.optimizer, ranks, config.parallel)
        self.objective = build_objective(recipe, self.data, self.learner.time_conditioning)
        check_scheduler(recipe, self.learner.time_conditioning)
        self.validation_loss: float | None = None
        self.unlogged: list[float] = []  # losses since the last entry of the log
        if stored is not None:
            self.progress = Progress.stored(stored.state["progress"])
            self.learner.restore(stored, self.progress.updates, classes)
            self.unlogged += stored.state.get("unlogged", [])  # earlier versions did not store them
            self._restore_damaged(stored)
        self._damaged = self._count_damaged()  # as known to this rank when the ranks last synchronised

    @property
    def step(self) -> int:
        """Return the number of completed steps."""
        return self.progress.step

    @property
    def _logged(self) -> bool:
        """Return whether the log has an entry of the current step."""
        config = self.recipe.training
        return self.step % config.log_every == 0 or self.step == config.steps

    def steps(self, stop_requested: Callable[[], bool] = bool) -> Generator[StepResult]:
        """Train to the end of the recipe, and yield the result of each step.

        Args:
            stop_requested: Function that returns whether this rank was requested to stop. Once any rank was,
                `stop` is set in the results on all ranks.
        """
        config, optimizer = self.recipe.training, self.recipe.optimizer
        batches = StepBatches(
            len(self.data),
            config.batch_size,
            range(self.step, config.steps),
            seed=config.seed,
            accumulation=config.accumulation,
            rank=self.ranks.rank,
            world_size=self.ranks.world_size,
        )
        pin = self.device.type == "cuda"
        loader = load_batches(self._items, batches, self.recipe.data.workers, pin_memory=pin)
        while self.step < config.steps:
            rate = optimizer.learning_rate * rate_factor(self.step, config.steps, optimizer)
            layout = self.layouts[choice(len(self.layouts), config.seed, self.step)]
            errors, indices = [], []
            for part in range(config.accumulation):
                batch = next(loader)
                indices += batch["index"].tolist()
                with self.learner.accumulating(last=part == config.accumulation - 1):
                    errors.append(self._backward(batch, layout, part))
            norm = self.learner.clip()
            damaged_count = self._count_damaged()
            mean = torch.cat(errors).double().mean().item() / self.ranks.world_size
            values = torch.tensor(
                [mean, float(stop_requested()), float(damaged_count > self._damaged)], dtype=torch.float64
            )
            loss, stop, damaged = self.ranks.total(values).tolist()
            finite = math.isfinite(loss) and math.isfinite(norm)
            self.progress.count(finite)
            result = StepResult(
                self.step, loss, rate, norm, self._flops[layout] * config.batch_size, stop=stop > 0
            )
            if (self.step - 1) % config.log_every == 0:
                self.unlogged.clear()  # the step before was logged, and its checkpoint written
            if finite:
                self.unlogged.append(loss)
                self.learner.update(rate)
            else:
                result = self._skipped(result, torch.cat(errors), indices)
            self.learner.forget_gradients()
            if damaged:
                self._synchronise_damaged()
            yield self._checked(result)

    def _backward(self, batch: dict[str, Any], layout: Any, part: int) -> Tensor:
        """Run forward and backward of a micro-batch, and return the mean error of every sample.

        The index of the micro-batch in its step is `part`.
        """
        config, diffusion = self.recipe.training, self.recipe.diffusion
        first = (part * self.ranks.world_size + self.ranks.rank) * self.micro_batch
        key = SampleKey(
            config.seed,
            batch["epoch"].tolist(),
            batch["index"].tolist(),
            step=self.step,
            positions=range(first, first + self.micro_batch),
            batch=config.batch_size,
        )
        with (
            record_function("acdit.forward"),
            torch.autocast(self.device.type, torch.bfloat16, enabled=self.half_precision),
        ):
            losses = self.objective.loss(
                self.learner.model,
                layout.to_blocks(self.learner.moved(batch["data"])),
                layout=layout,
                key=key,
                **self._labels(batch),
                blocks=subset(layout.num_blocks, diffusion.views, config.seed, self.step),
                draws=range(diffusion.draws),
            )
        with record_function("acdit.backward"):
            (losses.mean / config.accumulation).backward()
        return losses.per_sample.detach()  # (n,)

    def _labels(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the labels of a batch as arguments of the objective, with the null label of generators."""
        if "weight" in batch:
            classes = self.network_config["num_labels"]
            labels = soft_labels(batch["label"], batch["other_label"], batch["weight"], classes)
            return {"labels": labels.to(self.device, non_blocking=True)}
        classes = self.network_config["num_classes"]
        labels = None if classes is None else batch["label"].to(self.device, non_blocking=True)
        return {"labels": labels, "null_label": classes}

    def _skipped(self, result: StepResult, errors: Tensor, indices: list[int]) -> StepResult:
        """Return the result of a skipped step, with the samples that may have caused it."""
        bad = [index for index, error in zip(indices, errors.isfinite().tolist(), strict=True) if not error]
        all_bad, all_indices = (list(chain(*self.ranks.gathered(part))) for part in (bad, indices))
        suspects = tuple(sorted(all_bad or all_indices))
        halt = None
        if self.progress.stuck:
            halt = stuck_after(result.step, "optimizer.learning_rate", listed(suspects))
        return replace(result, bad_samples=suspects, halt=halt, diverged=halt is not None)

    def _checked(self, result: StepResult) -> StepResult:
        """Return the result with the counts so far, and with a halt if too many images are damaged."""
        most, halt, diverged = self.recipe.data.max_unreadable, result.halt, result.diverged
        if self._damaged > most:
            diverged = False
            halt = too_many_damaged(self._damaged, most, self.recipe.modality.samples, self.data.skipped)
        counts = {"skipped": self.progress.skipped, "unreadable": self._damaged}
        return replace(result, halt=halt, diverged=diverged, **counts)

    def _count_damaged(self) -> int:
        """Return the number of images that this rank and its loader's workers have found damaged."""
        return 0 if self.data.damaged is None else int(self.data.damaged.sum())

    def _restore_damaged(self, stored: Stored) -> None:
        """Mark the images that were damaged before the checkpoint and still are, if the data are equal."""
        if self.data.damaged is None or stored.state.get("data") != self.identity.to_json():
            return
        data = cast(PixelDataset, self.data)
        for index in stored.state.get("unreadable", ()):
            try:
                data.decode(index)
            except Unreadable:
                self.data.damaged[index] = True

    def _synchronise_damaged(self) -> None:
        """Synchronise between all ranks which images were found damaged."""
        damaged = cast(Tensor, self.data.damaged)
        shared = self.ranks.largest(damaged.to(torch.uint8)).bool()
        damaged |= shared
        self._damaged = int(shared.sum())  # not what workers of this rank have marked in the meantime

    def save(self) -> None:
        """Write a checkpoint of the steps so far.

        All ranks must call this method.

        Raises:
            DivergedError: If weights, their moving average or the optimiser's state are not finite; the
                earlier checkpoints are kept.
            OSError: If the checkpoint cannot be written.
        """
        names = list(chain(*self.ranks.gathered(nonfinite(self.learner.tensors()))))
        if names:
            reason = not_finite_after(self.step, names, self.checkpoints, "optimizer.learning_rate")
            raise DivergedError(reason, self.step)
        state = {
            "step": self.step,
            "progress": asdict(self.progress),
            "recipe": recipe_to_dict(self.recipe),
            "network": self.network_config,
            "tokenizer": self.data.tokenizer_digest,
            "data": self.identity.to_json(),
            "validation": self.validation_loss,
            "unlogged": [] if self._logged else self.unlogged,
            "unreadable": [] if self.data.damaged is None else self.data.damaged.nonzero().flatten().tolist(),
            "ranks": self.ranks.world_size,
            "threads": torch.get_num_threads(),
        }
        save_checkpoint(
            self.checkpoints,
            state,
            self.learner.tensors(),
            keep=self.recipe.training.keep_checkpoints,
            keep_every=self.recipe.training.keep_every,
            ranks=self.ranks,
        )

    def pipeline(self, *, averaged: bool = True) -> StoredPipeline | None:
        """Build a pipeline with the moving average of the weights, or with the raw ones.

        All ranks must call this method; it returns None except on the first.
        """
        network = self._copy(averaged=averaged)
        if network is None:
            return None
        if self.recipe.lora.rank:
            network = merged(cast(ACDiTTransformer, network))
        return build_pipeline(self.recipe, network.eval(), self.layouts[0], self.data, self.vae)

    def adapters(self) -> Adapters | None:
        """Return the averaged low-rank adapters of the network, if the run trains some.

        All ranks must call this method; it returns None except on the first.
        """
        network = self._copy(averaged=True) if self.recipe.lora.rank else None
        return None if network is None else adapters_of(cast(ACDiTTransformer, network))

    def _copy(self, *, averaged: bool) -> TrainedNetwork | None:
        """Return a copy of the network on the CPU, on the first rank; None on the others."""
        state = self.learner.state(averaged=averaged)
        if not self.ranks.main:
            return None
        network = build_model(self.recipe, self.layouts[0], self.data, self.network_config)
        network.load_state_dict(state)
        return network

    @cached_property
    def half_precision(self) -> bool:
        """Return whether the network computes under bf16 autocast."""
        precision = self.recipe.training.precision
        return precision == "bf16" or (
            precision == "auto" and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        )

    @cached_property
    def _flops(self) -> dict[Any, float]:
        """Return the FLOPs of a sample's forward and backward, by layout, without recomputation."""
        build = cast(type[Costs], load_object(self.recipe.modality.costs))
        costs = build(self.recipe, self.network_config)
        return {layout: costs.training_flops(layout, checkpointing=False) for layout in self.layouts}
