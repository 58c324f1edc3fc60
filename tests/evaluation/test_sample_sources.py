"""Samples of every source: what is read is what was written, in any batch and on any rank."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from acdit.data.digits import digit_images
from acdit.data.image_decoding import decode_image
from acdit.evaluation.channels import with_channels
from acdit.evaluation.sample_sources import check_modality, open_samples_of
from acdit.evaluation.samples import Samples, TensorSamples, picked
from acdit.utils.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (11, 6, 4, 3), dtype=np.uint8)
VALUES = torch.from_numpy(PIXELS).double().permute(0, 3, 1, 2) / 127.5 - 1  # (11, 3, 6, 4)


def read(samples: Samples[torch.Tensor], size: int = 4, ranks: int = 1) -> torch.Tensor:
    """All samples in order, as `ranks` processes read them together."""
    rows = {}
    for rank in range(ranks):
        for numbers, part in samples.batches(size, rank, ranks):
            assert part.dtype == torch.float32 and part.shape == (len(numbers), *samples.shape)
            rows |= dict(zip(numbers, part, strict=True))
    assert sorted(rows) == list(range(len(samples)))
    return torch.stack([rows[row] for row in sorted(rows)])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(("size", "ranks"), [(4, 1), (3, 2), (1, 3), (20, 2)])
def test_an_npz_is_read_in_any_batches_on_any_ranks(tmp_path, save, size, ranks):
    save(tmp_path / "a.npz", PIXELS, np.arange(11) % 3)
    samples = open_samples_of(str(tmp_path / "a.npz"))
    assert len(samples) == 11 and samples.shape == (3, 6, 4) and samples.labels is not None
    assert samples.labels.tolist() == [i % 3 for i in range(11)] and samples.label_names == ()
    assert torch.allclose(read(samples, size, ranks).double(), VALUES, atol=1e-6)
    part = open_samples_of(str(tmp_path / "a.npz"), count=4)
    assert torch.allclose(read(part, size, ranks).double(), VALUES[[0, 2, 5, 8]], atol=1e-6)
    assert part.labels is not None and part.labels.tolist() == [0, 2, 2, 2]
    assert part.describe()["of"] == 11 and part.describe()["count"] == 4
    assert torch.allclose(picked(samples, [7, 2]).double(), VALUES[[7, 2]], atol=1e-6)


def test_clips_and_grey_pictures_of_an_npz(tmp_path):
    np.savez(tmp_path / "clips.npz", np.stack([PIXELS] * 2, axis=1))
    clips = open_samples_of(str(tmp_path / "clips.npz"))
    assert clips.shape == (3, 2, 6, 4) and clips.labels is None
    assert torch.allclose(read(clips).double(), torch.stack([VALUES] * 2, dim=2), atol=1e-6)
    check_modality(clips, "video")
    with pytest.raises(UserError, match=r"clips\.npz holds clips, but images are needed"):
        check_modality(clips, "image")
    np.savez(tmp_path / "grey.npz", PIXELS[..., :1])
    assert open_samples_of(str(tmp_path / "grey.npz")).shape == (1, 6, 4)


def test_grey_is_repeated_and_colour_made_grey_on_request_alone(tmp_path):
    grey = TensorSamples(VALUES[:, :1].float(), name="grey")
    assert with_channels(grey, 1) is grey
    colour = with_channels(grey, 3)
    assert colour.shape == (3, 6, 4) and colour.describe()["channels"] == 3
    assert torch.equal(read(colour), VALUES[:, :1].float().repeat(1, 3, 1, 1))
    assert torch.equal(read(with_channels(colour, 1)), VALUES[:, :1].float())
    mixed = TensorSamples(VALUES.float(), name="mixed")
    with pytest.raises(UserError, match="mixed holds colour, but grey is needed"):
        read(with_channels(mixed, 1))
    luma = np.stack([np.asarray(Image.fromarray(row).convert("L")) for row in PIXELS]).astype(float)
    converted = (read(with_channels(mixed, 1, to_grey=True))[:, 0].double() + 1) * 127.5
    assert np.abs(converted.numpy() - luma).max() < 0.51
    with pytest.raises(UserError, match="has 2 channels"):
        with_channels(TensorSamples(torch.zeros(2, 2, 4, 4)), 3)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Pictures of two classes, in all formats that keep values."""
    for index, row in enumerate(PIXELS[:6]):
        path = tmp_path / "pictures" / "ab"[index % 2] / f"{index}{('.png', '.bmp')[index % 3 == 0]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(row).save(path)
    return tmp_path / "pictures"


