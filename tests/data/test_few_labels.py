"""Runs with few labels: N samples of every class, and digits held out from the training part."""

import hashlib
import unicodedata

import pytest
import torch

from acdit.data.config import DataConfig
from acdit.data.digits import digit_images
from acdit.data.identity import data_changes
from acdit.data.opening import open_samples
from acdit.data.splits import held_out_config
from acdit.training.plan import make_plan
from acdit.training.recipes import load_recipe
from acdit.training.run import Run
from acdit.training.validation import Validation, check_validation
from acdit.utils.errors import UserError
from tests.data.test_images import EDGE, encoded, write
from tests.training.small import small_recipe

COUNTS = {"ant": 9, "bee": 4, "cow": 6}


@pytest.fixture
def folder(tmp_path):
    seeds = iter(range(100))
    files = {f"{name}/{i}.png": encoded(next(seeds)) for name, count in COUNTS.items() for i in range(count)}
    return write(tmp_path / "pictures", files)


def contents(config: DataConfig, seed: int = 0, held_out: bool = False) -> dict[bytes, int]:
    """Return the label of every item by its pixels."""
    data = open_samples(config, seed=seed, held_out=held_out)
    return {data.decode(index).numpy().tobytes(): int(data.labels[index]) for index in range(len(data))}


def counts(items: dict[bytes, int], classes: int) -> list[int]:
    return torch.tensor(list(items.values())).bincount(minlength=classes).tolist()


def of_folder(folder, **keys) -> DataConfig:
    return DataConfig(source=str(folder), image_size=EDGE, flip=False, **keys)


def test_every_class_keeps_as_many_samples_as_requested(folder):
    for whole, few, classes in (
        (of_folder(folder), of_folder(folder, labels_per_class=3), 3),
        (DataConfig(source="digits"), DataConfig(source="digits", labels_per_class=3), 10),
    ):
        every, chosen = contents(whole), contents(few)
        assert counts(chosen, classes) == [3] * classes and chosen.items() <= every.items()
        assert chosen == contents(few) != contents(few, seed=1)


def test_fewer_labels_are_a_part_of_more(folder):
    for count in (1, 2, 3):
        fewer, more = (contents(of_folder(folder, labels_per_class=n)) for n in (count, count + 1))
        assert fewer.items() < more.items()


def test_the_choice_depends_on_names_and_not_on_the_order_or_other_classes(folder):
    before = contents(of_folder(folder, labels_per_class=3))
    # the first files in a hash of (seed, purpose, name), computed here from the definition
    for label, (name, count) in enumerate(COUNTS.items()):
        keys = {}
        for number in range(count):
            key = repr((0, "labels per class", f"{number}.png")).encode()
            keys[number] = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1
        data = open_samples(of_folder(folder), seed=0)
        first = {n for n, _ in sorted(keys.items(), key=lambda pair: pair[1])[:3]}
        rows = [row for row in range(len(data)) if int(data.labels[row]) == label]
        kept = {number for number, row in enumerate(rows) if data.decode(row).numpy().tobytes() in before}
        assert kept == first, name
    for path in (folder / "ant").iterdir():
        path.unlink()
    (folder / "ant").rmdir()
    after = contents(of_folder(folder, labels_per_class=3))
    assert set(after) == {pixels for pixels, label in before.items() if label}


def test_digits_are_held_out_from_the_training_part():
    training, _ = digit_images("digits")
    test = {image.numpy().tobytes() for image in digit_images("digits", held_out=True)[0]}
    fraction = DataConfig(source="digits", validation_fraction=0.25)
    left, held_out = contents(fraction), contents(fraction, held_out=True)
    whole = contents(DataConfig(source="digits"))
    assert left | held_out == whole and not left.keys() & held_out.keys() and not held_out.keys() & test
    assert counts(held_out, 10) == [round(0.25 * count) for count in counts(whole, 10)]
    assert held_out == contents(fraction, seed=5, held_out=True)
    assert len(whole) == len(training)
    few = contents(DataConfig(source="digits", validation_fraction=0.25, labels_per_class=7))
    assert few.items() < left.items() and counts(few, 10) == [7] * 10


