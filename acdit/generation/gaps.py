"""Texts with gaps: runs of underscores, each of which stands for a token that is generated."""

import re

import torch
from torch import Tensor

from ..data.tokenizers import Tokenizer
from ..utils.errors import UserError

GAP = re.compile(r"_{3,}")


def parts_with_gaps(text: str) -> list[tuple[str, int]]:
    """Return the parts of a text in order: given text with 0, or "" with the number of tokens of a gap.

    Raises:
        UserError: if the text has no gap.
    """
    if GAP.search(text) is None:
        raise UserError("the text has no gap: write ___ where tokens are missing, one underscore for each")
    parts = [part for part in re.split(f"({GAP.pattern})", text) if part]
    return [("", len(part)) if GAP.fullmatch(part) else (part, 0) for part in parts]


def tokens_with_gaps(tokenizer: Tokenizer, text: str, longest: int) -> Tensor:
    """Return the ids (1, L) of a text, with the mask's id for every underscore of a gap.

    Args:
        tokenizer: tokenizer of the model.
        text: text in which every run of at least three underscores is a gap of so many tokens.
        longest: maximum number of tokens, which the model holds.

    Raises:
        UserError: if the text has no gap, or more tokens.
    """
    ids: list[int] = []
    for part, gap in parts_with_gaps(text):
        ids += [tokenizer.mask] * gap if gap else tokenizer.encode(part)
    if len(ids) > longest:
        raise UserError(
            f"the text with its gaps has {len(ids):,} tokens, but the model holds {longest:,}: shorten it"
        )
    return torch.tensor([ids])
