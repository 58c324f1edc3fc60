"""Check the manifest and the files of latents before they are used. Does not import torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..utils.kinds import BOOL, OBJECT, TEXT, Kind, check_values, list_of, whole_number
from ..utils.untrusted import StoredTensor, damage, file_name

REMEDY = "remove it and run acdit encode again"
SIZE = whole_number(1, 2**20)
ANY_LENGTH = range(10**7)
SHARD_KINDS = {
    "file": Kind("the plain name of a file", file_name),
    "count": whole_number(0),
    "bytes": whole_number(0, 2**62),
    "fingerprint": TEXT,
}
IDENTITY_KINDS = {
    "source": TEXT,
    "unit": TEXT,
    "label_names": list_of(TEXT, ANY_LENGTH),
    "counts": list_of(whole_number(0), ANY_LENGTH),
    "digests": list_of(TEXT, ANY_LENGTH),
    "digest": TEXT,
}
MANIFEST_KINDS = {
    "settings": OBJECT,
    "shape": list_of(SIZE, range(5)),
    "mirrored": BOOL,
    "count": whole_number(0),
    "label_names": list_of(TEXT, range(1, 10**6)),
    "data": OBJECT.or_none().if_given(),
    "recorded_name": TEXT.or_none().if_given(),
    "shards": list_of(OBJECT, range(1, 10**7)),
}
HEADER_KINDS = {
    "layout": OBJECT,
    "identity": OBJECT.or_none().if_given(),
    "skipped": OBJECT,
    "fingerprint": TEXT,
    "sources": TEXT.if_given(),
}


def check_manifest(manifest: Mapping[str, Any], path: Path) -> None:
    """Raise UserError if a value in a manifest of latents is of another kind than those that are written."""
    check_values(dict(manifest), MANIFEST_KINDS, path, REMEDY)
    settings = check_values(manifest["settings"], {"data": OBJECT}, path, REMEDY)
    check_values(settings["data"], {"source": TEXT}, path, REMEDY)
    if manifest.get("data") is not None:
        checked_identity(manifest["data"], path)
    for shard in manifest["shards"]:
        check_values(shard, SHARD_KINDS, path, REMEDY)
    if manifest["count"] != sum(shard["count"] for shard in manifest["shards"]):
        raise damage(path, "its count is not the sum of those of its files", REMEDY)
    if manifest["count"] and len(manifest["shape"]) not in (3, 4):
        raise damage(path, f"shape must be (C, h, w) or (C, F, h, w), not {manifest['shape']}", REMEDY)


def checked_identity(identity: object, path: Path) -> dict[str, Any]:
    """Return the stored identity of a data set, after checking its values."""
    values = check_values(identity, IDENTITY_KINDS, path, REMEDY)
    lengths = {len(values["counts"]), *([len(values["digests"])] if values["digests"] else [])}
    if lengths != {max(1, len(values["label_names"]))}:
        raise damage(path, "its identity of the data must have a count for each class", REMEDY)
    return values


def check_latents(
    path: Path, header: Mapping[str, StoredTensor], count: int, shape: Sequence[int], mirrored: bool
) -> None:
    """Raise UserError unless a file holds means, deviations and labels of so many items of a shape."""
    expected = {"label": ((count,), ("I64",)), "index": ((count,), ("I64",))}
    if count:
        size = (count, 2 if mirrored else 1, *shape)
        kinds = ("F32", "F16", "BF16")
        expected |= {"mean": (size, kinds), "deviation": (size, kinds)}
    for name, (size, kinds) in expected.items():
        stored = header.get(name)
        if stored is None or stored.shape != size or stored.dtype not in kinds:
            held = "missing" if stored is None else f"{stored.dtype} {list(stored.shape)}"
            raise damage(path, f"its tensor {name} is {held}, not {kinds[0]} {list(size)}", REMEDY)
