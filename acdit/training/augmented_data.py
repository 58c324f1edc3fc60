"""Data set of augmented and mixed images, which are functions of (seed, epoch, index) alone."""

from typing import TypedDict

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..data.dataset import LabelledDataset
from ..utils.randomness import generator
from .augmentation import rand_augmented, rotated_and_scaled, translated
from .classifier_config import ClassifierConfig
from .mixing import draw_mix


class MixedItem(TypedDict):
    """One item: an image that may be a mixture of two, with both labels and the weight of the first."""

    data: Tensor  # (C, H, W)
    label: int
    other_label: int
    weight: float
    epoch: int
    index: int


class AugmentedDataset(Dataset[MixedItem]):
    """Images of a data set after augmentation of each, and mixup or cutmix with another image of it.

    The images of a mixture are augmented first, each by its own key. Workers, ranks and batches have no
    influence on the items.

    Args:
        data: Data set of images or latents.
        config: Configuration of the augmentation.
        seed: Seed of the run.
    """

    def __init__(self, data: LabelledDataset, config: ClassifierConfig, seed: int) -> None:
        self.data, self.config, self.seed = data, config, seed

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: tuple[int, int]) -> MixedItem:
        epoch, index = key
        image, label = self._augmented(epoch, index)
        other_label, weight = label, 1.0
        if self.config.mixes:
            size = (image.shape[-2], image.shape[-1])
            mix, partner = draw_mix(self.config, size, len(self), self.seed, epoch, index)
            other, other_label = self._augmented(epoch, partner)
            image, weight = mix(image, other), mix.weight
        return {
            "data": image,
            "label": label,
            "other_label": other_label,
            "weight": weight,
            "epoch": epoch,
            "index": index,
        }

    def _augmented(self, epoch: int, index: int) -> tuple[Tensor, int]:
        """Return an augmented image and its label."""
        item, config = self.data[epoch, index], self.config
        source = generator(self.seed, "shift", epoch, index)
        image = translated(item["data"], config.shift, source)
        source = generator(self.seed, "rotation", epoch, index)
        image = rotated_and_scaled(image, config.rotation, config.scaling, source)
        source = generator(self.seed, "randaugment", epoch, index)
        image = rand_augmented(image, config.randaugment, config.randaugment_magnitude, source)
        return image.to(torch.float32), item["label"]
