"""Grids of samples, and one way to read pictures, whoever reads them."""

import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from acdit.cli.main import main
from acdit.data.config import DataConfig
from acdit.data.image_decoding import decode_image
from acdit.data.opening import open_samples
from acdit.data.video_decoding import ClipShape, decode_clip
from acdit.media.images import picture_grid, save_picture, titled
from acdit.media.pictures import Unreadable, opened_picture, read_picture
from acdit.media.videos import read_frames
from acdit.pipelines.input_images import given_pixels
from acdit.utils.errors import UserError
from tests.pipelines.small import build, network, picture


def plain(*colours, size=(8, 8), mode="RGB"):
    return [Image.new(mode, size, colour) for colour in colours]


def test_a_grid_holds_the_images_in_reading_order():
    colours = ["red", "green", "blue", "black", "yellow"]
    grid = picture_grid(plain(*colours), columns=3)
    assert grid.mode == "RGB"
    assert grid.size == (3 * 64 + 4 * 4, 2 * 64 + 3 * 4)  # enlarged eight times, with gaps of four all around
    for place, colour in enumerate([*colours, "white"]):
        row, column = divmod(place, 3)
        left, top = 4 + 68 * column, 4 + 68 * row
        cell = grid.crop((left, top, left + 64, top + 64))
        assert cell.getcolors() == [(64 * 64, Image.new("RGB", (1, 1), colour).getpixel((0, 0)))]
    for gap in ((0, 0, grid.width, 4), (68, 0, 72, grid.height), (0, 68, grid.width, 72)):
        assert {colour for _, colour in grid.crop(gap).getcolors() or []} == {(255, 255, 255)}


def test_a_grid_enlarges_without_smoothing():
    image = picture(1)
    grid = np.asarray(picture_grid([image], columns=1))[4:-4, 4:-4]
    assert np.array_equal(grid, np.asarray(image).repeat(8, 0).repeat(8, 1)[:, :, None].repeat(3, 2))


@pytest.mark.parametrize(
    ("size", "enlarged"),
    [((8, 8), (64, 64)), ((28, 28), (56, 56)), ((16, 8), (128, 64)), ((100, 70), (100, 70))],
)
def test_a_grid_of_other_sizes(size, enlarged):
    assert picture_grid(plain("red", size=size), 1).size == (enlarged[0] + 8, enlarged[1] + 8)


def test_a_grid_takes_grey_and_colour():
    grid = picture_grid([*plain(100, mode="L"), *plain("red")], 2)
    assert grid.getpixel((10, 10)) == (100, 100, 100) and grid.getpixel((80, 10)) == (255, 0, 0)


def test_a_picture_is_written_whole(tmp_path):
    path = tmp_path / "new" / "a.png"
    save_picture(plain("red")[0], path)
    with Image.open(path) as read:
        assert read.format == "PNG" and read.size == (8, 8) and read.getpixel((3, 3)) == (255, 0, 0)
    before = path.read_bytes()
    broken = Image.new("RGBA", (8, 8))
    with pytest.raises(OSError):
        save_picture(broken, tmp_path / "new" / "a.jpg")  # JPEG has no alpha
    assert [file.name for file in path.parent.iterdir()] == ["a.png"] and path.read_bytes() == before


def test_pictures_below_titles_stand_side_by_side():
    red, blue = plain("red", "blue", size=(100, 40))
    assert titled({"one": red}) is red
    sheet = titled({"one": red, "a title that is wider than its picture": blue})
    assert sheet.height == 22 + 40 and sheet.width > 100 + 16 + 100
    assert sheet.crop((0, 22, 100, 62)).tobytes() == red.tobytes()
    assert sheet.crop((116, 22, 216, 62)).tobytes() == blue.tobytes()
    for left in (0, 116):
        assert np.asarray(sheet.crop((left, 0, left + 100, 22))).min() < 50  # letters


# Reading

SIDE = 8


def hidden_colours() -> Image.Image:
    """Red, whose left half is transparent and whose right half is half so."""
    alpha = np.full((SIDE, SIDE), 51, np.uint8)
    alpha[:, :4] = 0
    return Image.fromarray(np.dstack([np.full_like(alpha, 255), alpha * 0, alpha * 0, alpha]), "RGBA")


def sixteen_bits() -> Image.Image:
    return Image.fromarray(np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE) * 257)


def turned() -> Image.Image:
    image = Image.new("RGB", (SIDE, SIDE), "red")
    image.paste("blue", (0, 0, 4, SIDE))
    image.getexif()[0x0112] = 6  # what is stored at the left is the top
    return image


def expected(name: str) -> np.ndarray:
    """The levels (H, W, 3), computed by hand."""
    levels = np.zeros((SIDE, SIDE, 3))
    if name == "hidden colours":
        levels[:, :4], levels[:, 4:] = 255, (255, 204, 204)  # 0.2 of red, 0.8 of white
    elif name == "sixteen bits":
        levels[:] = np.arange(SIDE * SIDE).reshape(SIDE, SIDE, 1)
    else:
        levels[:4], levels[4:] = (0, 0, 255), (255, 0, 0)
    return levels


