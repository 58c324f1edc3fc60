"""Measurements of a row of the benchmark, and values derived from them."""

from dataclasses import asdict, dataclass
from typing import Any

from .rows import Row
from .timing import Times


@dataclass(frozen=True)
class Contender:
    """One implementation of the work of a row.

    Attributes:
        name: name of the implementation: the package, the published computation, or an attention backend.
        times: times of its runs.
        flops: FLOPs that the work requires; for the published computation, the FLOPs that it executes.
        relative_error: error of its output, relative to the output of the first contender.
        bytes: sizes of its memory in bytes, by name.
    """

    name: str
    times: Times
    flops: float
    relative_error: float
    bytes: dict[str, int]


@dataclass(frozen=True)
class Result:
    """Contenders of a row, of which the first is the reference for the others.

    Attributes:
        row: row that was measured.
        measured: description of the measured work.
        rate: rate of the matrix products in FLOP/s.
        contenders: contenders in the order in which they took turns.
    """

    row: Row
    measured: str
    rate: float
    contenders: tuple[Contender, ...]

    def ratio(self, contender: Contender) -> float:
        """Return the speed-up of a contender over the first one, by medians."""
        return self.contenders[0].times.median / contender.times.median

    def tokens_per_second(self, contender: Contender) -> float:
        """Return the number of tokens of all samples over the median time."""
        return self.row.batch * self.row.tokens.num_tokens / contender.times.median

    def roofline(self, contender: Contender) -> float:
        """Return the roofline: seconds that a contender's FLOPs take at the rate of the matrix products."""
        return contender.flops / self.rate

    def fraction(self, contender: Contender) -> float:
        """Return the fraction of its roofline that a contender reaches; 1 = nothing is lost."""
        return self.roofline(contender) / contender.times.median

    def to_json(self) -> dict[str, Any]:
        """Return all values, ready for JSON."""
        contenders = {
            contender.name: {
                "seconds": list(contender.times.seconds),
                "median": contender.times.median,
                "least": contender.times.minimum,
                "most": contender.times.maximum,
                "ratio": self.ratio(contender),
                "tokens_per_second": self.tokens_per_second(contender),
                "flops": contender.flops,
                "floor_seconds": self.roofline(contender),
                "floor_share": self.fraction(contender),
                "relative_error": contender.relative_error,
                "bytes": contender.bytes,
            }
            for contender in self.contenders
        }
        facts = {"measured": self.measured, "sequence_length": self.row.tokens.num_tokens}
        return {**asdict(self.row), **facts, "matmul_flops_per_second": self.rate, "contenders": contenders}
