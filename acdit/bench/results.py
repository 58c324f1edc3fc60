"""What a row of the benchmark measured, and what follows from it."""

from dataclasses import asdict, dataclass
from typing import Any

from .rows import Row
from .timing import Times


@dataclass(frozen=True)
class Contender:
    """One way to do the work.

    Attributes:
        name: of the package, the published computation, or a backend of attention.
        times: of its runs.
        flops: that it must do; for the published computation those that it does.
        relative_error: of its answer, against that of the one that it is compared with.
        bytes: what it holds, by name.
    """

    name: str
    times: Times
    flops: float
    relative_error: float
    bytes: dict[str, int]


@dataclass(frozen=True)
class Result:
    """A row's contenders, the first of which is what the others are compared with.

    Attributes:
        row: what was done.
        measured: in words.
        rate: of the matrix products, FLOP/s.
        contenders: in the order in which they took turns.
    """

    row: Row
    measured: str
    rate: float
    contenders: tuple[Contender, ...]

    def ratio(self, contender: Contender) -> float:
        """How many times faster a contender is than the first, by medians."""
        return self.contenders[0].times.median / contender.times.median

    def tokens_per_second(self, contender: Contender) -> float:
        """Tokens of all samples over the median."""
        return self.row.batch * self.row.tokens.num_tokens / contender.times.median

    def floor(self, contender: Contender) -> float:
        """Seconds that a contender's FLOPs take at the rate of the matrix products."""
        return contender.flops / self.rate

    def share(self, contender: Contender) -> float:
        """The share of its floor that a contender reaches, 1 = nothing is lost."""
        return self.floor(contender) / contender.times.median

    def to_json(self) -> dict[str, Any]:
        """Everything, for a file."""
        contenders = {
            each.name: {
                "seconds": list(each.times.seconds),
                "median": each.times.median,
                "least": each.times.least,
                "most": each.times.most,
                "ratio": self.ratio(each),
                "tokens_per_second": self.tokens_per_second(each),
                "flops": each.flops,
                "floor_seconds": self.floor(each),
                "floor_share": self.share(each),
                "relative_error": each.relative_error,
                "bytes": each.bytes,
            }
            for each in self.contenders
        }
        facts = {"measured": self.measured, "sequence_length": self.row.tokens.num_tokens}
        return {**asdict(self.row), **facts, "matmul_flops_per_second": self.rate, "contenders": contenders}
