"""Outputs of ACDiTTextPipeline."""

from dataclasses import dataclass
from typing import Any

from diffusers.utils.outputs import BaseOutput
from torch import Tensor


@dataclass
class ACDiTTextPipelineOutput(BaseOutput):
    """Output of the text pipeline.

    Attributes:
        texts: one text per sample, including its prompt; or one int64 tensor of tokens (L,) per sample, up to
            the requested length and including the end token.
        evaluations: number of network calls.
    """

    texts: Any
    evaluations: int


@dataclass
class TextScores(BaseOutput):
    """Log-likelihoods of given texts.

    Attributes:
        log_likelihoods: log-likelihoods (N,) in float64, in nats: exact, or means of draws of a lower bound.
        standard_errors: standard errors (N,) of these means; 0 where the values are exact.
        tokens: number of tokens of each text, (N,).
    """

    log_likelihoods: Tensor
    standard_errors: Tensor
    tokens: Tensor


@dataclass(frozen=True)
class TextPiece:
    """Texts that a finished block adds.

    Attributes:
        texts: new text of each sample, without its prompt.
        evaluations: number of network calls so far.
        tokens: number of tokens generated with this block, in all samples, including end tokens.
    """

    texts: list[str]
    evaluations: int
    tokens: int
