"""Latents on disk: files of means and deviations beside a manifest, and the data set that draws from them."""

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
HEADER = "acdit"  # a single key: safetensors writes several in any order
FORMAT_VERSION = 1
READERS = ("workers", "num_classes")  # keys of the data that do not change what is encoded
SCALING = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")


class LatentDataset(LabelledDataset):
    """Latents drawn anew at every visit, from the mean and deviation of an image or of its mirror image.

    An item is that of `LabelledDataset`, with the scaled latent (C, h, w) as its `data`.

    Args:
        folder: that `acdit encode` wrote.
        manifest: of that folder, see `read_manifest`.
        seed: of the draws.
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
        shard = int(torch.searchsorted(self.ends, index, right=True))
        row = index - (int(self.ends[shard - 1]) if shard else 0)
        mean, deviation = (
            self._tensors(shard).get_slice(name)[row : row + 1][0, int(mirrored)].float()
            for name in ("mean", "deviation")
        )
        noise = torch.randn(mean.shape, generator=generator(self.seed, "latent", epoch, index))
        return mean + deviation * noise, int(self.labels[index])  # (C, h, w)

    def _tensors(self, shard: int) -> Any:
        """A file of latents, mapped into memory."""
        return safe_open(self.folder / self.files[shard], framework="pt")


def data_settings(data: DataConfig, clips: int = 1) -> dict[str, Any]:
    """Return the settings that decide which images or clips are encoded, `clips` of each video."""
    ignored = {*READERS, *data.modality.not_encoded}
    found = {name: value for name, value in asdict(data).items() if name not in ignored}
    return found | ({"clips": clips} if clips > 1 else {})


def latent_settings(data: DataConfig, autoencoder: AutoencoderConfig, vae: Any) -> dict[str, Any]:
    """Return what decides latents: the data, and the autoencoder by its weights and scaling."""
    scaling = {name: vae.config.get(name) for name in SCALING}
    return {
        "data": data_settings(data, autoencoder.clips),
        "autoencoder": {"weights": fingerprint(vae.state_dict()), **scaling},
        "dtype": autoencoder.dtype,
    }


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder of latents.

    Raises:
        UserError: if there is none, if a newer version wrote it, or if a file that it names is not whole.
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
            raise UserError(f"{file} is missing or cut short: run acdit encode again, which mends it")
    return manifest


def open_latents(
    folder: Path, data: DataConfig, autoencoder: AutoencoderConfig, vae: Any, *, seed: int
) -> LatentDataset:
    """Open the latents in a folder, which `encode_pixels` made of the same data by the same autoencoder.

    Args:
        folder: of the latents.
        data, autoencoder: as they were encoded.
        vae: the autoencoder that `autoencoder` names.
        seed: of the draws.

    Raises:
        UserError: if there are none yet, or if they were made with other settings.
    """
    manifest = read_manifest(folder)
    check_settings(folder, manifest["settings"], latent_settings(data, autoencoder, vae))
    return LatentDataset(folder, manifest, seed=seed)


def check_settings(folder: Path, stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise UserError if latents were made with other settings than are wanted."""
    changed = differences(stored, wanted).values()
    if changed:
        raise UserError(
            f"{folder} holds latents of other settings; what differs: {', '.join(changed)}. "
            "Name another --autoencoder.latents, or remove that folder; then run acdit encode"
        )


def shard_header(path: Path) -> dict[str, Any] | None:
    """What a file of latents says of itself; None where it is missing or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            written = (file.metadata() or {}).get(HEADER)
            return None if written is None else json.loads(written)
    except (OSError, SafetensorError):
        return None
