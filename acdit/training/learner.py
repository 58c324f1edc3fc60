"""Network, moving average of its weights and optimiser of a training run, on one rank or sharded."""

import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, cast

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import record_function

from ..model.block_network import BlockNetwork
from ..model.classifier import ACDiTForImageClassification
from ..model.token_head import GeneratorNetwork
from ..utils.ranks import ALONE, Ranks
from ..utils.tracing import allow_variants
from .checkpoint import Stored, fill
from .class_table import TABLE, carry_rows
from .config import OptimizerConfig

TrainedNetwork = GeneratorNetwork | ACDiTForImageClassification
MOMENTS = ("exp_avg", "exp_avg_sq")  # names of AdamW's moments
EMBEDDERS = re.compile(r"(?:^|\.)(?:[xty]|start)_embedder\.")  # names of parameters before the layers
HEAD = re.compile(r"heads\.\d+\.")  # names of parameters of one head of a classifier
LAG = 5  # spans of the moving average after which it no longer holds the first weights: exp(-5) < 1%


class Learner:
    """A network and its training state, replicated on every rank (`ddp`) or sharded over them (`fsdp`).

    Args:
        network: Network on its device, in training mode; parameters without gradient are not changed.
        config: Configuration of the optimiser and of the moving average.
        ranks: Ranks that train together.
        parallel: Parallelism over the ranks; no effect for a single rank.
    """

    def __init__(
        self,
        network: TrainedNetwork,
        config: OptimizerConfig,
        ranks: Ranks = ALONE,
        parallel: Literal["ddp", "fsdp"] = "ddp",
    ):
        self.network, self.config, self.ranks = network, config, ranks
        self.sharded = parallel == "fsdp" and not ranks.alone
        self.model = network
        if self.sharded:
            # FSDP warns that blocks return views, which must not be changed in place; no code here does that.
            warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
            mesh = init_device_mesh(ranks.device.type, (ranks.world_size,))
            for block in network.blocks:
                fully_shard(block, mesh=mesh)
            fully_shard(network, mesh=mesh)
        elif not ranks.alone:
            self.model = DistributedDataParallel(network, gradient_as_bucket_view=True)
        trainable = {name: value for name, value in network.named_parameters() if value.requires_grad}
        self.names, self.parameters = list(trainable), list(trainable.values())
        self.clipped = clip_groups(trainable)
        self.ema = EMAModel(
            self.parameters,
            decay=config.ema_decay,
            min_decay=0.0 if config.ema_warmup else config.ema_decay,
        )
        self.optimizer = torch.optim.AdamW(
            layer_groups(trainable, len(network.blocks), config.layer_decay),
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=True,
        )

    @property
    def time_conditioning(self) -> bool:
        """Return whether the network is that of a generator which takes timesteps."""
        return isinstance(self.network, BlockNetwork) and self.network.time_conditioning

    def moved(self, data: Tensor) -> Tensor:
        """Return data on the network's device, and in its precision unless they are ids."""
        # `network.dtype` would search all modules of the network
        dtype = self.parameters[0].dtype if data.is_floating_point() else data.dtype
        return data.to(self.ranks.device, dtype, non_blocking=True)

    @contextmanager
    def accumulating(self, last: bool) -> Iterator[None]:
        """Wrap the forward and backward of a micro-batch.

        Gradients are synchronised between ranks only in the last micro-batch of a step.
        """
        if self.sharded:
            self.network.set_requires_gradient_sync(last)
        local = not last and isinstance(self.model, DistributedDataParallel)
        with self.model.no_sync() if local else nullcontext():
            yield

    def clip(self) -> float:
        """Clip the gradient to the maximum norm, and return its norm before clipping, equal on all ranks.

        The gradients of separate probes are clipped separately.
        """
        with record_function("acdit.clip"):
            most = self.config.clip or math.inf
            norms = [torch.nn.utils.clip_grad_norm_(group, most) for group in self.clipped]
            whole = [norm.full_tensor() if isinstance(norm, DTensor) else norm for norm in norms]
            return float(whole[0] if len(whole) == 1 else torch.stack(whole).norm())

    def update(self, rate: float) -> None:
        """Take a step of AdamW at the given learning rate, and then update the moving average."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate_factor"]
        with record_function("acdit.adamw"):
            self.optimizer.step()
        with record_function("acdit.ema"):
            self._average()

    @torch.no_grad()
    def _average(self) -> None:
        # like EMAModel.step, but in place: the original copies everything first and takes three times as long
        self.ema.optimization_step += 1
        weight = 1 - self.ema.get_decay(self.ema.optimization_step)
        if not self.sharded:  # sharded tensors have no such operation
            torch.ops.aten._foreach_lerp_.Scalar(self.ema.shadow_params, self.parameters, weight)
            return
        for average, parameter in zip(self.ema.shadow_params, self.parameters, strict=True):
            average.lerp_(parameter, weight)

    def forget_gradients(self) -> None:
        """Reset the gradients after a step."""
        self.optimizer.zero_grad()

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors of a checkpoint: `model.NAME`, `ema.NAME`, and AdamW's moments by parameter."""
        tensors = {f"model.{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors |= {
            f"ema.{name}": tensor for name, tensor in zip(self.names, self.ema.shadow_params, strict=True)
        }
        return tensors | optimizer_tensors(self.optimizer, self.names)

    def restore(
        self, stored: Stored, updates: int, classes: tuple[Sequence[str], Sequence[str]] | None = None
    ) -> None:
        """Load a checkpoint that was written after the given number of updates.

        Args:
            stored: Checkpoint.
            updates: Number of updates before the checkpoint.
            classes: Names of the checkpoint's classes and of the network's, if they differ: the rows of the
                class table, of its moving average and of its moments are then carried over by name.
        """
        start_moments(self.optimizer, updates)
        self.ema.optimization_step = updates
        tensors = {name: tensor.detach() for name, tensor in self.tensors().items()}
        if classes is None:
            fill(stored, tensors, self.ranks)
            return
        tables = {name: tensors.pop(name) for name in list(tensors) if name.endswith(f".{TABLE}")}
        old_tables = {
            name: torch.empty(len(classes[0]) + 1, table.shape[1], dtype=table.dtype)
            for name, table in tables.items()
        }
        fill(stored, tensors | old_tables, self.ranks)
        for name, table in tables.items():
            carry_rows(table, old_tables[name], *classes)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Switch the network to the averaged weights and to evaluation mode inside the context."""
        trained = [parameter.detach().clone() for parameter in self.parameters]
        self._set_weights(self.ema.shadow_params)
        self.network.eval()
        try:
            yield
        finally:
            self.network.train()
            self._set_weights(trained)

    @torch.no_grad()
    def _set_weights(self, values: list[Tensor]) -> None:
        if self.sharded:
            # What a forward pass without a backward pass has gathered would be used once more, whatever the
            # shards hold: FSDP keeps it at the root of the network.
            self.network.reshard()
        # one by one, because sharded parameters cannot be copied all at once
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)

    def state(self, *, averaged: bool) -> dict[str, Tensor]:
        """Return the network's state with the averaged or with the raw weights, unsharded, on the CPU.

        All ranks must call this method.
        """
        state = self.network.state_dict()
        if averaged:
            state |= dict(zip(self.names, self.ema.shadow_params, strict=True))
        return {
            name: (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().cpu().clone()
            for name, tensor in state.items()
        }

    @property
    def average_lags(self) -> bool:
        """Return whether a large part of the updates so far lies within the span of the moving average."""
        return self.ema.optimization_step * (1 - self.config.ema_decay) < LAG


def clip_groups(parameters: Mapping[str, Tensor]) -> list[list[Tensor]]:
    """Return the groups of parameters whose gradients are clipped together.

    They are all in one group, except those of several heads on a frozen network, which do not depend on each
    other.

    Args:
        parameters: Trained parameters of a network by name.
    """
    groups: dict[str, list[Tensor]] = {}
    for name, parameter in parameters.items():
        head = HEAD.match(name)
        groups.setdefault(head[0] if head else "", []).append(parameter)
    return [list(parameters.values())] if "" in groups else list(groups.values())


def layer_groups(parameters: Mapping[str, Tensor], num_layers: int, decay: float) -> list[dict[str, Any]]:
    """Return the parameter groups of an optimiser, each with the factor of its learning rate.

    Layer k of L has the factor decay^(L + 1 - k), embeddings decay^(L + 1), and what follows the layers 1.
    The groups hold the parameters in their order, as the names of moments require.

    Args:
        parameters: Trained parameters of a network by name, in the network's order.
        num_layers: Number of layers of the network.
        decay: Factor from each layer to the one before it.
    """
    groups: list[dict[str, Any]] = []
    for name, parameter in parameters.items():
        layer = re.search(r"(?:^|\.)blocks\.(\d+)\.", name)
        if layer is not None:
            depth = num_layers - int(layer[1])  # the first layer has the number 1
        else:
            depth = num_layers + 1 if EMBEDDERS.search(name) else 0
        factor = decay**depth
        if not groups or groups[-1]["rate_factor"] != factor:
            groups.append({"params": [], "rate_factor": factor})
        groups[-1]["params"].append(parameter)
    return groups


def compile_blocks(network: TrainedNetwork, mode: str = "default") -> None:
    """Compile a network's blocks, once for all of them, in one of torch.compile's modes.

    Each layout, batch size and use (with or without gradients, the last block or another) is compiled
    separately, because code for dynamic shapes takes longer to compile and to run.
    """
    # Dynamo warns of caches that it does not use; their results depend on their arguments alone.
    warnings.filterwarnings("ignore", message="Dynamo detected a call to a `functools.lru_cache`")
    allow_variants()
    network.compile_repeated_blocks(mode=mode, dynamic=False)


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: list[str]) -> dict[str, Tensor]:
    """Return AdamW's moments as tensors named `exp_avg.PARAMETER`; empty before the first step."""
    state = optimizer.state_dict()["state"]
    return {
        f"{moment}.{names[index]}": moments[moment] for index, moments in state.items() for moment in MOMENTS
    }


def start_moments(optimizer: torch.optim.Optimizer, updates: int) -> None:
    """Set AdamW's state to that after `updates` steps, with zero moments to be filled from a checkpoint."""
    if not updates:
        return
    for group in optimizer.param_groups:
        for parameter in cast(list[Tensor], group["params"]):
            moments = {name: torch.zeros_like(parameter) for name in MOMENTS}
            # a fused optimiser keeps its step count on the parameter's device
            step = torch.tensor(float(updates), device=parameter.device)
            optimizer.state[parameter] = {"step": step, **moments}
