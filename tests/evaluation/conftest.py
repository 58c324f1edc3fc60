import pytest

from acdit.data.digits import digit_images
from acdit.evaluation.features.digit_classifier import DigitClassifier, load_digit_classifier


@pytest.fixture(scope="session")
def train():
    return digit_images("digits")


@pytest.fixture(scope="session")
def held_out():
    return digit_images("digits", held_out=True)


@pytest.fixture(scope="session")
def judge(train) -> DigitClassifier:
    return load_digit_classifier(*train)
