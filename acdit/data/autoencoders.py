"""Load diffusers autoencoders without pickles, and convert between pixels and scaled latents."""

from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from ..model.stored import check_weights
from ..model.weight_files import CONFIG
from ..utils.checks import exists
from ..utils.errors import UserError
from ..utils.finite import is_finite
from ..utils.hub import loading, local_or_hub, only_local
from ..utils.untrusted import damage, read_object, reading, shown
from .autoencoder_files import check_autoencoder

TRIAL_CELLS = (4, 4)
FRAMES_AT_ONCE = 32  # maximum number of frames per call, since a batch of clips holds hundreds


def load_autoencoder(name: str | Path, dtype: torch.dtype = torch.float32) -> AutoencoderKL:
    """Load an AutoencoderKL from safetensors files only.

    Args:
        name: name on the hub, folder of the autoencoder, or folder of a whole pipeline.
        dtype: data type of the weights.

    Raises:
        UserError: if there is no such autoencoder, if it is of another class or damaged, or if weights are
            missing or not finite.
    """
    subject = f"autoencoder {name}"
    given = Path(name).expanduser()
    subfolder = given / "vae"
    folder = local_or_hub(
        "autoencoder", str(subfolder if exists(subfolder) else name), "an autoencoder", [CONFIG]
    )
    with loading(subject, folder):
        path, source = str(folder or name), {"local_files_only": only_local(folder)}
        config: Any = read_object(folder / CONFIG) if folder else AutoencoderKL.load_config(path, **source)
        class_name = config.get("_class_name")
        if class_name != "AutoencoderKL":
            raise UserError(f"{subject} must be an AutoencoderKL of diffusers, not {shown(class_name)}")
        if folder is not None:
            check_autoencoder(folder, config)
        result: Any = AutoencoderKL.from_pretrained(
            path, use_safetensors=True, output_loading_info=True, dtype=dtype, **source
        )
    loaded, loading_info = result
    missing = loading_info["missing_keys"]
    if missing:
        raise UserError(f"{subject} lacks weights, such as {', '.join(list(missing)[:3])}")
    check_weights(folder or Path(name), loaded)
    check_decoding(folder or Path(name), loaded)
    return loaded.eval()


def check_decoding(folder: Path, vae: Any) -> None:
    """Raise UserError if an autoencoder of images that was read from a folder cannot decode latents.

    It is tried with zeros in float32 only, since not every device computes in other types.
    """
    if vae.dtype != torch.float32 or not hasattr(vae.config, "latent_channels"):
        return
    with reading(folder), torch.random.fork_rng(devices=[]), torch.no_grad():
        latents = torch.zeros(1, vae.config.latent_channels, *TRIAL_CELLS, device=vae.device)
        pixels = vae.decode(latents, return_dict=False)[0]
    if not isinstance(pixels, Tensor) or pixels.ndim != 4 or not bool(pixels.isfinite().all()):
        raise damage(folder, "it does not decode latents (N, C, h, w) to finite pixels")


def scale_factor(vae: Any) -> int:
    """Return the number of pixels along one side of a latent cell; 1 without an autoencoder."""
    return 1 if vae is None else 2 ** (len(vae.config.block_out_channels) - 1)


@torch.no_grad()
def encode(vae: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and standard deviation of the scaled latents of pixels, in float32.

    Images (N, c, H, W) become latents (N, C, h, w). Clips (N, c, F, H, W) become latents (N, C, F, h, w), and
    each frame is encoded separately. The standard deviation is zero for an autoencoder without one.

    Raises:
        UserError: if a latent is not finite.
    """
    if pixels.ndim == 5:
        parts = [encode(vae, part) for part in pixels.transpose(1, 2).flatten(0, 1).split(FRAMES_AT_ONCE)]
        mean, deviation = (torch.cat(tensors) for tensors in zip(*parts, strict=True))  # (N F, C, h, w)
        return _clips(mean, len(pixels)), _clips(deviation, len(pixels))
    encoded = vae.encode(pixels.to(vae.dtype))
    if not hasattr(encoded, "latent_dist"):
        latents = _checked(vae, "latents", _scaled(vae, encoded.latents))
        return latents, torch.zeros_like(encoded.latents, dtype=torch.float32)
    distribution = encoded.latent_dist
    deviation = (
        distribution.std.float()
        * vae.config.scaling_factor
        / _statistic(vae, "latents_std", 1.0, distribution.std)
    )
    return _checked(vae, "latents", _scaled(vae, distribution.mean)), _checked(vae, "latents", deviation)


@torch.no_grad()
def decode(vae: Any, latents: Tensor) -> Tensor:
    """Return the pixels (N, c, H, W) of scaled latents (N, C, h, w), in float32.

    Clips (N, C, F, h, w) are decoded frame by frame, as in `encode`.

    Raises:
        UserError: if a pixel is not finite.
    """
    if latents.ndim == 5:
        parts = [decode(vae, part) for part in latents.transpose(1, 2).flatten(0, 1).split(FRAMES_AT_ONCE)]
        return _clips(torch.cat(parts), len(latents))
    raw = latents / vae.config.scaling_factor * _statistic(vae, "latents_std", 1.0, latents)
    raw = raw + _offset(vae, latents)
    return _checked(vae, "pixels", vae.decode(raw.to(vae.dtype), return_dict=False)[0].float())


def _checked(vae: Any, what: str, values: Tensor) -> Tensor:
    """Return the values that an autoencoder computed, after checking that they are finite."""
    if not is_finite(values):
        precision = str(vae.dtype).removeprefix("torch.")
        raise UserError(
            f"the autoencoder gives {what} that are not finite in {precision}: use float32, or another "
            "autoencoder"
        )
    return values


def _clips(frames: Tensor, count: int) -> Tensor:
    """Convert frames (N F, C, h, w) to clips (N, C, F, h, w)."""
    return frames.unflatten(0, (count, -1)).transpose(1, 2)


def _scaled(vae: Any, raw: Tensor) -> Tensor:
    scaled = (raw.float() - _offset(vae, raw)) * vae.config.scaling_factor
    return scaled / _statistic(vae, "latents_std", 1.0, raw)


def _offset(vae: Any, like: Tensor) -> Tensor:
    """Return the offset that scaling subtracts first: the shift factor, or the mean of each channel."""
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    return _statistic(vae, "latents_mean", shift, like)


def _statistic(vae: Any, name: str, default: float, like: Tensor) -> Tensor:
    """Return one number for each latent channel, (1, C, 1, 1), from the autoencoder's config."""
    configured = getattr(vae.config, name, None)
    values = torch.tensor(
        [default] if configured is None else configured, dtype=torch.float32, device=like.device
    )
    return values[None, :, None, None]
