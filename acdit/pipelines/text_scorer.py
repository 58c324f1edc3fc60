"""TextScorer: the base class of the text pipeline that computes log-likelihoods of given texts."""

from collections.abc import Sequence

from ..data.tokenizers import Tokenizer
from ..diffusion.orders import RANDOM, Order
from .block_pipeline import BlockPipeline
from .layouts import requested_text_layout
from .text_outputs import TextScores
from .text_scoring import paired, score_texts


class TextScorer(BlockPipeline):
    """Base class of pipelines of texts that computes log-likelihoods of given texts.

    Attributes:
        tokenizer: tokenizer of the texts.
    """

    tokenizer: Tokenizer

    def score(
        self,
        texts: str | Sequence[str],
        continuations: str | Sequence[str] | None = None,
        *,
        block: int | None = None,
        draws: int = 16,
        seed: int = 0,
        ends: bool = False,
        order: Order = RANDOM,
    ) -> TextScores:
        """Compute log-likelihoods of texts, or of continuations of texts, under the pipeline's samples.

        The samples are those of `FirstHittingScheduler`, or of the scheduler of another order, with one step
        per token, temperature 1 and top_p 1. The probability of a text is that of samples that begin with it.
        In random order, values are exact with blocks of 1 token and lower bounds with larger ones; in another
        order they are exact, see `TextScores`. The value of a text does not depend on the other texts.

        A continuation is conditioned on its prompt as a call of the pipeline is: both are tokenized by
        themselves, and the prompt's tokens are visible in the block in which it ends. With blocks of 1 token,
        log p(prompt) + log p(continuation | prompt) = log p(prompt + continuation), if the tokens of the
        joined text are those of its parts.

        Args:
            texts: texts to score, at most as long as the model's layout; with continuations, their prompts,
                which may be empty.
            continuations: continuations to score, one per prompt, or several of a single prompt given as a
                `str`; one given as a `str` is scored after every prompt.
            block: tokens of a block; default: the model's.
            draws: number of draws per text, where its value is estimated.
            seed: seed of the draws.
            ends: whether the end token after each text or continuation is scored too.
            order: order in which the samples reveal the tokens of a block: `random`, `left` (left to right),
                `right`, `lowest-entropy` (see `LowestEntropyScheduler`), or a list of its positions.

        Returns:
            Log-likelihoods in nats, with standard errors and numbers of tokens.

        Raises:
            UserError: if a text has no tokens to score or is too long, the numbers of prompts and
                continuations differ, or an argument does not fit, such as an order if the network has time
                conditioning.
        """
        scores = score_texts(
            self.transformer,
            self.tokenizer,
            requested_text_layout(self.layout, block),
            paired(texts, continuations),
            draws=draws,
            seed=seed,
            ends=ends,
            order=order,
            schedule=self.scheduler.config["schedule"],
            device=self._execution_device,
        )
        self.maybe_free_model_hooks()
        return scores
