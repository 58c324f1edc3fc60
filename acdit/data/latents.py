"""Latents on disk: files of means and deviations with a manifest, and the data set that draws from them."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ..utils.errors import UserError
from ..utils.randomness import generator
from ..utils.settings import differences
from .config import AutoencoderConfig, DataConfig
from .dataset import LabelledDataset
from .tensor_cache import fingerprint

MANIFEST = "manifest.json"
HEADER = "acdit"  # a single key, since safetensors writes several in arbitrary order
FORMAT_VERSION = 1
IGNORED_KEYS = ("workers", "num_classes")  # keys of the section `data` that do not affect the latents
SCALING = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")


class LatentDataset(LabelledDataset):
    """Data set of latents, drawn at every visit from the mean and deviation of an image or its mirror image.

    The `data` of an item is the scaled latent (C, h, w); the rest is as in `LabelledDataset`.

    Args:
        folder: folder that `acdit encode` wrote.
        manifest: manifest of that folder, see `read_manifest`.
        seed: seed of the random draws.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any], *, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.label_names = tuple(manifest["label_names"])
        self.channels, *size = manifest["shape"]  # (C, h, w)
        self.size = tuple(size)
        self.flip_seed = seed if manifest["mirrored"] else None
        self.files = [shard["file"] for shard in manifest["shards"]]
        self.ends = torch.tensor([shard["count"] for shard in manifest["shards"]]).cumsum(0)
        self.labels = torch.cat(
            [self._tensors(shard).get_tensor("label") for shard in range(len(self.files))]
        )

    def drawn(self, epoch: int, index: int, mirrored: bool) -> tuple[torch.Tensor, int]:
        """Return a latent (C, h, w) drawn for an epoch, of the mirror image if requested, and its label."""
        shard = int(torch.searchsorted(self.ends, index, right=True))
        row = index - (int(self.ends[shard - 1]) if shard else 0)
        mean, deviation = (
            self._tensors(shard).get_slice(name)[row : row + 1][0, int(mirrored)].float()
            for name in ("mean", "deviation")
        )
        noise = torch.randn(mean.shape, generator=generator(self.seed, "latent", epoch, index))
        return mean + deviation * noise, int(self.labels[index])  # (C, h, w)

    def _tensors(self, shard: int) -> Any:
        """Open a file of latents, mapped into memory."""
        return safe_open(self.folder / self.files[shard], framework="pt")


def data_settings(data: DataConfig, clips: int = 1) -> dict[str, Any]:
    """Return the settings that determine which images or clips are encoded, `clips` per video."""
    ignored = {*IGNORED_KEYS, *data.modality.not_encoded}
    settings = {name: value for name, value in asdict(data).items() if name not in ignored}
    if not data.validation_fraction:
        del settings["validation_fraction"]  # manifests from before this key existed have no entry for it
    return settings | ({"clips": clips} if clips > 1 else {})


def latent_settings(data: DataConfig, autoencoder: AutoencoderConfig, vae: Any) -> dict[str, Any]:
    """Return the settings that determine the latents: the data, and the autoencoder's weights and scaling."""
    scaling = {name: vae.config.get(name) for name in SCALING}
    return {
        "data": data_settings(data, autoencoder.clips),
        "autoencoder": {"weights": fingerprint(vae.state_dict()), **scaling},
        "dtype": autoencoder.dtype,
    }


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a folder of latents.

    Raises:
        UserError: if there is none, if a newer version wrote it, or if a file that it lists is incomplete.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(f"{folder} holds no finished latents: run acdit encode with this recipe first")
    try:
        manifest = json.loads(path.read_text())
    except json.JSONDecodeError as fault:
        raise UserError(f"{path} is damaged ({fault}): remove it and run acdit encode again") from fault
    if manifest["format_version"] != FORMAT_VERSION:
        raise UserError(
            f"{path} has format version {manifest['format_version']}, not {FORMAT_VERSION}: upgrade acdit"
        )
    for shard in manifest["shards"]:
        file = folder / shard["file"]
        if not file.is_file() or file.stat().st_size != shard["bytes"]:
            raise UserError(f"{file} is missing or truncated: run acdit encode again to repair it")
    return manifest


def open_latents(
    folder: Path, data: DataConfig, autoencoder: AutoencoderConfig, vae: Any, *, seed: int
) -> LatentDataset:
    """Open the latents that `encode_pixels` wrote for the same data and the same autoencoder.

    Args:
        folder: folder of the latents.
        data: configuration of the encoded data.
        autoencoder: configuration of the autoencoder.
        vae: autoencoder that `autoencoder` names.
        seed: seed of the random draws.

    Raises:
        UserError: if there are no latents yet, or if they were encoded with other settings.
    """
    manifest = read_manifest(folder)
    check_settings(folder, manifest["settings"], latent_settings(data, autoencoder, vae))
    return LatentDataset(folder, manifest, seed=seed)


def check_settings(folder: Path, stored: dict[str, Any], expected: dict[str, Any]) -> None:
    """Raise UserError if the stored settings of latents differ from the expected ones."""
    changed = differences(stored, expected).values()
    if changed:
        raise UserError(
            f"{folder} holds latents of other settings; differences: {', '.join(changed)}. "
            "Choose another --autoencoder.latents, or remove that folder; then run acdit encode"
        )


def shard_header(path: Path) -> dict[str, Any] | None:
    """Return the header of a file of latents; None if the file is missing or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            written = (file.metadata() or {}).get(HEADER)
            return None if written is None else json.loads(written)
    except (OSError, SafetensorError):
        return None
