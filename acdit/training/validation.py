"""Loss on images that training never sees: by block, and by how much noise there is."""

from dataclasses import replace
from typing import Any

import torch

from ..autoencoders import encode
from ..data.dataset import InMemoryDataset, PixelDataset
from ..data.opening import open_pixels
from ..diffusion import TRAIN_STEPS, DiffusionObjective, SampleKey
from ..errors import UserError
from ..layout import Layout
from ..randomness import generator
from ..ranks import Ranks
from .config import Recipe
from .learner import Learner

BINS = 10  # of the timesteps, all of one width
EPOCH = -1  # of the keys: training's are from 0 on


class Validation:
    """The images of a recipe's validation, and what a network makes of them.

    Args:
        recipe: of the run.
        label_names: of the data that the run learns from.
        vae: the run's autoencoder, or None.

    Raises:
        UserError: if there are no such images, or they have other classes.
    """

    def __init__(self, recipe: Recipe, label_names: tuple[str, ...], vae: Any):
        config = recipe.validation
        other = any(named is not None for named in (config.source, config.split, config.listed))
        data = replace(
            recipe.data,
            flip=False,
            source=config.source or recipe.data.source,
            split=config.split or recipe.data.split,
            listed=config.listed or recipe.data.listed,
        )
        images = open_pixels(data, seed=recipe.training.seed, held_out=not other)
        if images.label_names != label_names:
            raise UserError(
                f"validation.source must have the classes of data.source, {_few(label_names)}, "
                f"not {_few(images.label_names)}"
            )
        order = torch.randperm(len(images), generator=generator("validation"))[: config.images].tolist()
        self.images = _read(images, order, vae)
        self.seed = recipe.training.seed
        # what training alone does, such as weighting the errors, would keep runs from being compared
        self.objective = DiffusionObjective(recipe.diffusion.prediction, recipe.diffusion.timesteps)

    def measure(self, learner: Learner, layout: Layout, batch: int, ranks: Ranks) -> dict[str, Any]:
        """The loss of the averaged weights, by block and by bin of timesteps (null where no draw fell).

        The noise is the same at every call, and whatever the ranks. All of them take part.

        Args:
            learner: whose network is measured.
            layout: of the blocks.
            batch: images of a forward.
            ranks: that share the images.
        """
        sums = torch.zeros(2, layout.num_blocks + BINS, dtype=torch.float64)  # of errors, and their number
        everyone = range(len(self.images))
        stride = batch * ranks.world_size
        with learner.averaged(), torch.no_grad():
            for first in range(ranks.rank * batch, ranks.rank * batch + len(everyone), stride):
                rows = everyone[first : first + batch]
                # a rank without images of its own goes along, for sharded weights are gathered by all
                errors, places = self._errors(rows or range(1), learner, layout)
                if rows:
                    sums[0].index_add_(0, places, errors.repeat(2))
                    sums[1].index_add_(0, places, torch.ones(len(places), dtype=torch.float64))
        ranks.total(sums)
        blocks, bins = (part.split([layout.num_blocks, BINS]) for part in (sums[0] / sums[1], sums[1]))
        shown = [
            [mean if number else None for mean, number in zip(means.tolist(), numbers.tolist(), strict=True)]
            for means, numbers in zip(blocks, bins, strict=True)
        ]
        total, number = (part[: layout.num_blocks].sum().item() for part in sums)
        return {"loss": total / number, "by_block": shown[0], "by_timestep": shown[1]}

    def _errors(self, rows: range, learner: Learner, layout: Layout) -> tuple[torch.Tensor, torch.Tensor]:
        """Errors (n x M), and the table's rows that they belong to: of their blocks, then of their bins."""
        device, dtype = learner.ranks.device, learner.network.dtype
        images = self.images.data[rows.start : rows.stop].to(device, dtype)
        losses = self.objective.loss(
            learner.model,
            layout.to_blocks(images),
            layout=layout,
            key=SampleKey(self.seed, [EPOCH] * len(rows), list(rows)),
            labels=self.images.labels[rows.start : rows.stop].to(device),
        )
        blocks = torch.tensor(losses.blocks).expand(len(rows), -1)
        bins = (losses.timesteps.cpu() * BINS / TRAIN_STEPS).long().clamp(0, BINS - 1) + layout.num_blocks
        errors = losses.per_view.double().cpu().flatten()
        return errors, torch.cat([blocks.flatten(), bins.flatten()])


def _read(images: PixelDataset, order: list[int], vae: Any) -> InMemoryDataset:
    """Some images in memory; their latents, each drawn once, where there is an autoencoder."""
    read = [images.read(index) for index in order]
    pixels, labels = torch.stack([image for image, _ in read]), torch.tensor([label for _, label in read])
    if vae is not None:
        parts = [encode(vae, part) for part in pixels.split(16)]
        mean, deviation = (torch.cat(part) for part in zip(*parts, strict=True))
        pixels = mean + deviation * torch.randn(mean.shape, generator=generator("validation", "latent"))
    return InMemoryDataset(pixels, labels, images.label_names)


def _few(names: tuple[str, ...]) -> str:
    return f"{len(names)} from {names[0]} to {names[-1]}"