def test_a_run_sees_the_chosen_labels_and_validates_on_all_others(tmp_path):
    recipe = small_recipe(
        tmp_path,
        data={"labels_per_class": 2, "validation_fraction": 0.2},
        validation={"every": 1, "images": 10_000},
    )
    assert check_validation(recipe) == "0.2 of the training part of digits"
    run = Run(recipe)
    assert run.data.labels.bincount().tolist() == [2] * 10
    validation = Validation(recipe, run.data.label_names, None)
    held_out = contents(DataConfig(source="digits", validation_fraction=0.2), held_out=True)
    assert {image.numpy().tobytes() for image in validation.data} == set(held_out)
    run.save()
    with pytest.raises(UserError, match=r"labels_per_class was 2 and is 3.*class 0 had 2 items and has 3"):
        Run(small_recipe(tmp_path, data={"labels_per_class": 3, "validation_fraction": 0.2}))
    with pytest.raises(UserError, match="they differ in content or order"):
        changed = {"labels_per_class": 2, "validation_fraction": 0.2}
        Run(small_recipe(tmp_path, data=changed, training={"seed": 1}))


def test_a_named_source_of_validation_keeps_all_its_labels(folder):
    config = of_folder(folder, labels_per_class=2)
    assert held_out_config(config, "digits", None, None).labels_per_class is None
    assert len(open_samples(held_out_config(config, str(folder), None, None), seed=0)) == sum(COUNTS.values())


def test_classes_with_fewer_labels_are_named(folder, tmp_path):
    with pytest.raises(UserError, match=r"labels_per_class is 5, but class 'bee' of .* has 4 training sam"):
        open_samples(of_folder(folder, labels_per_class=5), seed=0)
    with pytest.raises(UserError, match=r"class 'bee' of .* has 3 .*: set it to at most 3"):
        open_samples(of_folder(folder, labels_per_class=4, validation_fraction=0.2), seed=0)
    with pytest.raises(UserError, match=r"labels_per_class is 150, but class '\d' of digits has 1\d\d"):
        open_samples(DataConfig(source="digits", labels_per_class=150), seed=0)
    bare = write(tmp_path / "bare", {"1.png": encoded(1), "2.png": encoded(2)})
    with pytest.raises(UserError, match=r"labels_per_class 1 needs classes, but .* has none: leave it out"):
        open_samples(of_folder(bare, labels_per_class=1), seed=0)
    with pytest.raises(UserError, match="labels_per_class 2 has no effect on moving-digits"):
        open_samples(DataConfig(source="moving-digits", frames=4, labels_per_class=2), seed=0)
    with pytest.raises(UserError, match=r"data\.labels_per_class must be at least 1, not 0"):
        DataConfig(labels_per_class=0)
    with pytest.raises(
        UserError, match=r"data\.labels_per_class is for images, video and image classification, not "
    ):
        load_recipe("laptop-text", **{"data.labels_per_class": 1})


def test_a_plan_counts_the_labels_of_a_folder_without_reading_files(folder, tmp_path):
    def found(labels: int, fraction: float = 0.0) -> list[tuple[bool, str]]:
        changes = {"data.labels_per_class": labels, "data.validation_fraction": fraction}
        recipe = load_recipe(folder, **changes, **{"out": str(tmp_path / "run"), "validation.every": 0})
        return [(check.ok, check.found) for check in make_plan(recipe).checks if check.subject == "labels"]

    assert found(4) == [(True, "12, 4 of every class; training also checks the files")]
    assert not found(4, 0.2)[0][0] and "class 'bee'" in found(4, 0.2)[0][1]


def test_files_of_one_name_are_chosen_by_their_paths(tmp_path):
    """Such as a folder for each instance: the seed decides, not the order of the folders."""
    places = [f"{name}/{number:04}/image.png" for name in ("ant", "bee") for number in range(8)]
    files = {place: encoded(number) for number, place in enumerate(places)}
    folder = write(tmp_path / "pictures", files)
    chosen = [contents(of_folder(folder, labels_per_class=3), seed) for seed in range(3)]
    assert len({frozenset(each) for each in chosen}) == 3
    assert all(counts(each, 2) == [3, 3] for each in chosen)
    held_out = open_samples(of_folder(folder, validation_fraction=0.25), seed=0, held_out=True)
    names = [held_out.file_name(index) for index in range(len(held_out))]
    assert held_out.labels.bincount().tolist() == [2, 2]
    assert {name.split("/")[1] for name in names} != {"0000", "0001"}  # not the first ones of the order


def test_names_of_macos_are_the_same_names(tmp_path):
    """macOS may store é as two characters: choice, division and description of the files stay."""
    names = [f"caf\u00e9/{number}\u00e9.png" for number in range(8)]
    folders = [
        write(
            tmp_path / form, {unicodedata.normalize(form, name): encoded(i) for i, name in enumerate(names)}
        )
        for form in ("NFC", "NFD")
    ]
    for keys in ({"labels_per_class": 3}, {"validation_fraction": 0.3}):
        one, other = (contents(of_folder(folder, **keys)) for folder in folders)
        assert one == other
    one, other = (open_samples(of_folder(folder), seed=0).identity for folder in folders)
    assert data_changes(one, other) == ([], [])
