"""How real data are divided: parts of one's own, halves, files as a whole; the classes of the samples."""

from collections.abc import Sized

import numpy as np
import pytest
import torch
from PIL import Image

from acdit.data.config import DataConfig
from acdit.evaluation import comparison
from acdit.evaluation.comparison import classes_like, suitable_features
from acdit.evaluation.real_sets import Geometry, RealSets, open_real, open_real_sets, parts_of
from acdit.evaluation.samples import StoredSamples, TensorSamples
from acdit.utils.errors import UserError
from tests.data.clip_files import numbers, write
from tests.pipelines.small import build, network
from tests.tiny import given

GEOMETRY = Geometry(8, 3)


def draw(folder, count, classes=("a", "b")):
    """Pictures of 8x8 pixels, each of one colour of its own, in classes."""
    for name in classes:
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = np.full((8, 8, 3), (40 * classes.index(name), index, 7), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index:03d}.png")
    return str(folder)


def pixels(samples):
    return torch.cat([part for _, part in samples.batches(7)])


def sizes(*parts: Sized | None) -> tuple[int, ...]:
    """The numbers of pictures of sets, none of which is missing."""
    return tuple(len(given(part)) for part in parts)


def shared(first, second):
    """The number of pictures that two sets have in common, by their pixels."""
    one, other = ({tuple(picture.flatten().tolist()) for picture in pixels(part)} for part in (first, second))
    return len(one & other)


def test_a_folder_without_parts_is_cut_into_halves(tmp_path):
    sets = open_real_sets(draw(tmp_path / "own", 11), GEOMETRY)
    assert (*sizes(sets.reference, sets.real), sets.count) == (11, 11, 11)
    assert shared(sets.reference, sets.real) == 0 and len(given(sets.searched)) == 22
    one, other = (given(each).describe() for each in (sets.reference, sets.real))
    assert one["digest"] == other["digest"] and one["items"] != other["items"]  # by which features are cached
    assert given(sets.reference.labels).tolist().count(0) == 6 and sets.training is sets.held_out is None
    assert "one half of" in sets.notes[0]
    few = open_real_sets(str(tmp_path / "own"), GEOMETRY, count=4)
    assert (*sizes(few.reference, few.real), few.count) == (11, 4, 4)
    many = open_real_sets(str(tmp_path / "own"), GEOMETRY, count=15)
    assert (len(many.reference), many.real, many.count) == (22, None, 15)
    assert "there are no values of real data" in many.notes[0]


def test_folders_of_splits_are_parts(tmp_path):
    draw(tmp_path / "own" / "train", 40)
    draw(tmp_path / "own" / "validation", 30)
    sets = open_real_sets(str(tmp_path / "own"), GEOMETRY, count=20)
    assert sizes(sets.training, sets.held_out, sets.reference, sets.real) == (80, 60, 20, 20)
    assert isinstance(sets.real, StoredSamples) and sets.real.shares_items(sets.training)
    assert isinstance(sets.reference, StoredSamples) and sets.reference.shares_items(sets.held_out)
    chosen = open_real_sets(str(tmp_path / "own"), GEOMETRY, split="train")
    assert chosen.training is None and sizes(chosen.reference, chosen.real) == (40, 40)


def test_the_fraction_that_a_run_held_out_is_found_again(tmp_path):
    source = draw(tmp_path / "own", 40)
    recorded = DataConfig(source=source, image_size=8, validation_fraction=0.75)
    sets = open_real_sets(source, GEOMETRY, recorded=recorded)
    assert (*sizes(sets.training, sets.held_out), sets.count) == (20, 60, 60)
    assert shared(sets.training, sets.held_out) == 0 and sets.real is None
    recorded.validation_fraction = 0.1  # too few to compare with
    few = open_real_sets(source, GEOMETRY, recorded=recorded)
    assert sizes(few.training, few.held_out, few.reference, few.real) == (72, 8, 36, 36)
    assert shared(few.held_out, few.reference) == 0 and "only 8 items" in few.notes[0]


