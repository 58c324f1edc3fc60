"""Pictures of samples: grids, and files that are written atomically."""

from pathlib import Path

from PIL import Image

from ..utils.files import whole

MIN_SIDE = 64  # side in pixels up to which small images are enlarged
GAP = 4


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


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture atomically, in the format of the suffix."""
    with whole(path) as temporary_path:
        picture.save(temporary_path, format=Image.registered_extensions()[path.suffix.lower()])
