"""`acdit plan`: estimate the cost of a training run, and check its configuration."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from ..training.config import RANK_FLOPS, Recipe
from ..utils.errors import UserError
from ..utils.ranges import Count, Range
from .command import RecipeCommand


@dataclass
class PlanOptions(Recipe):
    """Estimate the time and memory of a training run, and check its configuration.

    RECIPE is one of the names at the end, the path of a YAML file, or a folder of pictures with one
    sub-folder per class. Options replace values of the recipe; `acdit plan mnist --help` shows those of a
    recipe as defaults.
    """

    section: ClassVar[str] = "--"

    ranks: Count = 1
    """Number of processes, one per accelerator."""
    flops: Annotated[float, Range(1, 1e30)] = RANK_FLOPS
    """FLOP/s that each rank achieves; the default is about 40% of the bf16 peak of an H100."""
    json: bool = False
    """Print JSON instead of a table."""


def run(options: PlanOptions) -> None:
    """Print the plan.

    Raises:
        UserError: after the report, if there is a problem.
    """
    from ..training.plan import format_plan, make_plan

    plan = make_plan(options, ranks=options.ranks, flops=options.flops)
    print(plan.to_json() if options.json else format_plan(plan))
    if plan.problems:
        names = ", ".join(check.subject for check in plan.problems)
        raise UserError(
            f"the run {options.name} cannot be trained with this configuration; failed checks (above): "
            f"{names}"
        )


COMMAND = RecipeCommand(
    name="plan",
    summary="estimate a run",
    arguments="RECIPE",
    brief="acdit plan ucf101-xl --ranks 96",
    example="acdit plan imagenet256-xl --ranks 256 --flops 4e14 --training.gradient_checkpointing",
    kind=Recipe,
    options=PlanOptions,
    run=run,
)
