"""What ACDiTTextPipeline answers."""

from dataclasses import dataclass
from typing import Any

from diffusers.utils.outputs import BaseOutput
from torch import Tensor


@dataclass
class ACDiTTextPipelineOutput(BaseOutput):
    """What the pipeline made, and what it took.

    Attributes:
        texts: a text for each sample, the prompt included; or tokens, an int64 tensor (L,) each, as far as
            they were asked for, their end included.
        evaluations: calls of the network.
    """

    texts: Any
    evaluations: int


@dataclass
class TextScores(BaseOutput):
    """Log-likelihoods of given texts.

    Attributes:
        log_likelihoods: (N,) float64, in nats: exact, or the mean of draws of a lower bound.
        standard_errors: (N,) of these means; 0 where they are exact.
        tokens: (N,) of each text.
    """

    log_likelihoods: Tensor
    standard_errors: Tensor
    tokens: Tensor


@dataclass(frozen=True)
class TextPiece:
    """What a finished block adds.

    Attributes:
        texts: of each sample; what belongs to its prompt is left out.
        evaluations: so far.
        tokens: drawn with this block, in all samples, ends included.
    """

    texts: list[str]
    evaluations: int
    tokens: int
