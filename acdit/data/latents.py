"""Latents on disk: files of means and deviations with a manifest, and the data set that draws from them."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from ..utils.errors import UserError
from ..utils.kinds import check_values, whole_number
from ..utils.progress_bar import ProgressBar
from ..utils.randomness import generator
from ..utils.settings import differences
from ..utils.untrusted import damage, open_tensors, read_object, tensor_header
from .config import AutoencoderConfig, DataConfig
from .data_sets import built_in
from .dataset import LabelledDataset, PixelDataset
from .folders import scan_folder
from .identity import MOST_NAMED, DataIdentity, data_changes, text_digest
from .latent_files import REMEDY, check_latents, check_manifest
from .opening import open_samples
from .selection import chosen_rows
from .shard_checks import REPAIR, check_shards
from .tensor_cache import fingerprint

MANIFEST = "manifest.json"
FORMAT_VERSION = 1
# keys of the section `data` that do not affect the latents of an image; max_unreadable and max_pixels affect
# only which images there are, which the identity of the data tells; labels_per_class chooses among latents
IGNORED_KEYS = (
    "workers",
    "num_classes",
    "max_unreadable",
    "max_pixels",
    "special_tokens",
    "labels_per_class",
)
# settings that say where the data are; they are not compared if the identity of the data is recorded
LOCATIONS = ("data.source", "data.listed", "images")
SCALING = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")


class LatentDataset(LabelledDataset):
    """Data set of latents, drawn at every visit from the mean and deviation of an image or its mirror image.

    The `data` of an item is the scaled latent (C, h, w); the rest is as in `LabelledDataset`.

    Args:
        folder: folder that `acdit encode` wrote.
        manifest: manifest of that folder, see `read_manifest`.
        seed: seed of the random draws.

    Attributes:
        encoded: identity of the encoded data; None if an older version encoded them.

    Raises:
        UserError: if a file does not hold the items that the manifest says.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any], *, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.label_names = tuple(manifest["label_names"])
        self.channels, *size = manifest["shape"]  # (C, h, w)
        self.size = tuple(size)
        self.flip_seed = seed if manifest["mirrored"] else None
        self.files = [shard["file"] for shard in manifest["shards"]]
        self.ends = torch.tensor([shard["count"] for shard in manifest["shards"]]).cumsum(0)
        labels = [self._tensors(shard).get_tensor("label") for shard in range(len(self.files))]
        for file, own in zip(self.files, labels, strict=True):
            if len(own) and not 0 <= int(own.min()) <= int(own.max()) < len(self.label_names):
                problem = f"its labels are not those of {len(self.label_names)} classes"
                raise damage(folder / file, problem, REPAIR)
        self.labels = torch.cat(labels)
        self.encoded = DataIdentity.from_json(manifest.get("data"))
        self._rows: torch.Tensor | None = None  # of all latents in the files; None = all
        self._fingerprints = "".join(shard["fingerprint"] for shard in manifest["shards"])
        source = manifest["settings"]["data"]["source"]
        named = source if source in built_in() else None  # all that older manifests record
        self.source = (named or "") if self.encoded is None else self.encoded.source
        self.recorded_name = manifest.get("recorded_name", named)

    def keep(self, rows: Sequence[int]) -> None:
        """Leave out all latents but those of the given rows, which must be in ascending order."""
        self._rows = torch.tensor(rows)
        self.labels = self.labels[self._rows]

    @property
    def identity(self) -> DataIdentity:
        """Return the identity of the latents, which includes that of the encoded files if it is recorded."""
        counts = tuple(self.labels.bincount(minlength=len(self.label_names)).tolist())
        digests, content = () if self.encoded is None else self.encoded.digests, self._fingerprints
        if self._rows is not None:
            digests, content = (), f"{content}{self._rows.tolist()}"
        return DataIdentity(self.source, "latents", self.label_names, counts, digests, text_digest(content))

    def drawn(self, epoch: int, index: int, mirrored: bool) -> tuple[torch.Tensor, int]:
        """Return a latent (C, h, w) drawn for an epoch, of the mirror image if requested, and its label."""
        number = index if self._rows is None else int(self._rows[index])
        shard = int(torch.searchsorted(self.ends, number, right=True))
        row = number - (int(self.ends[shard - 1]) if shard else 0)
        tensors = self._tensors(shard)  # opened once, since its header is checked each time
        mean, deviation = (
            tensors.get_slice(name)[row : row + 1][0, int(mirrored)].float() for name in ("mean", "deviation")
        )
        noise = torch.randn(mean.shape, generator=generator(self.seed, "latent", epoch, index))
        return mean + deviation * noise, int(self.labels[index])  # (C, h, w)

    def _tensors(self, shard: int) -> Any:
        """Open a file of latents, mapped into memory."""
        return open_tensors(self.folder / self.files[shard])


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
        manifest = read_object(path)
    except UserError as fault:
        raise UserError(f"{fault}; {REMEDY}") from fault
    version = check_values(manifest, {"format_version": whole_number(0)}, path, REMEDY)["format_version"]
    if version != FORMAT_VERSION:
        raise UserError(f"{path} has format version {version}, not {FORMAT_VERSION}: upgrade acdit")
    check_manifest(manifest, path)
    for shard in manifest["shards"]:
        file = folder / shard["file"]
        if not file.is_file() or file.stat().st_size != shard["bytes"]:
            raise UserError(f"{file} is missing or truncated: run acdit encode again to repair it")
        check_latents(file, tensor_header(file), shard["count"], manifest["shape"], manifest["mirrored"])
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
        UserError: if there are no latents yet, they were encoded from other data or with other settings, or a
            file of them is damaged.
    """
    manifest = read_manifest(folder)
    latents = LatentDataset(folder, manifest, seed=seed)
    _check_latents_of(folder, manifest, latents, data, autoencoder, vae)
    rows = chosen_rows(latents.labels, latents.label_names, data, seed, int)
    if rows is not None:
        latents.keep(rows)
    return latents


def _check_latents_of(
    folder: Path,
    manifest: dict[str, Any],
    latents: LatentDataset,
    data: DataConfig,
    autoencoder: AutoencoderConfig,
    vae: Any,
) -> None:
    """Check latents against the data and the autoencoder of a recipe, and set their notes."""
    encoded, expected = latents.encoded, latent_settings(data, autoencoder, vae)
    check_settings(folder, manifest["settings"], expected, located=encoded is None)
    check_shards(folder, manifest["shards"])
    if encoded is None:
        note = "does not record which files were encoded, so they are not compared with the data"
        latents.notes = (f"{folder} {note}",)
        return
    samples = _local_samples(data, clips=autoencoder.clips)
    if samples is not None:
        check_source(folder, [folder / file for file in latents.files], encoded, samples)
        return
    if encoded.source not in ("", data.source):
        raise UserError(
            _refusal(folder, [f"the data set was {encoded.source} and is {data.source}"], "other data")
        )
    latents.notes = (
        f"{data.source} is not available here, so it is not compared with the latents in {folder}",
    )


def check_settings(
    folder: Path,
    stored: dict[str, Any],
    expected: dict[str, Any],
    *,
    located: bool,
    images: Sequence[str] = (),
) -> None:
    """Raise UserError if the stored settings of latents differ from the expected ones.

    Args:
        folder: folder of the latents.
        stored: settings of the latents.
        expected: settings of the recipe.
        located: whether the place of the data must be the same, because their identity is not recorded.
        images: descriptions of the differences between the encoded data and those of the recipe.
    """
    # keys that did not exist yet when the latents were written have their default value
    defaults = {key: value for key, value in asdict(DataConfig()).items() if key in expected["data"]}
    before, after = {**stored, "data": defaults | stored["data"]}, expected
    ignored = {f"data.{key}" for key in IGNORED_KEYS} | (set() if located else {*LOCATIONS})
    changed = [text for key, text in differences(before, after).items() if key not in ignored]
    changed += [f"images: {', '.join(images)}"] if images else []
    if changed:
        raise UserError(_refusal(folder, changed, "other settings"))


def check_source(folder: Path, files: Sequence[Path], encoded: DataIdentity, samples: PixelDataset) -> None:
    """Raise UserError unless latents were encoded from the given images or clips.

    Args:
        folder: folder of the latents.
        files: files of the latents, in order.
        encoded: identity of the encoded data.
        samples: images or clips of the recipe.
    """
    changed = [text for texts in data_changes(encoded, samples.identity) for text in texts]
    if changed:
        raise UserError(_refusal(folder, changed, "other data"))
    first = 0
    for path in ProgressBar(files, desc="comparing files", unit="file", delay=2, leave=False):
        first += check_contents(folder, path, first, samples)


def check_contents(folder: Path, path: Path, first: int, samples: PixelDataset) -> int:
    """Raise UserError if files of the data have another content than when they were encoded.

    Only files that were modified since then are read.

    Args:
        folder: folder of the latents.
        path: one of its files.
        first: index of the first item of that file.
        samples: images or clips of the recipe.

    Returns:
        Number of items of the file of latents; 0 if the data are not in files.
    """
    with open_tensors(path) as file:
        if "content" not in file.keys():  # noqa: SIM118, since it is no mapping
            return 0
        contents, times = file.get_tensor("content"), file.get_tensor("modified")
    changed: dict[str, None] = {}  # ordered, since several clips may come from one file
    for row, time in enumerate(times.tolist()):
        if time and samples.modified(first + row) == time:
            continue
        content = samples.content(first + row)
        if content is None or content.digest != bytes(contents[row].tolist()):
            changed[f"file {samples.file_name(first + row)} has another content"] = None
    if changed:
        raise UserError(_refusal(folder, list(changed)[:MOST_NAMED], "other data"))
    return len(contents)


def _local_samples(data: DataConfig, clips: int) -> PixelDataset | None:
    """Open the images or clips that latents were encoded from; return None if they are not available here."""
    path = Path(data.source).expanduser()
    holds_files = path.is_file() or (path.is_dir() and bool(scan_folder(path).files))
    if data.source not in built_in() and not holds_files:
        return None
    try:
        return open_samples(replace(data, labels_per_class=None), seed=0, clips=clips)
    except UserError as fault:
        if isinstance(fault.__cause__, ModuleNotFoundError):  # the data, or their reader, come with a package
            return None
        raise


def _refusal(folder: Path, changed: Sequence[str], kind: str) -> str:
    return (
        f"{folder} holds latents of {kind}; differences: {', '.join(changed)}. "
        "Choose another --autoencoder.latents, or remove that folder; then run acdit encode"
    )
