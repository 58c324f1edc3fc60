"""Grids of samples."""

import numpy as np
import pytest
from PIL import Image

from acdit.media.images import picture_grid, save_picture, titled
from tests.pipelines.small import picture


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
        assert sheet.crop((left, 0, left + 100, 22)).convert("L").getextrema()[0] < 50  # letters
