"""Absorbing (masked) diffusion of tokens (section 5.1; MDLM, arXiv 2406.07524): noise, objective, weights."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..model.layout import Layout
from ..utils.errors import UserError
from ..utils.randomness import generator, seed_of
from .objective import TRAIN_STEPS, Losses, Network, SampleKey

Schedule = Literal["log_linear", "cosine"]
SCHEDULES: tuple[Schedule, ...] = ("log_linear", "cosine")
MaskDraws = Literal["counted", "independent"]
MASK_DRAWS: tuple[MaskDraws, ...] = ("counted", "independent")
TIMES = (1e-3, 1.0)  # lowest and highest time that is drawn by default


def masked_fraction(time: Tensor, schedule: Schedule) -> Tensor:
    """Return the probability 1 - alpha(t) that a token is masked at time t in [0, 1]."""
    if schedule == "log_linear":
        return time  # alpha = 1 - t
    return torch.sin(math.pi / 2 * time)


def time_of(fraction: Tensor, schedule: Schedule) -> Tensor:
    """Return the time at which a fraction of the tokens is masked: the inverse of `masked_fraction`."""
    if schedule == "log_linear":
        return fraction
    return 2 / math.pi * torch.asin(fraction)


def loss_weight(time: Tensor, schedule: Schedule) -> Tensor:
    """Return a masked token's weight in the NELBO at time t: -alpha'(t) / (1 - alpha(t)).

    It is the weight of the token's cross-entropy.
    """
    if schedule == "log_linear":
        return 1 / time
    return math.pi / 2 / torch.tan(math.pi / 2 * time)


def check_mask_token(mask_token: int, vocab_size: int) -> None:
    """Raise ValueError unless the mask is the last token of the vocabulary, whose logit is dropped."""
    if mask_token != vocab_size - 1:
        raise ValueError(
            f"mask_token must be the last of the {vocab_size} tokens, {vocab_size - 1}, not {mask_token}"
        )


def masked_nll(logits: Tensor, tokens: Tensor, masked: Tensor) -> Tensor:
    """Return -log p of each clean token (..) where it is masked, else 0, in at least float32 (SUBS).

    The mask is never predicted, and tokens that are not masked are copied. Padding has no loss.

    Args:
        logits: Logits (.., V), with the mask last.
        tokens: Clean token ids (..), with the mask's id in place of padding.
        masked: Positions (..) where the input of the network was the mask.
    """
    wide = logits[..., :-1].to(torch.promote_types(logits.dtype, torch.float32))
    losses = F.cross_entropy(
        wide.flatten(0, -2), tokens.flatten(), ignore_index=wide.shape[-1], reduction="none"
    ).view_as(tokens)
    return torch.where(masked, losses, 0.0)


def draw_tokens(logits: Tensor, uniform: Tensor) -> Tensor:
    """Draw a token from each row of logits (.., V), of which the last is the mask's, and return them as (..).

    The distribution function of each row is inverted in float64 at a number (..) of `uniform`, in [0, 1).

    Raises:
        UserError: if logits are not finite.
    """
    return invert(logits[..., :-1].double().softmax(-1), uniform)


def invert(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Return the tokens (..) at which the distribution functions of (.., V - 1) reach numbers (..).

    Raises:
        UserError: if probabilities are not finite.
    """
    sums = probabilities.cumsum(-1)
    if not sums[..., -1].isfinite().all():
        raise UserError("the network's output is not finite; try float32, or bfloat16 in place of float16")
    numbers = uniform.to(sums.device)[..., None] * sums[..., -1:]
    tokens = torch.searchsorted(sums, numbers, right=True).squeeze(-1)
    return tokens.clamp(max=probabilities.shape[-1] - 1)


