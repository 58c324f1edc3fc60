"""Outputs of ACDiTTextPipeline."""

from dataclasses import dataclass, field
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
    """Log-likelihoods of given texts under the distribution of the pipeline's samples.

    Values are exact with blocks of 1 token. With larger blocks filled in random order they are lower bounds:
    means over the order in which the sampler fills in the tokens of a block and, where a text ends inside a
    block, over the tokens that it fills in after the end. The bounds are summed over all orders and tails for
    blocks of up to 4 tokens, except where a text ends inside a block and its vocabulary is so large that
    tails are drawn. They are estimated from draws then, with larger blocks, and for networks with time
    conditioning (for those, the samples are those of `AncestralScheduler` in the limit of many steps).

    In another order they are exact at every block size, except where a text ends inside a block and so many
    tails may be filled in before its last token that they are drawn: lower bounds then.

    Attributes:
        log_likelihoods: log-likelihoods (N,) in float64, in nats.
        standard_errors: standard errors (N,) of estimates; 0 where nothing is estimated.
        tokens: number of scored tokens of each text, (N,).
    """

    log_likelihoods: Tensor
    standard_errors: Tensor
    tokens: Tensor


@dataclass(frozen=True)
class TextToken:
    """Token of a text, and how it came there.

    Attributes:
        id: id of the token.
        text: what the token adds to the text. A character of several tokens is added by the last of them, and
            the others add ""; so do tokens after the end of a text.
        step: solver step of its block that revealed the token, from 0; None for a given token.
    """

    id: int
    text: str
    step: int | None

    @property
    def given(self) -> bool:
        """Return whether the token was given, and not generated."""
        return self.step is None


@dataclass(frozen=True)
class TextPiece:
    """Texts that a finished block adds.

    Attributes:
        texts: new text of each sample, without its prompt.
        evaluations: number of network calls so far.
        tokens: number of tokens generated with this block, in all samples, including end tokens.
        block: index of the block.
        added: tokens of each sample that its text consists of, in order; their texts joined are that text. If
            an interrupted stream adds no token, the text may be the replacement of an incomplete character.
        complete: whether all tokens of the block were revealed; only the last piece of an interrupted stream
            may be incomplete.
    """

    texts: list[str]
    evaluations: int
    tokens: int
    block: int = 0
    added: list[list[TextToken]] = field(default_factory=list)
    complete: bool = True