def test_a_folder_is_read_as_it_is_or_cropped(folder):
    samples = open_samples_of(str(folder))
    assert samples.label_names == ("a", "b") and samples.labels is not None
    assert samples.labels.tolist() == [0, 0, 0, 1, 1, 1] and samples.shape == (3, 6, 4)
    order = [0, 2, 4, 1, 3, 5]
    assert torch.allclose(read(samples, 4, 2).double(), VALUES[order], atol=1e-6)
    cropped = open_samples_of(str(folder), size=4, channels=1)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    assert torch.equal(read(cropped), torch.stack([decode_image(str(path), 4, 1) for path in paths]))
    before = samples.describe()["digest"]
    assert open_samples_of(str(folder)).describe()["digest"] == before
    Image.fromarray(PIXELS[8]).save(paths[0])
    assert open_samples_of(str(folder)).describe()["digest"] != before


def test_a_folder_of_sampled_pictures_names_its_classes_in_a_file(tmp_path):
    out = tmp_path / "set"
    out.mkdir()
    for index in range(3):
        Image.fromarray(PIXELS[index]).save(out / f"{index:06d}.png")
    (out / "labels.json").write_text(json.dumps({f"{i:06d}.png": 7 - i for i in range(3)}))
    (out / "settings.json").write_text("{}")
    samples = open_samples_of(str(out))
    assert samples.labels is not None and samples.labels.tolist() == [7, 6, 5] and len(samples) == 3
    (out / "labels.json").write_text(json.dumps({"000000.png": 1}))
    with pytest.raises(UserError, match=r"must give the class of 000001\.png"):
        open_samples_of(str(out))


def test_pictures_are_turned_as_they_are_shown(tmp_path):
    tags = Image.Exif()
    tags[0x0112] = 6
    (tmp_path / "a").mkdir()
    Image.fromarray(PIXELS[0].repeat(4, 0).repeat(4, 1)).save(tmp_path / "a" / "turned.jpg", exif=tags)
    Image.fromarray(PIXELS[0].repeat(4, 0).repeat(4, 1).transpose(1, 0, 2)).save(tmp_path / "a" / "plain.png")
    assert open_samples_of(str(tmp_path / "a")).shape == (3, 16, 24)


