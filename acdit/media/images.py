"""Pictures of samples: grids, and files that are written atomically."""

from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ..utils.files import whole

MIN_SIDE = 64  # side in pixels up to which small images are enlarged
GAP = 4
TITLE_SIZE = 14  # height of a title's letters in pixels


def picture_grid(images: list[Image.Image], columns: int) -> Image.Image:
    """Arrange images of one size in rows of `columns`.

    Small images are enlarged by an integer factor, without smoothing.
    """
    width, height = images[0].size
    factor = max(1, MIN_SIDE // min(width, height))
    width, height = width * factor, height * factor
    rows = -(-len(images) // columns)
    size = (columns * (width + GAP) + GAP, rows * (height + GAP) + GAP)
    grid = Image.new("RGB", size, "white")
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        enlarged = image.convert("RGB").resize((width, height), Image.Resampling.NEAREST)
        grid.paste(enlarged, (GAP + column * (width + GAP), GAP + row * (height + GAP)))
    return grid


def titled(pictures: Mapping[str, Image.Image]) -> Image.Image:
    """Arrange pictures of one size side by side, each below its title; a single picture is not changed."""
    if len(pictures) == 1:
        return next(iter(pictures.values()))
    font = ImageFont.load_default(TITLE_SIZE)
    margin, top = 4 * GAP, TITLE_SIZE + 2 * GAP
    # a title may be wider than its picture
    lengths = [round(font.getlength(title)) + 2 * GAP for title in pictures]
    widths = [max(pair) for pair in zip(lengths, (each.width for each in pictures.values()), strict=True)]
    height = max(picture.height for picture in pictures.values())
    sheet = Image.new("RGB", (sum(widths) + margin * (len(pictures) - 1), top + height), "white")
    draw, left = ImageDraw.Draw(sheet), 0
    for (title, picture), width in zip(pictures.items(), widths, strict=True):
        draw.text((left + GAP, GAP), title, fill="black", font=font)
        sheet.paste(picture, (left, top))
        left += width + margin
    return sheet


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture atomically, in the format of the suffix."""
    with whole(path) as temporary_path:
        picture.save(temporary_path, format=Image.registered_extensions()[path.suffix.lower()])
