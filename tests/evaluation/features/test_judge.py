import pytest
import torch

from acdit.data.digits import digit_images
from acdit.evaluation.features import digit_classifier as module
from acdit.evaluation.features.digit_classifier import (
    DigitClassifier,
    fit_digit_classifier,
    load_digit_classifier,
)


def accuracy(judge: DigitClassifier, images: torch.Tensor, labels: torch.Tensor) -> float:
    return float((judge.predict(images) == labels).double().mean())


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setattr(module, "STEPS", 5)


def test_the_judge_knows_digits_that_it_was_not_fitted_to(judge, held_out):
    assert accuracy(judge, *held_out) >= 0.98


@pytest.mark.long
def test_the_judge_knows_mnist_digits_that_it_was_not_fitted_to(tmp_path, monkeypatch):
    monkeypatch.setenv("ACDIT_CACHE", str(tmp_path))
    judge = fit_digit_classifier(*digit_images("mnist"))
    assert accuracy(judge, *digit_images("mnist", held_out=True)) >= 0.97


def test_predictions_follow_from_the_features(judge, held_out):
    images = held_out[0]
    features = judge.features(images)
    assert features.shape == (len(images), 64)
    logits = features @ judge.head.weight.T + judge.head.bias
    assert torch.equal(logits.argmax(dim=1), judge.predict(images))
    torch.testing.assert_close(judge.features(images, batch=7), features, rtol=1e-4, atol=1e-4)
    assert not judge.training and not any(weight.requires_grad for weight in judge.parameters())


@pytest.mark.parametrize("edge", [8, 16, 28, 32])
def test_every_size_of_image_has_as_many_features(edge):
    assert DigitClassifier(edge, 1, 10).eval().features(torch.zeros(2, 1, edge, edge)).shape == (2, 64)


def test_fitting_repeats_exactly_and_leaves_the_global_random_state_alone(train, few_steps):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = fit_digit_classifier(*train).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    with torch.no_grad():  # a caller's mode does not matter
        again = fit_digit_classifier(*train).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)  # nor does the number of threads
    try:
        shared = fit_digit_classifier(*train).state_dict()
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(first[name], shared[name]) for name in first)
    other = fit_digit_classifier(*train, seed=1).state_dict()
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_weights_are_kept_by_data_seed_and_version(train, few_steps, tmp_path, monkeypatch):
    monkeypatch.setenv("ACDIT_CACHE", str(tmp_path))
    images, labels = train
    first = load_digit_classifier(images, labels)
    torch.testing.assert_close(
        first.features(images[:9]), fit_digit_classifier(images, labels).features(images[:9])
    )
    assert not first.training

    monkeypatch.setattr(module, "STEPS", 6)  # a new fit would give other weights
    assert torch.equal(load_digit_classifier(images, labels).features(images[:9]), first.features(images[:9]))
    assert len(list(tmp_path.iterdir())) == 1
    load_digit_classifier(images, labels, seed=1)
    load_digit_classifier(images, labels.flip(0))
    load_digit_classifier(images[1:], labels[1:])
    monkeypatch.setattr(module, "VERSION", 0)
    assert not torch.equal(
        load_digit_classifier(images, labels).features(images[:9]), first.features(images[:9])
    )
    assert len(list(tmp_path.iterdir())) == 5


def test_shifted_images_keep_their_content():
    torch.manual_seed(0)
    images = torch.full((200, 1, 12, 12), -1.0)
    images[:, :, 5:7, 4] = torch.tensor([0.5, 1.0])
    shifted = module._shifted(images)
    offsets = set()
    for image in shifted[:, 0]:
        row, column = divmod(int((image == 1).nonzero().squeeze() @ torch.tensor([12, 1])), 12)
        assert image[row - 1, column] == 0.5 and (image > -1).sum() == 2
        offsets.add((row - 6, column - 4))
    assert offsets == {(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)}