def test_parts_of_built_in_data():
    images, labels = digit_images("digits", held_out=True)
    for split in (None, "validation", "test"):
        samples = open_samples_of("digits", split=split)
        assert torch.equal(read(samples, 100), images) and samples.labels is not None
        assert torch.equal(samples.labels, labels) and samples.label_names == tuple("0123456789")
    training = open_samples_of("digits", split="train", channels=3, count=100)
    assert training.shape == (3, 8, 8) and len(training) == 100 and training.labels is not None
    _, all_labels = digit_images("digits")
    assert torch.equal(training.labels, all_labels[[row * len(all_labels) // 100 for row in range(100)]])
    clips = open_samples_of("moving-digits", frames=3, count=5)
    assert clips.shape == (1, 3, 32, 32)
    names = {json.dumps(each.describe()) for each in (samples, training, clips)}
    assert len(names) == 3


def test_damaged_files_of_data_are_left_out_and_named(folder):
    path = folder / "a" / "2.png"
    path.write_bytes(path.read_bytes()[:60])
    samples = open_samples_of(str(folder), size=4)
    rows = [row for numbers, _ in samples.batches(2) for row in numbers]
    assert rows == [0, 2, 3, 4, 5] and list(samples.unreadable) == [str(path)]
    assert samples.describe()["left_out"] == 1
    with pytest.raises(UserError, match=r"a/2\.png cannot be read as a picture: .*remove it"):
        list(open_samples_of(str(folder)).batches(2))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"arr_0": PIXELS.astype(float)}, "type float64: arr_0 must be uint8"),
        ({"arr_0": PIXELS.astype(np.int16)}, "type int16: arr_0 must be uint8"),
        ({"arr_0": PIXELS.transpose(0, 3, 1, 2)}, r"shape \(11, 3, 6, 4\): it must be"),
        ({"arr_0": PIXELS[0]}, r"shape \(6, 4, 3\): it must be"),
        ({"arr_0": PIXELS[:0]}, "holds no samples"),
        ({"arr_0": PIXELS[:, :0]}, "not supported"),
        ({"arr_0": np.asfortranarray(PIXELS)}, "Fortran order: save"),
        ({"arr_0": PIXELS, "arr_1": np.arange(4)}, "class of each of 11 pictures"),
        ({"arr_0": PIXELS, "arr_1": np.arange(11.0)}, "class of each of 11 pictures"),
        ({"pictures": PIXELS}, "no array arr_0 .* it holds pictures"),
        ({}, "no array arr_0 .* it holds no arrays"),
        ({"arr_0": np.array([None, 1], dtype=object)}, r"Python objects \(pickles\) in arr_0"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError, match=message) as caught:
        open_samples_of(str(tmp_path / "a.npz"))
    assert "a.npz" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_archives_are_refused(tmp_path, save):
    path = tmp_path / "a.npz"
    save(path, PIXELS)
    content = path.read_bytes()
    cases = [b"", b"junk", content[:100], content[:-30], content[: len(content) // 2]]
    middle = len(content) // 2
    cases.append(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :])
    for case in cases:
        path.write_bytes(case)
        with pytest.raises(UserError, match=r"a\.npz is damaged: "):
            list(open_samples_of(str(path)).batches(4))


def archive(
    path: Path, shape: tuple[int, ...], content: bytes, compression: int = zipfile.ZIP_DEFLATED
) -> Path:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w", compression) as written:
        written.writestr("arr_0.npy", header.getvalue() + content)
    return path


def test_declared_sizes_are_compared_with_the_file(tmp_path):
    path = archive(tmp_path / "a.npz", (10**9, 32, 32, 3), bytes(100))
    with pytest.raises(UserError, match="100 bytes, but its shape needs 3,072,000,000,000"):
        open_samples_of(str(path))
    path = archive(tmp_path / "b.npz", (1, 200_000, 200_000, 3), bytes(100))
    with pytest.raises(UserError, match="is damaged"):
        open_samples_of(str(path))
    path = archive(tmp_path / "c.npz", (2, 2, 2, 3), bytes(24), zipfile.ZIP_LZMA)
    with pytest.raises(UserError, match="a method that NumPy does not use"):
        open_samples_of(str(path))
    forged = archive(tmp_path / "d.npz", (2, 2, 2, 3), bytes(24))
    with zipfile.ZipFile(forged) as held:
        size = held.infolist()[0].file_size
    content = forged.read_bytes().replace(size.to_bytes(4, "little"), (2**31).to_bytes(4, "little"))
    forged.write_bytes(content)
    with pytest.raises(UserError, match="declares 2,147,483,648 bytes, more than"):
        open_samples_of(str(forged))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"source": "shakespeare"}, "shakespeare holds texts"),
        ({"source": "mnist", "size": 8}, "mnist holds images of 32x32 pixels, not 8x8"),
        ({"source": "mnist", "split": "odd"}, "parts train and validation"),
        ({"source": "moving-digits"}, "frames must be set"),
        ({"source": "digits", "frames": 4}, "holds images"),
        ({"source": "digits", "count": 360}, "has 359 samples, so 360"),
        ({"source": "none.npz"}, r"none\.npz does not exist"),
        ({"source": "./none"}, "does not exist"),
    ],
)
def test_sources_that_cannot_be_are_refused(words, message):
    with pytest.raises(UserError, match=message):
        open_samples_of(**words)


def test_folders_that_hold_other_things_are_refused(folder, tmp_path):
    Image.fromarray(PIXELS[0][:5]).save(folder / "b" / "7.png")
    with pytest.raises(UserError, match=r"a/0\.bmp has 6x4, .*7\.png has 5x4; give samples of one size"):
        open_samples_of(str(folder))
    (folder / "b" / "7.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"b/7\.png cannot be read as a picture: not an image"):
        open_samples_of(str(folder))
    (folder / "b" / "7.png").rename(folder / "b" / "7.mp4")
    with pytest.raises(UserError, match=r"7\.mp4 is a video, unlike .*0\.bmp"):
        open_samples_of(str(folder))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="is empty"):
        open_samples_of(str(tmp_path / "empty"))


def test_ranks_read_batches_of_their_own():
    samples = open_samples_of("digits", count=10)
    assert [list(rows) for rows, _ in samples.batches(3, 0, 2)] == [[0, 1, 2], [6, 7, 8]]
    assert [list(rows) for rows, _ in samples.batches(3, 1, 2)] == [[3, 4, 5], [9]]
