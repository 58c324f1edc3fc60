"""Augmented and mixed images, against closed forms and distributions, as functions of their keys."""

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import affine_transform
from scipy.stats import beta, chisquare, kstest
from torch.utils.data import DataLoader

from acdit.data.dataset import InMemoryDataset
from acdit.training.augmentation import OPERATIONS, rand_augmented, rotated_and_scaled, translated
from acdit.training.augmented_data import AugmentedDataset
from acdit.training.classifier_config import ClassifierConfig
from acdit.training.mixing import draw_mix, soft_labels
from acdit.utils.randomness import generator

ALPHA = 0.8
ALL = ClassifierConfig(mixup=ALPHA, cutmix=1.0, shift=2, rotation=10, scaling=0.1, randaugment=2)


def images(count: int = 12, channels: int = 3, side: int = 8) -> InMemoryDataset:
    """Return random images with the values of 8-bit pixels."""
    pixels = torch.randint(256, (count, channels, side, side), generator=generator("pixels"))
    return InMemoryDataset(pixels / 127.5 - 1, torch.arange(count) % 3, ("a", "b", "c"))


def draws(config: ClassifierConfig, count: int, side: int = 64):
    return [draw_mix(config, (side, side), 1000, 0, 0, index) for index in range(count)]


def test_weights_of_mixup_have_the_distribution_of_the_paper():
    mixes = draws(ClassifierConfig(mixup=ALPHA), 2000)
    weights = [mix.weight for mix, _ in mixes]
    assert kstest(weights, beta(ALPHA, ALPHA).cdf).pvalue > 1e-3
    partners = np.bincount([partner * 10 // 1000 for _, partner in mixes], minlength=10)
    assert chisquare(partners).pvalue > 1e-3


def test_areas_of_cutmix_have_the_distribution_of_the_paper():
    # a rectangle around the centre is not clipped: its area is that of 1 - lambda, rounded to whole cells
    mixes = [mix for mix, _ in draws(ClassifierConfig(cutmix=1.0), 4000, side=512)]
    inside = []
    for mix in mixes:
        assert mix.rectangle is not None
        top, bottom, left, right = mix.rectangle
        if top > 0 and left > 0 and bottom < 512 and right < 512:
            inside.append(bottom - top)
            assert abs((bottom - top) - (right - left)) <= 1  # a square in a square

    # lambda is uniform, and a square of side s at a uniform centre lies inside with probability (1 - s)^2:
    # the density of s is then 2 s (1 - s)^2, whose distribution function is known after normalising by 1/6
    def cdf(side):
        return 6 * side**2 - 8 * side**3 + 3 * side**4

    assert len(inside) > 300 and kstest(np.array(inside) / 512, cdf).pvalue > 1e-3


@pytest.mark.parametrize("config", [ClassifierConfig(mixup=ALPHA), ClassifierConfig(cutmix=1.0)])
def test_weights_are_exactly_the_fractions_of_both_images(config):
    black, white = torch.zeros(1, 16, 16, dtype=torch.float64), torch.ones(1, 16, 16, dtype=torch.float64)
    for mix, _ in draws(config, 200, side=16):
        assert abs(float(mix(white, black).mean()) - mix.weight) < 1e-12
        if config.cutmix:
            assert set(mix(white, black).unique().tolist()) <= {0.0, 1.0}
            assert float(mix(white, black).sum()) == round(mix.weight * 256)
        else:
            assert mix(white, black).unique().numel() == 1


def test_every_part_of_the_key_decides_how_an_item_is_mixed():
    def mixed(seed: int, epoch: int) -> list:
        return [draw_mix(ALL, (8, 8), 1000, seed, epoch, index) for index in range(20)]

    assert mixed(0, 0) == mixed(0, 0)
    for others in (mixed(0, 1), mixed(1, 0), mixed(0, 0)[1:]):
        assert all(one != other for one, other in zip(mixed(0, 0), others, strict=False))


def key_of(*parts) -> int:
    """The seed of a draw, from its definition: a hash of everything that it depends on."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little") >> 1


def test_draws_are_keyed_by_seed_purpose_epoch_and_index():
    for seed, epoch, index in ((3, 1, 7), (3, 1, 8), (3, 2, 7), (4, 1, 7)):
        source = np.random.default_rng(key_of(seed, "mix", epoch, index))
        partner, cuts = int(source.integers(1000)), source.random() < 0.5
        weight = source.beta(ALL.cutmix if cuts else ALL.mixup, ALL.cutmix if cuts else ALL.mixup)
        mix, other = draw_mix(ALL, (8, 8), 1000, seed, epoch, index)
        assert other == partner and (mix.rectangle is not None) == cuts
        assert cuts or mix.weight == weight

        config = ClassifierConfig(shift=2, rotation=10, scaling=0.1, randaugment=2)
        data = images()
        shift, turn, operations = (
            torch.Generator().manual_seed(key_of(seed, purpose, epoch, index))
            for purpose in ("shift", "rotation", "randaugment")
        )
        moved = translated(data[epoch, index]["data"], 2, shift)
        moved = rotated_and_scaled(moved, 10, 0.1, turn)
        expected = rand_augmented(moved, 2, config.randaugment_magnitude, operations)
        assert torch.equal(AugmentedDataset(data, config, seed)[epoch, index]["data"], expected)


def test_one_of_both_is_drawn_with_equal_probability():
    cuts = sum(mix.rectangle is not None for mix, _ in draws(ALL, 1000))
    assert chisquare([cuts, 1000 - cuts]).pvalue > 1e-3


def test_soft_labels_sum_to_one_and_name_both_classes():
    labels, others, weights = torch.tensor([0, 2, 1]), torch.tensor([1, 2, 0]), torch.tensor([0.25, 0.5, 1.0])
    expected = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    assert torch.equal(soft_labels(labels, others, weights, 3), expected)


def test_items_depend_on_their_keys_alone():
    data = AugmentedDataset(images(), ALL, seed=3)
    keys = [(epoch, index) for epoch in range(2) for index in range(12)]
    one_by_one = [data[key] for key in keys]
    batches = [keys[first : first + 5] for first in range(0, len(keys), 5)][::-1]
    for workers in (0, 2):
        for batch in DataLoader(data, batch_sampler=batches, num_workers=workers):
            for row, key in enumerate(zip(batch["epoch"].tolist(), batch["index"].tolist(), strict=True)):
                item = one_by_one[keys.index(key)]
                assert torch.equal(batch["data"][row], item["data"])
                assert batch["weight"][row].item() == item["weight"]
                assert batch["other_label"][row].item() == item["other_label"]
    other = AugmentedDataset(images(), ALL, seed=4)
    assert all(not torch.equal(data[key]["data"], other[key]["data"]) for key in keys)
    assert all(not torch.equal(data[0, index]["data"], data[1, index]["data"]) for index in range(12))


def test_a_mixture_is_that_of_the_two_augmented_images():
    plain = AugmentedDataset(
        images(), ClassifierConfig(shift=2, rotation=10, scaling=0.1, randaugment=2), seed=3
    )
    mixed = AugmentedDataset(images(), ALL, seed=3)
    for index in range(12):
        mix, partner = draw_mix(ALL, (8, 8), 12, 3, 0, index)
        item = mixed[0, index]
        assert torch.equal(item["data"], mix(plain[0, index]["data"], plain[0, partner]["data"]))
        assert (item["label"], item["other_label"]) == (index % 3, partner % 3)


def test_without_augmentation_the_images_are_unchanged():
    data = images()
    item = AugmentedDataset(data, ClassifierConfig(), seed=0)[0, 5]
    assert torch.equal(item["data"], data[0, 5]["data"]) and item["weight"] == 1.0
    assert item["label"] == item["other_label"] == 2


def test_translations_are_uniform_and_padded_with_the_border():
    image = torch.arange(25.0).view(1, 5, 5)
    counts = np.zeros((5, 5), dtype=int)
    for index in range(1000):
        moved = translated(image, 2, generator(index))
        # the centre of the moved image tells the offset
        row, column = divmod(int(moved[0, 2, 2]), 5)
        counts[row, column] += 1
        expected = image[0][(torch.arange(5) + row - 2).clamp(0, 4)][
            :, (torch.arange(5) + column - 2).clamp(0, 4)
        ]
        assert torch.equal(moved[0], expected)
    assert chisquare(counts.flatten()).pvalue > 1e-3


@pytest.mark.parametrize("shape", [(8, 8), (6, 11)])
def test_rotated_and_scaled_images_are_those_of_scipy(shape):
    image = torch.rand(2, *shape, generator=generator("image"), dtype=torch.float64)
    centre = (np.array(shape) - 1) / 2
    for index in range(20):
        turn, growth = (2 * torch.rand(2, generator=generator(index), dtype=torch.float64) - 1).tolist()
        angle, scale = np.deg2rad(40 * turn), 1 + 0.3 * growth
        # from (row, column) of the result to that of the image
        matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / scale
        expected = [
            affine_transform(each, matrix, centre - matrix @ centre, order=1, mode="nearest")
            for each in image.numpy()
        ]
        moved = rotated_and_scaled(image, 40, 0.3, generator(index))
        assert np.abs(moved.numpy() - np.stack(expected)).max() < 1e-9


def test_angles_and_scales_are_uniform():
    # the image is its column number: along the middle row, its slope tells the angle and the scale
    ramp = torch.arange(101.0, dtype=torch.float64).expand(1, 101, 101) - 50
    angles, scales = [], []
    for index in range(1000):
        moved = rotated_and_scaled(ramp, 30, 0.2, generator(index))[0]
        across, down = float(moved[50, 51] - moved[50, 50]), float(moved[51, 50] - moved[50, 50])
        angles.append(np.rad2deg(np.arctan2(down, across)))
        scales.append(1 / np.hypot(across, down))
    assert kstest((np.array(angles) + 30) / 60, "uniform").pvalue > 1e-3
    assert kstest((np.array(scales) - 0.8) / 0.4, "uniform").pvalue > 1e-3


def test_randaugment_draws_every_operation_equally_often_at_both_signs(monkeypatch):
    seen: list[tuple[str, float]] = []
    for name in OPERATIONS:
        monkeypatch.setitem(OPERATIONS, name, lambda picture, s, name=name: seen.append((name, s)) or picture)
    image = images()[0, 0]["data"]
    for index in range(700):
        rand_augmented(image, 2, 9.0, generator(index))
    counts = [sum(name == each for name, _ in seen) for each in OPERATIONS]
    assert len(counts) == 14 and chisquare(counts).pvalue > 1e-3
    positive = sum(strength > 0 for _, strength in seen)
    assert chisquare([positive, len(seen) - positive]).pvalue > 1e-3
    assert {abs(strength) for _, strength in seen} == {0.9}


@pytest.mark.parametrize("channels", [1, 3])
def test_operations_follow_their_definitions(channels):
    pixels = np.array(
        torch.randint(256, (16, 16, channels), generator=generator("operations")), dtype=np.uint8
    )
    picture = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)

    def after(name: str, strength: float) -> np.ndarray:
        return np.array(OPERATIONS[name](picture, strength)).reshape(16, 16, channels)

    assert np.array_equal(after("identity", 0.9), pixels)
    assert np.array_equal(after("solarize", 1.0), 255 - pixels)
    assert np.array_equal(after("solarize", -0.5), np.where(pixels < 128, pixels, 255 - pixels))
    assert np.array_equal(after("posterize", 1.0), pixels & 0b11110000)
    assert np.array_equal(after("translate x", 4 / (0.45 * 16))[:, :12], pixels[:, 4:])
    assert np.array_equal(after("translate y", -4 / (0.45 * 16))[4:], pixels[:12])
    assert (after("translate x", 4 / (0.45 * 16))[:, 12:] == 128).all()
    assert np.abs(after("brightness", -1.0) - 0.1 * pixels.astype(float)).max() < 1
    for name in ("rotate", "shear x", "shear y", "color", "contrast", "sharpness"):
        assert np.array_equal(after(name, 0.0), pixels)
        assert np.array_equal(after(name, 0.9), pixels) == (name == "color" and channels == 1)
    if channels == 1:  # the rows of a sheared image move by 0.3 of their distance from the centre
        column = Image.fromarray(np.eye(1, 17, 8, dtype=np.uint8).repeat(17, 0) * 255)
        sheared = np.array(OPERATIONS["shear x"](column, 1.0)).astype(float)
        inner = sheared[4:13, 4:13]  # without the uncovered border
        centres = (inner * np.arange(4, 13)).sum(1) / inner.sum(1)
        assert np.allclose(centres, 8 - 0.3 * (np.arange(4, 13) - 8), atol=0.06)


@pytest.mark.parametrize("channels", [1, 3])
def test_augmented_images_stay_images(channels):
    data = AugmentedDataset(images(30, channels), ClassifierConfig(randaugment=3), seed=0)
    for index in range(30):
        image = data[0, index]["data"]
        assert image.shape == (channels, 8, 8) and image.dtype == torch.float32
        assert image.min() >= -1 and image.max() <= 1
