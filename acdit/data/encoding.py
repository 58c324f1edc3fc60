"""Encode images to latents on disk, file by file, so that a killed run resumes where it stopped."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.utils.data import Dataset

from ..utils.errors import UserError
from ..utils.files import check_writable, only_process, whole
from ..utils.names import NAMELESS, class_order
from ..utils.progress_bar import ProgressBar
from ..utils.ranks import launched
from ..utils.untrusted import open_tensors, read_json, read_object
from .autoencoders import encode, load_autoencoder, scale_factor
from .config import AutoencoderConfig, DataConfig
from .dataset import PixelDataset
from .identity import DIGEST_BYTES, DataIdentity, FileContent, data_changes
from .image_decoding import Unreadable
from .latents import (
    FORMAT_VERSION,
    MANIFEST,
    check_contents,
    check_settings,
    latent_settings,
    read_manifest,
)
from .opening import open_samples
from .shard_checks import HEADER, is_foreign, is_sound, shard_header
from .summary import summary
from .tensor_cache import fingerprint
from .worker_processes import load_batches


def encode_pixels(
    folder: Path,
    config: DataConfig,
    autoencoder: AutoencoderConfig,
    *,
    seed: int,
    device: torch.device,
    batch: int,
    verify: bool = False,
) -> dict[str, Any] | None:
    """Encode images or clips and their mirror images into a folder.

    With torchrun, each of the W ranks writes every W-th file, and the last rank to finish writes the
    manifest. Files of an earlier run are kept. The same batch size gives the same bytes, regardless of ranks
    and restarts; with another batch size the latents differ by rounding.

    Args:
        folder: folder of the latents.
        config: configuration of the images or clips.
        autoencoder: configuration of the autoencoder and of the stored latents.
        seed: seed of the data set, see `open_samples`.
        device: device that the autoencoder runs on.
        batch: number of images encoded at once.
        verify: whether files of an earlier run are read and compared with their digests; damaged ones are
            encoded again. Otherwise only their headers and sizes are checked.

    Returns:
        The manifest, or None if other ranks still have files to write.

    Raises:
        UserError: if the images do not fit the autoencoder, or the folder holds latents of other settings.
    """
    if config.tokens is not None:
        raise UserError("acdit encode is for images and video: texts have no latents")
    if autoencoder.model is None:
        raise UserError(
            "autoencoder.model is not set, so this recipe trains on pixels: set it to encode latents"
        )
    check_writable(folder / MANIFEST)
    ranks = launched()
    with only_process(folder, "acdit encode", ranks.main, option="--autoencoder.latents"):
        return _encode(folder, config, autoencoder, autoencoder.model, seed, device, batch, verify)


def _encode(
    folder: Path,
    config: DataConfig,
    autoencoder: AutoencoderConfig,
    model: str,
    seed: int,
    device: torch.device,
    batch: int,
    verify: bool,
) -> dict[str, Any] | None:
    """Encode as `encode_pixels` does, in a folder that is locked; `model` is the autoencoder's name."""
    vae: Any = load_autoencoder(model)
    vae.to(device)
    data = open_samples(replace(config, labels_per_class=None), seed=seed, clips=autoencoder.clips)
    _check_fit(data, vae, model)
    size = autoencoder.shard_size
    settings = latent_settings(config, autoencoder, vae)
    # must stay the same between restarts; training checks `settings` only
    layout = settings | {"images": fingerprint({"labels": data.labels}), "shard_size": size}
    identity = data.identity
    _check_folder(folder, layout, data, identity, verify)
    header = {"layout": layout, "identity": identity.to_json()}
    if launched().main:
        ProgressBar.write(f"encoding {summary(data, config.modality.samples)}", file=sys.stderr)
    shards = [range(first, min(first + size, len(data))) for first in range(0, len(data), size)]
    ranks = launched()
    own_shards = list(enumerate(shards))[ranks.rank :: ranks.world_size]
    dtype = getattr(torch, autoencoder.dtype)
    with ProgressBar(
        total=sum(len(rows) for _, rows in own_shards), unit="image", desc="encoding", disable=not ranks.main
    ) as progress:
        for number, rows in own_shards:
            path = folder / _name(number)
            if not (is_sound(path) if verify else shard_header(path) is not None and _has_size(path)):
                _encode_shard(path, data, rows, vae, dtype, batch, config.workers, header, progress)
            else:
                progress.update(len(rows))
    return _write_manifest(folder, len(shards), data, settings)


