"""Continuous objective (Eq. 3) with diffusers' schedulers: epsilon, v and flow prediction."""

from collections.abc import Sequence
from typing import Literal

import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor

from ..model.layout import Layout
from ..utils.randomness import generator, seed_of
from .objective import TRAIN_STEPS, Losses, Network, SampleKey
from .schedulers import LINEAR_BETAS, Prediction

TimestepDistribution = Literal["uniform", "logit_normal"]


class DiffusionObjective:
    """Objective that draws noise, timesteps and dropped labels, and computes the error of the prediction.

    It is Eq. 3 of the paper, whose runs have the prediction `epsilon` and uniform timesteps (Appendix B).

    Args:
        prediction: Target of the network: `epsilon`, `v` (both with DDPM's 1000 linear betas) or `flow`, the
            velocity noise - data of the straight path x_t = (1 - t/1000) x + t/1000 noise.
        timesteps: Distribution of the timesteps: `uniform`, or `logit_normal` (scale 1).
        label_dropout: Fraction of draws whose label becomes the null label, for classifier-free guidance.
        context_noise: Standard deviation of Gaussian noise on the clean blocks that the network gets as
            context, so that it learns to tolerate errors in blocks that it generated itself; targets are
            unchanged.
        timestep_location: Location of `logit_normal`; values above 0 draw noisier views more often (arXiv
            2403.03206).
        min_snr: Gamma of min-SNR weights (arXiv 2303.09556); None = all views have the same weight.
        context: Past that the network sees, see `ACDiTTransformer`: `clean`, or `noised` for one stream of
            all blocks, each at its own noise level.
    """

    def __init__(
        self,
        prediction: Prediction = "epsilon",
        timesteps: TimestepDistribution = "uniform",
        label_dropout: float = 0.1,
        context_noise: float = 0.0,
        timestep_location: float = 0.0,
        min_snr: float | None = None,
        context: Literal["clean", "noised"] = "clean",
    ):
        self.prediction = prediction
        self.timesteps = timesteps
        self.label_dropout = label_dropout
        self.context_noise = context_noise
        self.timestep_location = timestep_location
        self.min_snr = min_snr
        self.context = context
        self._process = DDPMScheduler(**LINEAR_BETAS)

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
        """Noise the blocks of a batch and compare the network's prediction with the target.

        Args:
            model: Network with the signature of `ACDiTTransformer`.
            data: Clean blocks (N, T, B, C).
            layout: Layout of the blocks.
            key: Key of the random draws.
            labels: Labels (N,); None = no labels.
            null_label: Label that replaces dropped labels; None = no label is dropped.
            blocks: Blocks to noise, sorted; None = all.
            draws: Numbers of the noise draws that share the pass over the clean blocks; d draws give the mean
                gradient of d passes.

        Returns:
            Squared errors of the views, of which `mean` is to be minimised.

        Raises:
            ValueError: If the context is noised, and not every block is noised once.
        """
        chosen = tuple(range(layout.num_blocks)) if blocks is None else tuple(blocks)
        if self.context == "noised" and (
            len(chosen) < layout.num_blocks or len(draws) > 1 or self.context_noise
        ):
            raise ValueError("with noised context every block is noised once, and none is clean")
        views = tuple(block for block in chosen for _ in draws)
        noise, timesteps, dropped = self._draw(data, chosen, draws, key)
        target_data = data[:, list(views)]  # (N, M, B, C)
        noised, target = self.corrupt(target_data, noise, timesteps)
        if labels is not None:
            labels = labels[:, None].expand(-1, len(views))  # (N, M)
            if null_label is not None:
                labels = torch.where(dropped.to(labels.device), null_label, labels)
        clean = None
        if self.context == "clean" and max(views):
            clean = self._context(data, key)[:, : max(views)]
        prediction = model(noised, timesteps, layout=layout, blocks=views, clean=clean, labels=labels).sample
        errors = (prediction.to(target.dtype) - target).square().mean(dim=(2, 3))  # (N, M)
        weights = None if self.min_snr is None else self._weights(timesteps, self.min_snr).to(errors.dtype)
        return Losses(errors, timesteps, views, weights)

    def corrupt(self, data: Tensor, noise: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Return noised data and the target for data and noise (N, M, B, C) and timesteps (N, M)."""
        if self.prediction == "flow":
            fraction = (timesteps / TRAIN_STEPS)[..., None, None].to(data.dtype)
            return torch.lerp(data, noise, fraction), noise - data
        flat_data, flat_noise, steps = data.flatten(0, 1), noise.flatten(0, 1), timesteps.flatten().long()
        noised = self._process.add_noise(flat_data, flat_noise, steps)  # pyright: ignore[reportArgumentType]
        target = noise
        if self.prediction == "v":
            target = self._process.get_velocity(flat_data, flat_noise, steps).view_as(data)  # pyright: ignore
        return noised.view_as(data), target

    def _weights(self, timesteps: Tensor, gamma: float) -> Tensor:
        """Return the weight of the predicted quantity's squared error for timesteps (N, M).

        The squared error of the data x that the prediction implies has the weight min(SNR, gamma) (arXiv
        2303.09556).
        """
        if self.prediction == "flow":
            # x_t = (1 - s) x + s noise and velocity = noise - x, so x = x_t - s velocity: an error e of the
            # velocity is an error s e of x. SNR = (1 - s)^2 / s^2, so the weight is min(SNR, gamma) s^2.
            fraction = timesteps / TRAIN_STEPS
            return torch.minimum((1 - fraction).square(), gamma * fraction.square())
        # x_t = a x + b noise with a^2 + b^2 = 1, a^2 = alpha bar, SNR = a^2 / b^2. Computed in float64: at
        # the first steps b^2 is 1e-4, and a float32 alpha bar would leave only three of its digits.
        signal = (1 - self._process.betas.double()).cumprod(0)  # a^2 of every step
        if self.prediction == "v":
            # v = a noise - b x, so x = a x_t - b v: an error e of v is an error b e of x.
            weights = torch.minimum(signal, gamma * (1 - signal))  # min(SNR, gamma) b^2
        else:
            # x = (x_t - b noise) / a: an error e of the noise is an error e b / a of x.
            weights = (gamma * (1 - signal) / signal).clamp(max=1)  # min(SNR, gamma) / SNR
        return weights.to(timesteps.device, timesteps.dtype)[timesteps.long()]

    def _context(self, data: Tensor, key: SampleKey) -> Tensor:
        """Return the clean blocks (N, T, B, C) with context noise, the same for all draws of a sample."""
        if self.context_noise == 0:
            return data
        noise = torch.empty(data.shape)
        for row, (epoch, index) in enumerate(zip(key.epochs, key.indices, strict=True)):
            noise[row].normal_(generator=generator(key.seed, "context", epoch, index))
        return data + self.context_noise * noise.to(data.device, data.dtype, non_blocking=True)

    def _draw(
        self, data: Tensor, chosen: Sequence[int], draws: Sequence[int], key: SampleKey
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw noise (N, M, B, C), timesteps and dropped labels (N, M), with a seed per sample and draw."""
        batch, num_blocks = data.shape[:2]
        noise = torch.empty(batch, len(draws), *data.shape[1:])  # (N, draws, T, B, C)
        timesteps = torch.empty(batch, len(draws), num_blocks)
        dropped = torch.empty(batch, len(draws), 1)
        samples = zip(key.epochs, key.indices, strict=True)
        keys = [(*sample, draw) for sample in samples for draw in draws]
        rows = (drawn.flatten(0, 1).unbind() for drawn in (dropped, timesteps, noise))
        source = torch.Generator()  # reseeded each time: creating 64 costs more than drawing from them
        for sample_key, own_dropped, own_timesteps, own_noise in zip(keys, *rows, strict=True):
            source.manual_seed(seed_of(key.seed, "diffusion", *sample_key))
            own_dropped.uniform_(generator=source)
            if self.timesteps == "uniform":
                own_timesteps.uniform_(generator=source)
            else:
                own_timesteps.normal_(self.timestep_location, generator=source).sigmoid_()
            own_noise.normal_(generator=source)
        timesteps = timesteps * TRAIN_STEPS
        if self.prediction != "flow":
            timesteps = timesteps.floor().clamp(max=TRAIN_STEPS - 1)
        dropped = (dropped < self.label_dropout).expand(-1, -1, num_blocks)
        selected = (
            _views_first(drawn)[:, list(chosen)].flatten(1, 2) for drawn in (noise, timesteps, dropped)
        )
        noise, timesteps, dropped = (drawn.to(data.device, non_blocking=True) for drawn in selected)
        return noise.to(data.dtype), timesteps, dropped


def _views_first(drawn: Tensor) -> Tensor:
    return drawn.transpose(1, 2)  # (N, draws, T, ..) -> (N, T, draws, ..)