@pytest.mark.parametrize("held", ["fraction", "split"])
def test_clips_have_the_stride_of_training_unless_another_is_given(tmp_path, held):
    """The held-out part of a run's own data and its training part, read frame by frame."""
    parts = [tmp_path] if held == "fraction" else [tmp_path / "train", tmp_path / "validation"]
    for part in parts:
        part.mkdir(exist_ok=True)
        for index in range(4):
            write(part / f"{index}.mp4", range(12))
    recorded = DataConfig(
        source=str(tmp_path), image_size=16, frames=3, frame_stride=3, short_clips="skip", flip=False
    )
    recorded.validation_fraction = 0.5 if held == "fraction" else 0.0
    for given_stride, stride in ((None, 3), (1, 1), (2, 2)):
        geometry = Geometry(16, 3, 3, given_stride)
        training, held_out = parts_of(str(tmp_path), geometry, None, recorded)
        assert sizes(training, held_out) == ((2, 2) if held == "fraction" else (4, 4))
        for clip in (*pixels(held_out), *pixels(given(training))):
            first, second, third = numbers(clip)
            assert second - first == third - second == stride


def test_an_npz_file_is_a_reference_as_a_whole(tmp_path):
    rows = np.random.default_rng(0).integers(0, 255, (20, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "ref.npz", arr_0=rows)
    sets = open_real_sets(str(tmp_path / "ref.npz"), GEOMETRY, count=5)
    assert (len(sets.reference), sets.real, sets.count) == (20, None, 5)
    assert len(open_real(str(tmp_path / "ref.npz"), GEOMETRY, 5)) == 5
    np.savez(tmp_path / "stats.npz", mu=np.zeros(4), sigma=np.eye(4))
    stored = open_real_sets(str(tmp_path / "stats.npz"), GEOMETRY)
    assert stored.searched is None and stored.count == 1000


def test_data_of_another_modality_or_in_grey(tmp_path):
    for source, geometry, said in (
        ("moving-digits", GEOMETRY, "holds clips, but the samples are images"),
        ("digits", Geometry(8, 1, 4), "holds images, but the samples are clips"),
        ("shakespeare", GEOMETRY, "holds texts, but the samples are images"),
    ):
        with pytest.raises(UserError, match=f"--data {source} {said}"):
            open_real_sets(source, geometry)
    np.savez(tmp_path / "clips.npz", arr_0=np.zeros((9, 4, 8, 8, 3), np.uint8))
    with pytest.raises(UserError, match="holds clips, but images are needed"):
        open_real_sets(str(tmp_path / "clips.npz"), GEOMETRY)
    sets = open_real_sets("digits", GEOMETRY, count=10)
    assert sets.reference.shape == given(sets.real).shape == given(sets.training).shape == (3, 8, 8)
    grey = open_real_sets("digits", Geometry(8, 1), count=10)
    assert torch.equal(pixels(sets.reference), pixels(grey.reference).expand(-1, 3, -1, -1))


def test_damaged_files_have_no_classes_to_draw(tmp_path):
    source = draw(tmp_path / "own", 10)
    (tmp_path / "own" / "a" / "003.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    sets = open_real_sets(source, GEOMETRY, count=20)
    assert len(sets.reference) == len(given(sets.reference.labels)) == 19
    assert "1 item of " in sets.notes[0] and "003.png" in sets.notes[0]
    for path in (tmp_path / "own").rglob("00[0-7].png"):
        path.write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    with pytest.raises(UserError, match=r"has 4 readable items, but at least 6 are needed"):
        open_real_sets(source, GEOMETRY, count=20)


def test_samples_have_the_classes_of_the_reference():
    pipeline = build(network(12))
    names = tuple(pipeline.label_names.values())
    reference = TensorSamples(torch.zeros(8, 1, 8, 8), torch.tensor([2, 2, 2, 2, 2, 2, 0, 0]), names)
    labels, notes = classes_like(pipeline, reference, 4)
    assert labels == [2, 2, 2, 0] and notes == ()
    other = TensorSamples(torch.zeros(2, 1, 8, 8), torch.tensor([0, 1]), (names[1], names[0]))
    assert classes_like(pipeline, other, 2)[0] == [1, 0]  # by name
    labels, notes = classes_like(pipeline, TensorSamples(torch.zeros(2, 1, 8, 8)), 5)
    assert labels == [number % len(names) for number in range(5)] and "drawn in turn" in notes[0]
    numbered = TensorSamples(torch.zeros(2, 1, 8, 8), torch.tensor([1, 99]))
    with pytest.raises(UserError, match="holds the classes 1 to 99, but the model has"):
        classes_like(pipeline, numbered, 2)


def test_features_suit_the_samples():
    digits = tuple("0123456789")
    assert (
        suitable_features((1, 32, 32), digits) == suitable_features((1, 8, 8), digits) == "digit-classifier"
    )
    assert suitable_features((1, 8, 32, 32), digits) == "clip-classifier"
    assert suitable_features((1, 32, 32), ("cat", "dog")) in ("efficientnet-lite0", "pixels")
    assert suitable_features((3, 8, 64, 64), ()) in ("frames:efficientnet-lite0", "pixels")


@pytest.mark.parametrize("held", ["fraction", "split"])
def test_runs_with_few_labels_are_scored_on_all_held_out_pictures(tmp_path, held):
    for part in ("train", "validation") if held == "split" else (".",):
        draw(tmp_path / part, 10)
    fraction = 0.5 if held == "fraction" else 0.0
    recorded = DataConfig(
        source=str(tmp_path), image_size=8, validation_fraction=fraction, labels_per_class=2
    )
    training, held_out = parts_of(str(tmp_path), GEOMETRY, None, recorded)
    expected = {"fraction": 10, "split": 20}[held]
    assert training is not None and len(training) == len(held_out) == expected


@pytest.mark.parametrize("missing", [True, False])
def test_pixels_in_place_of_features_are_said_with_the_line_that_installs_others(missing, monkeypatch):
    packages = ("no_such_package",) if missing else ("torch",)
    monkeypatch.setattr(comparison, "OFFLINE_PACKAGES", packages)
    monkeypatch.setattr(comparison, "OFFLINE", "pixels")
    generator = torch.Generator().manual_seed(0)
    samples, reference = (TensorSamples(part) for part in torch.rand(2, 12, 1, 8, 8, generator=generator))
    report = comparison.compare(
        samples, RealSets(reference, 12, None, reference, None, None), comparison.Comparison()
    )
    assert "features: pixels, since none are named with --features" in report.notes
    assert missing == any("pip install 'acdit[eval]'" in note for note in report.notes)


def test_copies_are_not_searched_in_pixels_that_do_not_fit_into_memory():
    generator = torch.Generator().manual_seed(0)
    samples, reference = (TensorSamples(part) for part in torch.rand(2, 12, 1, 8, 8, generator=generator))
    huge = TensorSamples(torch.zeros(1).expand(10**11, 1, 8, 8))
    few = TensorSamples(torch.rand(4, 1, 8, 8, generator=generator))
    for training, searched in ((few, True), (huge, False)):
        sets = RealSets(reference, 12, None, training, None, training)
        report = comparison.compare(samples, sets, comparison.Comparison())
        assert ("copied_fraction" in {score.metric for score in report.scores}) == searched
        notes = [note for note in report.notes if note.startswith("copies of the training data are not")]
        assert len(notes) == (not searched) and all("25.6 TB" in note for note in notes)
        assert {score.metric for score in report.scores} >= {"frechet_distance", "precision"}
