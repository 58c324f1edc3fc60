"""Estimate the cost of a run from its recipe, and check its configuration."""

import json
from dataclasses import asdict, dataclass
from typing import cast

from ..model.flops import Dimensions
from ..model.layout import Layout
from ..utils.references import load_object
from .checks import Check, check_run
from .config import RANK_FLOPS, Recipe
from .costs import Costs
from .inspection import inspect_data


@dataclass(frozen=True)
class LayoutCost:
    """A layout and the cost of one sample in it, with all views counted.

    Attributes:
        layout: Layout as text.
        blocks: Number of blocks.
        block_tokens: Number of tokens of a block.
        sequence_length: Number of tokens of a sample.
        network_tokens: Number of clean and noised tokens that pass through the network.
        forward_flops: FLOPs of a forward, with all blocks noised if they are.
        training_flops: FLOPs of forward and backward, including recomputation.
        activation_bytes: Bytes of activations kept from the forward to the backward.
    """

    layout: str
    blocks: int
    block_tokens: int
    sequence_length: int
    network_tokens: int
    forward_flops: int
    training_flops: float
    activation_bytes: int


@dataclass(frozen=True)
class Memory:
    """Bytes of memory of a rank, without DDP's buckets, FSDP's gathered layers and allocator overhead."""

    weights: int
    gradients: int
    optimizer: int
    moving_average: int
    bf16_weights: int
    activations: int

    @property
    def total(self) -> int:
        """Return the sum of all parts."""
        return sum(vars(self).values())


@dataclass(frozen=True)
class Plan:
    """Costs of a run and the results of its checks; the costs of steps are None if no layout tiles."""

    name: str
    network: Dimensions
    parameters: int
    trained: int
    layouts: list[LayoutCost]
    ranks: int
    batch_size: int
    micro_batch: int
    steps: int
    flops_per_rank: float
    step_flops: float | None
    total_flops: float | None
    hours: float | None
    ddp: Memory
    fsdp: Memory
    assumed: list[str]
    checks: list[Check]

    @property
    def problems(self) -> list[Check]:
        """Return the checks that failed."""
        return [check for check in self.checks if not check.ok]

    def to_json(self) -> str:
        """Return the plan as JSON, with the total of each memory estimate."""
        estimates = {"ddp": self.ddp, "fsdp": self.fsdp}
        memory = {name: asdict(memory) | {"total": memory.total} for name, memory in estimates.items()}
        return json.dumps(asdict(self) | memory, indent=2)


