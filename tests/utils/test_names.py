"""Names of classes: their order and the class that a label requests, against lists made by hand."""

import random
import unicodedata

import pytest

from acdit.utils.errors import UserError
from acdit.utils.names import class_id, class_order, same_classes

NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    "ordered",
    [
        [str(number) for number in range(12)],
        ["2019", "2020", "10000"],
        ["-10", "-2", "0", "0.5", "01", "1", "+3", "10"],
        ["9" * 5000, "1" + "0" * 5000],
        ["0", "1", "10", "2", "other"],  # not all are numbers
        ["1e3", "2", "nan"],
        ["Zebra", "ant", "cafe", "cafz", NFD],  # as the composed é, whatever the file system stores
    ],
    ids=lambda ordered: ",".join(ordered)[:40],
)
def test_names_that_are_all_numbers_are_in_the_order_of_numbers(ordered):
    for seed in range(5):
        assert class_order(random.Random(seed).sample(ordered, len(ordered))) == ordered


def test_a_name_is_compared_before_a_number():
    names = dict(enumerate(["0", "1", "10", "11", "2", "7", "null", NFD, "a, b"]))
    for label, expected in (("10", 2), ("2", 4), ("7", 5), ("8", 8), ("008", 8), ("null", 6), (NFC, 7)):
        assert class_id(label, names, 9) == expected
    assert class_id(10, names, 9) is None and class_id(2, names, 9) == 2
    for label in ("9", "-1", "9" * 5000, "1.0", "", " 2", "NULL", "٣", None, 1.5):
        assert class_id(label, names, 9) is None
    assert class_id("3", {}, 4) == 3


def test_a_name_of_several_classes_is_refused():
    with pytest.raises(UserError, match=r"several classes are named 'crane'.* 0, 2"):
        class_id("crane", {0: "crane", 1: "maillot", 2: "crane"}, 3)
    both = {0: NFC, 1: NFD}  # two folders of a file system that does not normalise
    assert class_id(NFC, both, 2) == 0 and class_id(NFD, both, 2) == 1


def test_the_same_classes_in_another_order():
    assert same_classes(["0", "1", "10", "2"], ["0", "1", "2", "10"]) == [0, 1, 3, 2]
    assert same_classes([NFC, "b"], ["b", NFD]) == [1, 0]
    assert same_classes([], []) == []
    for names, others in ((["a"], ["b"]), (["a"], ["a", "b"]), (["a", "b"], ["a", "a"]), ([], ["a"])):
        assert same_classes(names, others) is None
    assert same_classes(["a", "a"], ["a", "a"]) == [0, 1]