def _encode_shard(
    path: Path,
    data: PixelDataset,
    rows: range,
    vae: Any,
    dtype: torch.dtype,
    batch: int,
    workers: int,
    header: dict[str, Any],
    progress: ProgressBar,
) -> None:
    """Write one file of latents: mean and deviation, label (n,) and index (n,).

    Mean and deviation have the shape (n, 1, C, h, w), or (n, 2, C, h, w) with mirror images. If the data are
    in files, the hash of each row's file is written too, (rows, `DIGEST_BYTES`), and its modification time.
    """
    means, deviations, indices, skipped = [], [], [], {}
    contents: list[FileContent] = []
    for items in _batches(data, rows, batch, workers):
        readable = [(index, image) for index, image, _ in items if isinstance(image, torch.Tensor)]
        skipped |= {str(index): reason for index, reason, _ in items if not isinstance(reason, torch.Tensor)}
        contents += [content for _, _, content in items if content is not None]
        progress.update(len(items))
        if not readable:
            continue
        pixels = torch.stack([image for _, image in readable]).to(vae.device)  # (n, c, H, W)
        variants = [pixels] if data.flip_seed is None else [pixels, pixels.flip(-1)]
        mean, deviation = zip(*(encode(vae, variant) for variant in variants), strict=True)
        means.append(torch.stack(mean, 1).to("cpu", dtype))
        deviations.append(torch.stack(deviation, 1).to("cpu", dtype))
        indices += [index for index, _ in readable]
    tensors = {"index": torch.tensor(indices, dtype=torch.int64)}
    tensors["label"] = data.labels[tensors["index"]]
    if means:
        tensors |= {"mean": torch.cat(means), "deviation": torch.cat(deviations)}
        if not all(bool(tensors[name].isfinite().all()) for name in ("mean", "deviation")):
            raise UserError(
                f"latents of items {rows.start} to {rows.stop - 1} are too large for {dtype}: "
                "choose another autoencoder.dtype"
            )
    digests = {"fingerprint": fingerprint(tensors)}
    if contents:
        hashes = torch.frombuffer(bytearray().join(content.digest for content in contents), dtype=torch.uint8)
        sources = {
            "content": hashes.view(-1, DIGEST_BYTES),
            "modified": torch.tensor([content.modified for content in contents]),
        }
        tensors |= sources
        digests["sources"] = fingerprint(sources)
    written = json.dumps(header | {"skipped": skipped} | digests)
    try:
        with whole(path) as temporary_path:
            save_file(tensors, temporary_path, metadata={HEADER: written})
    except OSError as fault:
        raise UserError(
            f"{fault}; the files encoded so far are kept: run the same command again to continue"
        ) from fault


def _has_size(path: Path) -> bool:
    """Return whether a file of latents has the size in the manifest, if there is a manifest that lists it."""
    try:
        manifest = read_object(path.parent / MANIFEST)
        sizes = {shard["file"]: shard["bytes"] for shard in manifest["shards"]}
    except (UserError, KeyError, TypeError):
        return True  # there is none yet, or it is written again
    return sizes.get(path.name) in (None, path.stat().st_size)


def _batches(
    data: PixelDataset, rows: range, batch: int, workers: int
) -> Iterator[list[tuple[int, Any, Any]]]:
    """Return batches of (index, image, content), with a reason where an image cannot be read.

    The first batch starts with the first of the rows.
    """
    index_batches = [list(rows[first : first + batch]) for first in range(0, len(rows), batch)]
    return load_batches(_Readings(data), index_batches, workers, collate=list)


class _Readings(Dataset[Any]):
    """Data set of (index, image, content of its file), with a reason where an image cannot be read."""

    def __init__(self, data: PixelDataset) -> None:
        self.data = data

    def __getitem__(self, index: int) -> tuple[int, torch.Tensor | str, FileContent | None]:
        content = self.data.content(index)
        try:
            return index, self.data.decode(index), content
        except Unreadable as fault:
            return index, str(fault), content


def _check_fit(data: PixelDataset, vae: Any, name: str) -> None:
    cell, channels = scale_factor(vae), vae.config.in_channels
    if channels != data.channels:
        raise UserError(
            f"autoencoder.model {name} takes {channels} channels, but data.channels is {data.channels}"
        )
    if data.size[-1] % cell:
        raise UserError(
            f"data.image_size must be a multiple of {cell}, the side of a latent cell in pixels, "
            f"not {data.size[-1]}"
        )


