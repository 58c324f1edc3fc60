"""PixelModel: what pipelines that draw or read pixels have in common: layout, classes and channels."""

from typing import Any

from ..data.autoencoders import scale_factor
from ..model.layout import Layout
from ..utils.errors import UserError
from .stored_pipeline import StoredPipeline


class PixelModel(StoredPipeline):
    """Base class of pipelines whose network works on pixels, or on the latents of an autoencoder.

    Attributes:
        vae: autoencoder; None = the network works on pixels, or the autoencoder was not saved.
        vae_scale_factor: side of a latent cell in pixels; 1 for pixels.
    """

    vae: Any
    vae_scale_factor: int

    @property
    def layout(self) -> Layout:
        """Return the default layout."""
        return Layout(tuple(self.config["grid"]), tuple(self.config["block"]), tuple(self.config["patch"]))

    @property
    def label_names(self) -> dict[int, str]:
        """Return the class names by class id."""
        names = self.config["id2label"]  # a saved pipeline sorts its keys as text: 0, 1, 10, 2
        return {index: names[str(index)] for index in sorted(map(int, names))}

    @property
    def data_channels(self) -> int:
        """Return the number of channels of a pixel, or of a latent cell."""
        network = getattr(self, self.network_name)
        return network.config["in_channels"] // self.layout.patch_elements

    @property
    def pixel_channels(self) -> int:
        """Return the number of channels of a pixel, with or without an autoencoder."""
        return self.data_channels if self.vae is None else self.vae.config.in_channels


def checked_scale_factor(vae: Any, channels: int, stored: int) -> int:
    """Return the side of a latent cell in pixels, after checking that an autoencoder fits a network.

    Args:
        vae: autoencoder, or None.
        channels: number of channels of a latent cell that the network needs.
        stored: side that the pipeline was saved with.

    Raises:
        UserError: if the autoencoder has other channels, or cells of another side.
    """
    if vae is None:
        return stored
    factor = scale_factor(vae)
    if vae.config.latent_channels != channels or stored not in (1, factor):
        raise UserError(
            f"the vae does not fit the network: it has {vae.config.latent_channels} latent channels "
            f"and a scale factor of {factor}, the network needs {channels} and {stored}"
        )
    return factor