PICTURES = {"hidden colours": hidden_colours, "sixteen bits": sixteen_bits, "turned": turned}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    build(network(12)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", PICTURES)
def test_every_reader_reads_the_same(name, tmp_path, model):
    """Training, the commands and the pipelines' arguments."""
    levels, path = expected(name), tmp_path / "picture.png"
    image = PICTURES[name]()
    image.save(path, exif=image.getexif())
    training = (decode_image(str(path), SIDE, 3).permute(1, 2, 0).numpy() + 1) * 127.5
    np.testing.assert_allclose(training, levels, atol=1e-3)
    np.testing.assert_array_equal(np.asarray(read_picture(str(path))), levels)
    with Image.open(path) as loaded:
        argument = (given_pixels(loaded, "image", axes=3, channels=3)[0].permute(1, 2, 0) + 1) * 127.5
        frames = (given_pixels([loaded], "prefix", axes=4, channels=3)[0, 0].permute(1, 2, 0) + 1) * 127.5
    np.testing.assert_allclose(argument, levels, atol=1e-3)
    np.testing.assert_allclose(frames, levels, atol=1e-3)
    words = ["sample", "--model", str(model), "--prefix", str(path), "--keep-blocks", "3", "--steps", "1"]
    out = tmp_path / "out.png"
    assert main([*words, "--labels", "0", "--samples", "1", "--device", "cpu", "--out", str(out)]) == 0
    with Image.open(out) as picture:
        sampled = np.asarray(picture)
    np.testing.assert_allclose(sampled[:4], levels[:4], atol=1)  # three of four blocks are kept
    np.testing.assert_allclose(sampled[:, :4], levels[:, :4], atol=1)


@pytest.mark.parametrize(("codec", "pixel_format"), [("ffv1", "bgra"), ("png", "rgba"), ("qtrle", "argb")])
def test_hidden_colours_of_frames_are_white(tmp_path, codec, pixel_format):
    path = tmp_path / ("clip.mkv" if codec == "ffv1" else "clip.mov")
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=5)
        stream.height = stream.width = SIDE
        stream.pix_fmt = pixel_format
        for _ in range(4):
            frame = av.VideoFrame.from_ndarray(np.asarray(hidden_colours()), format="rgba")
            container.mux(stream.encode(frame.reformat(format=pixel_format)))
        container.mux(stream.encode())
    levels = expected("hidden colours")
    for frame in read_frames(path):  # of --prefix
        np.testing.assert_allclose(np.asarray(frame), levels, atol=1)
    clip = decode_clip(str(path), ClipShape(4, 1, "skip", SIDE, 3), 0.0)  # of training
    np.testing.assert_allclose((clip[:, 2].permute(1, 2, 0) + 1) * 127.5, levels, atol=1)


def test_transparent_parts_of_a_gif_are_white(tmp_path):
    frames = [hidden_colours() for _ in range(3)]
    frames[0].save(tmp_path / "clip.gif", save_all=True, append_images=frames[1:], disposal=2)
    for frame in read_frames(tmp_path / "clip.gif"):
        assert (np.asarray(frame)[:, :4] == 255).all()


def png(width: int, height: int) -> bytes:
    """A black-and-white PNG of any size, of few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    compress = zlib.compressobj(9)
    row = bytes(1 + -(-width // 8))
    pixels = b"".join(compress.compress(row) for _ in range(height)) + compress.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_large_pictures_are_refused_with_the_option_that_raises_the_limit(tmp_path, model, capsys):
    """200 megapixels: in training, in a command, and as an argument; without other words or warnings."""
    (tmp_path / "set").mkdir()
    large = tmp_path / "set" / "large.png"
    large.write_bytes(png(20_000, 10_000))
    Image.new("L", (9, 8)).save(tmp_path / "set" / "small.png")
    limit = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "__array__", DeprecationWarning)  # of diffusers' DPM-Solver
        data = open_samples(DataConfig(source=str(tmp_path / "set"), image_size=4), seed=0)
        reason = "has 20,000x10,000 pixels, more than data.max_pixels 178,956,970: raise it to read this"
        assert len(data) == 1 and data.skipped == {str(large): reason}
        raised = DataConfig(source=str(tmp_path / "set"), image_size=4, max_pixels=200_000_000)
        assert len(open_samples(raised, seed=0)) == 2
        lowered = DataConfig(source=str(tmp_path / "set"), image_size=4, max_pixels=71)
        with pytest.raises(UserError, match=r"more than data\.max_pixels 71"):
            open_samples(lowered, seed=0)
        with opened_picture(large.read_bytes(), 200_000_000) as image:
            assert image.size == (20_000, 10_000)
            with pytest.raises(UserError, match="image cannot be read: has 20,000x10,000 pixels, more than"):
                given_pixels(image, "image", axes=3, channels=3)
        words = ["sample", "--model", str(model), "--keep-blocks", "1", "--out", str(tmp_path / "out.png")]
        assert main([*words, "--prefix", str(large)]) == 2
        error = capsys.readouterr().err
        assert "--prefix" in error and "more than --max-pixels 178,956,970" in error and "bomb" not in error
        small = str(tmp_path / "set" / "small.png")
        assert main([*words, "--prefix", small, "--max-pixels", "71"]) == 2
        assert "has 9x8 pixels, more than --max-pixels 71" in capsys.readouterr().err
        assert main(["sample", "--max-pixels", "71"]) == 2
    assert limit == Image.MAX_IMAGE_PIXELS is not None  # that of Pillow's other users is left as it was


def test_what_is_no_picture_is_one_error(tmp_path, model, capsys):
    picture(3, 64, 64).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:-3000])
    (tmp_path / "text.png").write_text("no picture")
    Image.new("F", (8, 8)).save(tmp_path / "float.tiff")
    for name in ("cut.png", "text.png", "float.tiff", "missing.png", "."):
        path = str(tmp_path / name)
        with pytest.raises(Unreadable):
            read_picture(path)
        assert main(["sample", "--model", str(model), "--prefix", path, "--keep-blocks", "1"]) == 2
        assert f"--prefix {path} cannot be read as an image: " in capsys.readouterr().err
    with (
        Image.open(tmp_path / "cut.png") as lazy,
        pytest.raises(UserError, match="image cannot be read"),
    ):
        given_pixels(lazy, "image", axes=3, channels=3)
