"""Log-likelihoods of texts, and of continuations of prompts."""

from collections.abc import Sequence

import torch

from ..data.tokenizers import Tokenizer
from ..diffusion.masked import Schedule
from ..diffusion.objective import SampleKey
from ..diffusion.ordered_likelihood import text_bounds
from ..diffusion.orders import Order
from ..model.layout import Layout
from ..model.transformer import ACDiTTransformer
from ..utils.errors import UserError
from .text_outputs import TextScores


def paired(
    texts: str | Sequence[str], continuations: str | Sequence[str] | None
) -> list[tuple[str | None, str]]:
    """Return a prompt and a text for each text to score; without continuations the prompts are None.

    Raises:
        UserError: if the numbers of prompts and continuations differ.
    """
    if continuations is None:
        return [(None, text) for text in ([texts] if isinstance(texts, str) else texts)]
    if isinstance(texts, str) and isinstance(continuations, str):
        return [(texts, continuations)]
    if isinstance(texts, str):
        return [(texts, text) for text in continuations]
    if isinstance(continuations, str):
        return [(prompt, continuations) for prompt in texts]
    if len(texts) != len(continuations):
        raise UserError(
            f"continuations must be one per prompt: there are {len(texts)} prompts and {len(continuations)} "
            "continuations; give a single prompt as a str for several continuations"
        )
    return list(zip(texts, continuations, strict=True))


def score_texts(
    model: ACDiTTransformer,
    tokenizer: Tokenizer,
    layout: Layout,
    pairs: Sequence[tuple[str | None, str]],
    *,
    draws: int,
    seed: int,
    ends: bool,
    order: Order,
    schedule: Schedule,
    device: torch.device,
) -> TextScores:
    """Score texts after their prompts; see `ACDiTTextPipeline.score`.

    Args:
        model: network over token ids.
        tokenizer: tokenizer of the texts.
        layout: layout of the longest text, whose blocks are used.
        pairs: a prompt, or None, and a text for each text to score, see `paired`.
        draws: number of draws per text, where its value is estimated.
        seed: seed of the draws.
        ends: whether the end token after each text is scored too.
        order: order in which the tokens of a block are revealed.
        schedule: noise schedule of the network.
        device: device of the network.

    Raises:
        UserError: if a text has no tokens to score or is too long, there are too few draws, or the order does
            not fit.
    """
    longest, size = layout.num_tokens, layout.block_tokens
    if draws < 2:
        raise UserError(f"draws must be at least 2, for a standard error, not {draws}")
    prompts = [[] if prompt is None else tokenizer.encode(prompt) for prompt, _ in pairs]
    ids = [tokenizer.encode(text) + [tokenizer.eos] * ends for _, text in pairs]
    if not ids or not all(ids):
        raise UserError("each of the texts must have at least one token")
    starts = torch.tensor([len(each) for each in prompts])
    counts = torch.tensor([len(each) for each in ids])
    total = int((starts + counts).max())
    if total > longest:
        name = "a text" if all(prompt is None for prompt, _ in pairs) else "a prompt with its continuation"
        raise UserError(f"{name} has {total} tokens, more than the model's context length {longest}")
    tokens = torch.full((len(ids), -(-total // size) * size), tokenizer.eos)
    for row, prompt, each in zip(tokens, prompts, ids, strict=True):
        row[: len(prompt) + len(each)] = torch.tensor([*prompt, *each])
    bounds = text_bounds(
        model,
        tokens.to(device),
        starts + counts,
        Layout((tokens.shape[1],), layout.block),
        key=SampleKey(seed, [0] * len(ids), [0] * len(ids)),  # draws independent of other texts
        draws=draws,
        order=order,
        schedule=schedule,
        starts=starts,
    )
    return TextScores(-bounds.values, bounds.variances.sqrt(), counts)
