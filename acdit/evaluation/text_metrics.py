"""Table of the metrics of texts that need no features, by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from ..metrics.entropy import token_entropy
from ..metrics.text_diversity import REPEATED, distinct, distinct_within, self_repetition
from ..utils.errors import UserError
from .language_model import ExternalLanguageModel
from .report import Score
from .text_samples import TextSamples

Compute = Callable[[TextSamples, ExternalLanguageModel | None], float | None]


@dataclass(frozen=True)
class TextMetric:
    """Entry of the table of metrics of texts.

    Attributes:
        compute: function of the texts, and of the external language model if there is one, that returns the
            score; None if the texts have no tokens to score.
        needs: what must be there besides the texts; None = nothing.
        texts: least number of texts.
        words: number of words that a text must have for the metric; at least one of the texts needs them.
    """

    compute: Compute
    needs: Literal["token ids", "evaluator"] | None = None
    texts: int = 1
    words: int = 0

    def obstacle(self, samples: TextSamples, evaluator: ExternalLanguageModel | None) -> str | None:
        """Return what keeps the metric from being computed for texts; None if nothing does."""
        if self.needs == "evaluator" and evaluator is None:
            return "it needs an external language model"
        if self.needs == "token ids" and samples.tokens is None:
            return "it needs the token ids of a model, which finished texts do not have"
        if len(samples) < self.texts:
            return f"it needs {self.texts} texts, not {len(samples)}"
        if max(map(len, samples.words)) < self.words:
            return f"no text has {self.words} words"
        return None


def _of_words(function: Callable[[Sequence[list[str]]], float]) -> Compute:
    return lambda samples, evaluator: function(samples.words)


def _token_entropy(samples: TextSamples, evaluator: ExternalLanguageModel | None) -> float:
    del evaluator
    assert samples.tokens is not None
    return token_entropy(samples.tokens)


def _evaluator_entropy(samples: TextSamples, evaluator: ExternalLanguageModel | None) -> float:
    assert evaluator is not None
    return token_entropy([evaluator.token_ids(text) for text in samples.texts])


def _generative_perplexity(samples: TextSamples, evaluator: ExternalLanguageModel | None) -> float | None:
    assert evaluator is not None
    return evaluator.perplexity(samples.texts)


TEXT_METRICS: dict[str, TextMetric] = {
    "generative_perplexity": TextMetric(_generative_perplexity, "evaluator"),
    "evaluator_entropy": TextMetric(_evaluator_entropy, "evaluator"),
    "token_entropy": TextMetric(_token_entropy, "token ids"),
    "word_entropy": TextMetric(_of_words(token_entropy)),
    **{f"distinct_{n}": TextMetric(_of_words(partial(distinct, n=n)), words=n) for n in (1, 2, 3)},
    **{
        f"distinct_within_{n}": TextMetric(_of_words(partial(distinct_within, n=n)), words=n)
        for n in (1, 2, 3)
    },
    "self_repetition": TextMetric(_of_words(self_repetition), texts=2, words=REPEATED),
}
"""All are best near the value of real texts: a sampler that repeats itself lowers perplexity and entropy."""


def text_scores(
    samples: TextSamples,
    real: TextSamples | None,
    names: Sequence[str] | None = None,
    evaluator: ExternalLanguageModel | None = None,
) -> tuple[list[Score], list[str]]:
    """Score texts by the metrics of the table, beside as many real texts.

    Args:
        samples: texts to score.
        real: as many real texts of the same lengths; None = no values of real texts.
        names: names of the metrics; None = all that can be computed.
        evaluator: external language model; None = no metrics that need one.

    Returns:
        The scores, and notes on metrics of the table that cannot be computed for these texts.

    Raises:
        UserError: if a metric that is named cannot be computed.
    """
    scores, notes = [], []
    for name in TEXT_METRICS if names is None else names:
        metric = TEXT_METRICS[name]
        value, reason = _value(metric, samples, evaluator)
        if value is not None:
            beside = None if real is None else _value(metric, real, evaluator)[0]
            scores.append(Score(name, value, real=beside, better="near real", samples=len(samples)))
        elif names is not None:
            raise UserError(f"{name} of {samples.name} cannot be computed: {reason}")
        elif metric.needs is None or (metric.needs == "evaluator" and evaluator is not None):
            notes.append(f"no {name}: {reason}")
    return scores, notes


def _value(
    metric: TextMetric, samples: TextSamples, evaluator: ExternalLanguageModel | None
) -> tuple[float | None, str]:
    """Return the value of a metric, or None and the reason why there is none."""
    reason = metric.obstacle(samples, evaluator)
    if reason is not None:
        return None, reason
    return metric.compute(samples, evaluator), "no text has two tokens"