def _check_folder(
    folder: Path, layout: dict[str, Any], data: PixelDataset, identity: DataIdentity, verify: bool
) -> None:
    """Raise UserError if the folder holds latents of other settings or data, which are left unchanged.

    Damaged files, which are encoded again, are passed over: those without a header, or, to `verify`, those
    whose content does not fit its digest. A manifest or a file of tensors that is not one of latents is the
    user's own file.
    """
    _check_manifest(folder / MANIFEST)
    for path in sorted(folder.glob("latents-*.safetensors")):
        number = path.stem.removeprefix("latents-")
        if not number.isdecimal():
            continue  # such as a copy that somebody has kept
        header = shard_header(path)
        if header is None and is_foreign(path):
            raise UserError(
                f"{path} is not a file of latents and would be replaced: choose another --autoencoder.latents"
            )
        if header is None or (verify and not is_sound(path)):
            continue  # the file is written again
        encoded = DataIdentity.from_json(header.get("identity"))
        if encoded is None:
            names = list(data.label_names)
            earlier = {"label_names": _earlier_names(folder, layout, names)} | header["layout"]
            check_settings(folder, earlier, layout | {"label_names": names}, located=True, images=[])
        else:
            changes = [*chain(*data_changes(encoded, identity))]
            check_settings(folder, header["layout"], layout, located=False, images=changes)
            check_contents(folder, path, int(number) * layout["shard_size"], data)


def _check_manifest(path: Path) -> None:
    """Raise UserError if a file is neither missing, nor a manifest of latents, nor a part of one."""
    try:
        written = read_json(path)
    except UserError:
        return
    if not isinstance(written, dict) or "shards" not in written:
        raise UserError(
            f"{path} is not a manifest of latents and would be replaced: choose another --autoencoder.latents"
        )


def _earlier_names(folder: Path, layout: dict[str, Any], names: list[str]) -> list[str]:
    """Return the class names of files of latents that do not record them: those of the manifest, if any.

    Raises:
        UserError: if there is no manifest, and an earlier version gave the classes another order.
    """
    if (folder / MANIFEST).is_file():
        return read_manifest(folder)["label_names"]
    separator = "/" if layout["data"]["listed"] else ""
    earlier = sorted(names, key=lambda name: name + separator)  # all names were sorted as text, or as paths
    if names != earlier and names == class_order(names):
        raise UserError(
            f"{folder} holds latents that do not record the order of their classes, which may be "
            f"{', '.join(earlier[:3])} .. in place of {', '.join(names[:3])} ..: choose another "
            "--autoencoder.latents, or remove that folder; then run acdit encode"
        )
    return names


def _write_manifest(
    folder: Path, count: int, data: PixelDataset, settings: dict[str, Any]
) -> dict[str, Any] | None:
    """Write the manifest and return it; return None if any rank still has files to write.

    Raises:
        UserError: if no image of a class could be read.
    """
    shards, skipped, shape = [], dict(data.skipped), []  # first those that were left out when it was opened
    recorded = True
    counts = torch.zeros(len(data.label_names), dtype=torch.int64)
    for number in range(count):
        path = folder / _name(number)
        header = shard_header(path)
        if header is None:
            return None
        with open_tensors(path) as file:
            labels = file.get_tensor("label")
            if len(labels):
                shape = file.get_slice("mean").get_shape()[2:]
        counts += labels.bincount(minlength=len(counts))
        skipped |= {data.name(int(index)): reason for index, reason in header["skipped"].items()}
        recorded &= "identity" in header  # files of an earlier version do not say what they were encoded from
        entry = {"file": path.name, "count": len(labels), "bytes": path.stat().st_size}
        shards.append(entry | {"fingerprint": header["fingerprint"]})
    empty = (data.labels.bincount(minlength=len(counts)) > 0) & (counts == 0)
    if empty.any() and data.label_names == NAMELESS:
        raise UserError("no image can be read; repair or replace them")
    if empty.any():
        names = ", ".join(data.label_names[index] for index in empty.nonzero().flatten().tolist())
        raise UserError(f"no image of these classes can be read: {names}; repair or remove them")
    manifest = {
        "format_version": FORMAT_VERSION,
        "settings": settings,
        "shape": shape,
        "mirrored": data.flip_seed is not None,
        "count": sum(shard["count"] for shard in shards),
        "label_names": data.label_names,
        "data": data.identity.to_json() if recorded else None,
        "recorded_name": data.recorded_name,
        "skipped": skipped,
        "shards": shards,
    }
    with whole(folder / MANIFEST) as temporary_path:
        temporary_path.write_text(json.dumps(manifest, indent=1) + "\n")
    return manifest


def _name(number: int) -> str:
    return f"latents-{number:05d}.safetensors"
