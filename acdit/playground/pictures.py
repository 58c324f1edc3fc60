"""Pictures as data URLs: to the browser as PNG, from the browser within limits."""

import base64
from io import BytesIO

from PIL import Image


def data_url(picture: Image.Image) -> str:
    """Return a picture as the data URL of a PNG."""
    buffer = BytesIO()
    picture.save(buffer, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