def masks_of_counts(uniform: Tensor, orders: Tensor, scored: Tensor) -> tuple[Tensor, Tensor]:
    """Return masked tokens (.., B) and their numbers (..), each of 1..b where b of B tokens are scored.

    Args:
        uniform: Numbers (..) in [0, 1); each part of length 1 / b is one number of masked tokens.
        orders: Distinct numbers (.., B) below 2; the scored tokens with the lowest are masked.
        scored: Tokens (.., B) that may be masked. Where there are none, nothing is masked.
    """
    tokens = scored.sum(-1)
    counts = torch.minimum((uniform * tokens).long() + 1, tokens)
    ranks = orders.masked_fill(~scored, 2.0).argsort(-1).argsort(-1)
    return ranks < counts[..., None], counts


class MaskedObjective:
    """Objective that draws masks, and computes the loss of the masked tokens (section 5.1).

    `counted` masks: for each block of B tokens, a number n is drawn evenly from 1..B, and n random tokens are
    masked. The loss of the block is the mean cross-entropy of these tokens; its mean over the draws is the
    NELBO per token, that of a random order of the tokens (arXiv 2110.02037). A block of one token is exact.
    `independent` masks: a time t is drawn for each block, tokens are masked independently with its
    probability, and their cross-entropy is weighted by -alpha'(t) / (1 - alpha(t)) (Eq. 8 of MDLM). This has
    the same mean, a greater variance, and the times that a network with time conditioning needs.

    Args:
        mask_token: Id of the mask, the last of the vocabulary.
        schedule: Noise schedule alpha(t) of independent masks: `log_linear`, 1 - t, or `cosine`,
            1 - sin(pi t / 2).
        times: Lowest and highest time that is drawn for independent masks, which may be equal. Over (0, 1]
            the mean loss is the NELBO per token; near 0 its weights grow without bound.
        label_dropout: Fraction of draws whose label becomes the null label.
        masks: `counted` or `independent`.
    """

    def __init__(
        self,
        mask_token: int,
        schedule: Schedule = "log_linear",
        times: tuple[float, float] = TIMES,
        label_dropout: float = 0.1,
        masks: MaskDraws = "counted",
    ):
        if schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, not {schedule!r}")
        if masks not in MASK_DRAWS:
            raise ValueError(f"masks must be one of {', '.join(MASK_DRAWS)}, not {masks!r}")
        if not 0 <= times[0] <= times[1] <= 1 or not times[1]:
            raise ValueError(f"times must be a low and a high value between 0 and 1, not {times}")
        if schedule == "cosine" and times[0] == 1:
            raise ValueError("times must include some below 1, since tokens have no weight at 1 (cosine)")
        if masks == "counted" and (schedule, tuple(times)) != (SCHEDULES[0], TIMES):
            raise ValueError("schedule and times are for masks='independent': counted masks have no times")
        self.mask_token = mask_token
        self.schedule: Schedule = schedule
        self.times = times
        self.label_dropout = label_dropout
        self.masks: MaskDraws = masks

    def loss(
        self,
        model: Network,
        data: Tensor,
        *,
        layout: Layout,
        key: SampleKey,
        labels: Tensor | None = None,
        null_label: int | None = None,
        blocks: Sequence[int] | None = None,
        draws: Sequence[int] = (0,),
    ) -> Losses:
        """Mask the blocks of a batch and compare the network's prediction with the original tokens.

        The arguments are those of `DiffusionObjective.loss`, except that the data are token ids (N, T, B),
        with the mask's id in place of padding, which has no loss. With counted masks the network gets no
        timesteps, and those of the result are 1000 times the fractions of masked tokens.
        """
        chosen = tuple(range(layout.num_blocks)) if blocks is None else tuple(blocks)
        views = tuple(block for block in chosen for _ in draws)
        uniform, thresholds, dropped = self._draw(data, chosen, draws, key)
        target = data[:, list(views)]  # (N, M, B)
        real = target != self.mask_token  # tokens that are not padding (N, M, B)
        counts = real.sum(-1)  # (N, M)
        times = None
        if self.masks == "counted":
            uniform, thresholds = (part.to(data.device, non_blocking=True) for part in (uniform, thresholds))
            masked, numbers = masks_of_counts(uniform.float(), thresholds, real)
            timesteps = TRAIN_STEPS * numbers / counts.clamp(min=1)
        else:
            low, high = self.times
            times = (high - (high - low) * uniform).float()  # (N, M), never `low` itself, which may be 0
            masked = thresholds < masked_fraction(times, self.schedule)[..., None]
            times, masked = (part.to(data.device, non_blocking=True) for part in (times, masked))
            timesteps = times * TRAIN_STEPS
        if labels is not None:
            labels = labels[:, None].expand(-1, len(views))  # (N, M)
            if null_label is not None:
                labels = torch.where(dropped.to(data.device, non_blocking=True), null_label, labels)
        logits = model(
            target.masked_fill(masked, self.mask_token),
            None if times is None else timesteps,
            layout=layout,
            blocks=views,
            clean=data[:, : max(views)] if max(views) else None,
            labels=labels,
        ).sample  # (N, M, B, V)
        check_mask_token(self.mask_token, logits.shape[-1])
        losses = masked_nll(logits, target, masked)  # (N, M, B)
        tokens = counts.to(losses.dtype)
        if times is None:
            errors = losses.sum(-1) / masked.sum(-1).clamp(min=1)  # the mean over the masked tokens
        else:
            errors = losses.mean(-1) * (target.shape[-1] / tokens.clamp(min=1))  # the mean over `real`
            errors = loss_weight(times, self.schedule).to(errors.dtype) * errors
        return Losses(errors, timesteps, views, fractions=tokens / target.shape[-1])

    def _draw(
        self, data: Tensor, chosen: Sequence[int], draws: Sequence[int], key: SampleKey
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw numbers in [0, 1) of views (N, M) and of tokens (N, M, B), and the dropped labels (N, M).

        All are on the CPU. The numbers of views are in float64 and spread evenly, see `strata`.
        """
        batch, num_blocks, tokens = data.shape
        uniform = torch.empty(batch, len(draws), num_blocks, dtype=torch.float64)
        thresholds = torch.empty(batch, len(draws), num_blocks, tokens)
        dropped = torch.empty(batch, len(draws), 1)
        source = torch.Generator()
        for row, sample in enumerate(zip(key.epochs, key.indices, strict=True)):
            for column, draw in enumerate(draws):
                source.manual_seed(seed_of(key.seed, "masked", *sample, draw))
                dropped[row, column].uniform_(generator=source)
                thresholds[row, column].uniform_(generator=source)
                uniform[row, column] = strata(key, row, draw, num_blocks, source)
        dropped = (dropped < self.label_dropout).expand(-1, -1, num_blocks)
        uniform, thresholds, dropped = (
            drawn.transpose(1, 2)[:, list(chosen)].flatten(1, 2) for drawn in (uniform, thresholds, dropped)
        )
        return uniform, thresholds, dropped


def strata(key: SampleKey, row: int, draw: int, num_blocks: int, source: torch.Generator) -> Tensor:
    """Draw uniform numbers (T,) in [0, 1) for a sample's blocks, spread evenly over blocks and the batch.

    Each block takes one of T equal parts at random. Each part is cut into as many pieces as the batch has
    samples, and every sample takes a different piece. So every number is uniform by itself, and the mean over
    a batch varies less (antithetic draws). The values that the samples share are drawn from seed and step, so
    the numbers do not depend on other samples.
    """
    shared = generator(key.seed, "strata", key.step, draw)
    offsets = torch.randint(key.batch, (num_blocks,), generator=shared)  # offset of each part
    parts = torch.randperm(num_blocks, generator=source)  # part of each block
    position = 0 if key.positions is None else key.positions[row]
    piece = (offsets[parts] + position) % key.batch
    inner = torch.rand(num_blocks, generator=source, dtype=torch.float64)
    return (parts + (piece + inner) / key.batch) / num_blocks