def make_plan(recipe: Recipe, *, ranks: int = 1, flops: float = RANK_FLOPS) -> Plan:
    """Estimate the cost of a run and check its configuration.

    Args:
        recipe: Recipe of the run.
        ranks: Number of processes, one for each accelerator.
        flops: FLOP/s that each rank reaches.

    Returns:
        FLOPs, hours, bytes per rank, and the result of each check; `problems` holds the checks that failed.

    Raises:
        UserError: If the recipe lacks a value that is needed to plan the run.
    """
    data, config = inspect_data(recipe), recipe.training
    build = cast(type[Costs], load_object(recipe.modality.costs))
    network = build(recipe, build.planned(recipe, data))
    count, trained = network.parameters, network.trained
    checks, layouts = check_run(recipe, ranks, data, network)
    half = config.precision != "no"
    costs = [_cost(recipe, network, layout, half) for layout in layouts]
    micro_batch = max(1, config.batch_size // (ranks * config.accumulation))
    step = total = hours = None
    if costs:
        step = config.batch_size * sum(cost.training_flops for cost in costs) / len(costs)
        total = step * config.steps
        hours = total / (ranks * flops) / 3600
    activations = micro_batch * max((cost.activation_bytes for cost in costs), default=0)
    bf16_weights = 2 * count if half else 0
    shard, trained_shard = -(-count // ranks), -(-trained // ranks)
    assumed = list(data.assumed)
    if config.precision == "auto":
        assumed.append("bf16 autocast, which training.precision auto uses on accelerators that support it")
    return Plan(
        name=recipe.name,
        network=network.network,
        parameters=count,
        trained=trained,
        layouts=costs,
        ranks=ranks,
        batch_size=config.batch_size,
        micro_batch=micro_batch,
        steps=config.steps,
        flops_per_rank=flops,
        step_flops=step,
        total_flops=total,
        hours=hours,
        ddp=_memory(count, trained, bf16_weights, activations),
        fsdp=_memory(shard, trained_shard, bf16_weights, activations),
        assumed=assumed,
        checks=checks,
    )


def format_plan(plan: Plan) -> str:
    """Format a plan as text for the width of a terminal."""
    network = plan.network
    rows = [
        ("run", plan.name),
        ("parameters", f"{plan.parameters:,}{_trained(plan)}"),
        ("network", f"{network.num_layers} layers, hidden {network.hidden_size}, {network.num_heads} heads"),
        ("classes", f"{network.num_classes or 'none'}"),
    ]
    for cost in plan.layouts:
        rows += [
            ("layout", cost.layout),
            ("  blocks", f"{cost.blocks} of {cost.block_tokens} tokens"),
            ("  sequence length", f"{cost.sequence_length:,}{_with_clean(cost)}"),
            ("  forward", f"{cost.forward_flops:.4g} FLOPs per sample, all blocks"),
            ("  training", f"{cost.training_flops:.4g} FLOPs per sample"),
        ]
    rows.append(
        ("batch", f"{plan.batch_size:,}; {plan.micro_batch} per forward pass on each of {plan.ranks} ranks")
    )
    rows.append(("steps", f"{plan.steps:,}"))
    if plan.step_flops is not None:
        rows += [
            ("FLOPs per step", f"{plan.step_flops:.4g}"),
            ("total FLOPs", f"{plan.total_flops:.4g}"),
            ("hours", f"{plan.hours:,.3g} at {plan.flops_per_rank:.3g} FLOP/s per rank (--flops)"),
        ]
    lines = [f"{name:20}{value}" for name, value in rows]
    lines += ["", f"{'GiB per rank':20}{'DDP':>10}{'FSDP':>10}"]
    for name in (*vars(plan.ddp), "total"):
        replicated, sharded = getattr(plan.ddp, name) / 2**30, getattr(plan.fsdp, name) / 2**30
        lines.append(f"  {name.replace('_', ' '):18}{replicated:10.2f}{sharded:10.2f}")
    if not plan.layouts:
        lines.append("  activations are unknown without a valid layout")
    if plan.assumed:
        lines += ["", "assumed", *(f"  {text}" for text in plan.assumed)]
    lines += ["", "checks"]
    lines += [f"  {'ok' if check.ok else 'problem':9}{check.subject}: {check.found}" for check in plan.checks]
    return "\n".join(lines)


def _trained(plan: Plan) -> str:
    return f", {plan.trained:,} of them trained" if plan.trained != plan.parameters else ""


def _with_clean(cost: LayoutCost) -> str:
    if cost.network_tokens == cost.sequence_length:
        return ""
    return f"; {cost.network_tokens:,} with the clean blocks"


def _cost(recipe: Recipe, network: Costs, layout: Layout, half: bool) -> LayoutCost:
    return LayoutCost(
        layout=str(layout),
        blocks=layout.num_blocks,
        block_tokens=layout.block_tokens,
        sequence_length=layout.num_tokens,
        network_tokens=network.network_tokens(layout),
        forward_flops=network.forward_flops(layout),
        training_flops=network.training_flops(layout, checkpointing=recipe.training.gradient_checkpointing),
        activation_bytes=network.activation_bytes(layout, half=half),
    )


def _memory(count: int, trained: int, bf16_weights: int, activations: int) -> Memory:
    """Return the memory of a rank.

    Weights of `count` parameters, and gradients, AdamW's two moments and the moving average of those that are
    trained, are in float32.
    """
    return Memory(4 * count, 4 * trained, 8 * trained, 4 * trained, bf16_weights, activations)
