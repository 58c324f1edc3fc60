"""A fraction of the files of every class is held out from training, whatever the seed and the folder."""

from pathlib import Path

import pytest

from acdit.data.config import DataConfig
from acdit.data.opening import open_samples
from acdit.training.recipes import load_recipe
from acdit.training.validation import check_validation
from acdit.utils.errors import UserError
from tests.data.test_images import EDGE, encoded, write

COUNTS = {"ant": 10, "bee": 3, "cow": 1}


@pytest.fixture
def folder(tmp_path):
    seeds = iter(range(100))
    files = {f"{name}/{i}.png": encoded(next(seeds)) for name, count in COUNTS.items() for i in range(count)}
    return write(tmp_path / "pictures", files)


def images(folder: Path, fraction: float, held_out: bool, seed: int = 0) -> dict[bytes, int]:
    config = DataConfig(source=str(folder), image_size=EDGE, flip=False, validation_fraction=fraction)
    data = open_samples(config, seed=seed, held_out=held_out)
    assert data.label_names == tuple(COUNTS)
    return {data.read(index)[0].numpy().tobytes(): int(data.labels[index]) for index in range(len(data))}


@pytest.mark.parametrize(
    ("fraction", "counts"), [(0.01, [1, 1, 0]), (0.2, [2, 1, 0]), (0.5, [5, 2, 0]), (0.99, [9, 2, 0])]
)
def test_every_class_is_divided(folder, fraction, counts):
    held_out, trained, every = (
        images(folder, *given) for given in ((fraction, True), (fraction, False), (0.0, False))
    )
    assert [list(held_out.values()).count(label) for label in range(3)] == counts
    assert held_out.keys() | trained.keys() == every.keys() and not held_out.keys() & trained.keys()
    assert held_out | trained == every


def test_the_division_depends_on_names_alone(folder, tmp_path):
    before = images(folder, 0.3, True)
    assert before == images(folder, 0.3, True, seed=5)
    folder.rename(tmp_path / "moved")
    assert before == images(tmp_path / "moved", 0.3, True)


def test_validation_without_a_held_out_part(folder, tmp_path):
    with pytest.raises(UserError, match=r"no held-out part.*set data\.validation_fraction"):
        images(folder, 0.0, True)
    write(tmp_path / "singles", {f"{name}/1.png": encoded(0) for name in COUNTS})
    with pytest.raises(UserError, match=r"every class has one only: set it to 0"):
        images(tmp_path / "singles", 0.5, True)
    both = load_recipe(folder, **{"validation.source": str(tmp_path / "singles"), "out": str(tmp_path / "x")})
    with pytest.raises(
        UserError, match=r"data\.validation_fraction 0\.1 holds out samples that validation\.source"
    ):
        check_validation(both)
    with pytest.raises(UserError, match=r"has a held-out part of its own: leave out"):
        open_samples(DataConfig(source="moving-digits", frames=4, validation_fraction=0.1), seed=0)
    with pytest.raises(UserError, match=r"data\.validation_fraction is for images, video and"):
        load_recipe("laptop-text", **{"data.validation_fraction": 0.1})
    recipe = load_recipe(folder, out=str(tmp_path / "run"))
    assert check_validation(recipe) == "0.1 of the files of every class"
    assert (recipe.name, recipe.data.source, recipe.data.image_size) == ("pictures", str(folder), 64)
    assert (recipe.data.channels, recipe.data.validation_fraction, recipe.data.frames) == (3, 0.1, None)


@pytest.mark.parametrize("name", ["my photos (2024)", "été", "..hidden.."])
def test_a_run_is_named_after_its_folder(name, tmp_path):
    (tmp_path / name).mkdir()
    recipe = load_recipe(tmp_path / name)
    assert recipe.name == {"my photos (2024)": "my-photos-2024", "..hidden..": "hidden"}.get(name, name)
    assert recipe.folder == Path("runs") / recipe.name
