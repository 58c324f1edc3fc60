"""Statistics of features of real data in .npz files: of `acdit reference`, or of other programs."""

import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..metrics.statistics import Statistics
from ..utils.array_files import ArrayFile
from ..utils.errors import UserError
from ..utils.files import whole
from ..utils.kinds import OBJECT, TEXT, check_values, list_of, whole_number
from ..utils.resources import require_memory
from ..utils.untrusted import damage, parse_json
from .array_samples import PICTURES, ArraySamples
from .extraction import FeatureSet
from .features.extractor import FeatureExtractor, FeatureInfo

MEAN, COVARIANCE = "mu", "sigma"  # names of the arrays, as in files of other programs
VALUES, LOGITS, LABELS = "features", "logits", "labels"
FORMAT = "acdit reference"  # what the comment of an archive of this package says
FORMAT_VERSION = 1
ASYMMETRY = 1e-5  # largest difference of a covariance from its transpose, relative to its largest value
PUBLISHED = "inception"  # features of the statistics that other programs publish beside pictures
FACTS = {
    "features": OBJECT,
    "count": whole_number(2, 2**62),
    "shape": list_of(whole_number(), range(5)),
    "data": OBJECT,
    "parts": whole_number().if_given(),
}
INFO = {field.name: TEXT for field in fields(FeatureInfo)} | {"input_size": whole_number().or_none()}


class StoredReference:
    """Mean and covariance of features of real data in an .npz file, and perhaps the features themselves.

    Files of `acdit reference` say which features they hold. Files of other programs hold `mu` and `sigma`
    only, so that nobody can check of which features they are; `notes` says so. Such a file may also hold
    pictures, as those of the ADM evaluator do: then `mu` and `sigma` are those of Inception features of more
    pictures, and other features are computed from the pictures.

    It stands in the place of the data themselves, see `Samples`, but only pictures in the file can be read.

    Args:
        path: path of the file.

    Attributes:
        name: name of the reference in messages.
        info: description of the features; None if the file does not say it.
        shape: shape of the pictures or clips; () if it is not known.
        labels: class of each picture in the file, if there are classes.
        label_names: empty, since the classes have no names.
        unreadable: empty.
        pictures: pictures in the file; None if there are none.
        notes: lines for the user.

    Raises:
        UserError: if the file is damaged, or its arrays are of wrong types, shapes or values.
    """

    labels: Tensor | None = None  # a file of statistics does not tell the classes of the samples to draw
    label_names: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        self.name, self._file = str(path), ArrayFile(path)
        for name in (MEAN, COVARIANCE):
            if name not in self._file.arrays:
                raise UserError(f"{path} has no array {name}: statistics need {MEAN} and {COVARIANCE}")
        self.info: FeatureInfo | None = None
        self.shape: tuple[int, ...] = ()
        self.labels: Tensor | None = None
        self.label_names: tuple[str, ...] = ()
        self.unreadable: dict[str, str] = {}
        self.notes: tuple[str, ...] = ()
        self._count, self._data, self._parts = 0, {}, 1
        facts = _own_facts(self._file)
        if facts is not None:
            self.info = FeatureInfo(**{key: facts["features"][key] for key in INFO})
            self.shape, self._count, self._data = tuple(facts["shape"]), facts["count"], facts["data"]
            self._parts = facts.get("parts", 1)
        self.pictures = ArraySamples(path) if PICTURES in self._file.arrays else None
        if self.pictures is not None:
            self.shape, self.labels = self.pictures.shape, self.pictures.labels
        if facts is None:
            self.notes = (
                f"{path} does not say which features its {MEAN} and {COVARIANCE} are of: that they are those "
                "of the samples cannot be checked",
            )
        self.statistics = self._statistics()

    def __len__(self) -> int:
        """Return the number of items; 0 if it is not known."""
        return self._count

    def batches(self, size: int, rank: int = 0, ranks: int = 1) -> Iterator[tuple[Sequence[int], Tensor]]:
        """Yield the pictures in the file, see `Samples`.

        Raises:
            UserError: if there are none.
        """
        if self.pictures is None:
            raise UserError(
                f"{self.name} holds statistics of features, not pictures or clips: name a source of these"
            )
        return self.pictures.batches(size, rank, ranks)

    def describe(self) -> dict[str, Any]:
        """Return name and count, and what the file says about its data, as a value of JSON."""
        facts: dict[str, Any] = {"name": self.name, "count": self._count or None}
        return facts | ({"data": self._data} if self._data else {})

    def check(self, info: FeatureInfo) -> None:
        """Raise UserError unless the file holds features of an extractor, or may hold them.

        Args:
            info: description of the extractor.
        """
        if self.info is None or self.info == info:
            return
        own, other = self.info.to_json(), info.to_json()
        different = [key for key in own if own[key] != other[key] and key != "licence"]
        if different:
            values = ", ".join(f"{key} {own[key]} instead of {other[key]}" for key in different)
            raise UserError(
                f"{self.name} holds features {self.info.name}, but those of the samples are {info.name}: "
                f"{values}; compute it again with acdit reference, or score with the features that it holds"
            )

    def needs_pictures(self, info: FeatureInfo) -> bool:
        """Return whether the features of an extractor come from the pictures in the file."""
        return self.pictures is not None and self.info is None and info.name != PUBLISHED

    def features(self, extractor: FeatureExtractor[Any], of_pictures: FeatureSet | None = None) -> FeatureSet:
        """Return the features of an extractor.

        Args:
            extractor: the extractor.
            of_pictures: its features of `pictures`, if there are any.

        Raises:
            UserError: if the file holds features of another extractor.
        """
        self.check(extractor.info)
        if of_pictures is not None and self.needs_pictures(extractor.info):
            return of_pictures
        if of_pictures is not None:
            values, logits, labels = of_pictures.values, of_pictures.logits, of_pictures.labels
        else:
            values, logits, labels = (self._items(name) for name in (VALUES, LOGITS, LABELS))
        parts = self._parts if of_pictures is None else of_pictures.parts
        return FeatureSet(extractor.info, self.statistics, values, logits, labels, parts)

    def _statistics(self) -> Statistics:
        """Read mean and covariance, and check them."""
        path, arrays = self._file.path, self._file.arrays
        mean, covariance = arrays[MEAN], arrays[COVARIANCE]
        if len(mean.shape) != 1 or not mean.shape[0] or covariance.shape != (*mean.shape, *mean.shape):
            raise UserError(
                f"{path} holds {MEAN} of shape {mean.shape} and {COVARIANCE} of shape {covariance.shape}: "
                "they must be (F,) and (F, F)"
            )
        if {mean.dtype.kind, covariance.dtype.kind} != {"f"}:
            raise UserError(
                f"{path} holds {MEAN} of type {mean.dtype} and {COVARIANCE} of type {covariance.dtype}: they "
                "must be floating-point numbers"
            )
        require_memory(3 * 8 * mean.shape[0] ** 2, f"the covariance in {path}", "name other statistics")
        values = torch.from_numpy(self._file.read(MEAN, mean.size).astype(np.float64))
        matrix = torch.from_numpy(self._file.read(COVARIANCE, covariance.size).astype(np.float64))
        for name, tensor in ((MEAN, values), (COVARIANCE, matrix)):
            if not bool(tensor.isfinite().all()):
                raise UserError(f"{path} holds values in {name} that are not finite (NaN or infinity)")
        largest = float(matrix.abs().max())
        if float((matrix - matrix.T).abs().max()) > ASYMMETRY * largest:
            raise UserError(f"{path} holds {COVARIANCE} that is not symmetric, so it is no covariance")
        if float(matrix.diagonal().min()) < -ASYMMETRY * largest:
            raise UserError(f"{path} holds {COVARIANCE} with negative variances, so it is no covariance")
        return Statistics(self._count, values, matrix)

    def _items(self, name: str) -> Tensor | None:
        """Return features, logits or labels of the items; None if the file does not hold them."""
        array = self._file.arrays.get(name)
        if self.info is None or array is None:
            return None
        kind, axes = ("i", 1) if name == LABELS else ("f", 2)
        width = len(self.statistics.mean)
        counts = {self._count}
        if name != VALUES:  # there may be one for each sample, whose parts are items
            counts.add(self._count // self._parts)
        if (
            array.dtype.kind != kind
            or len(array.shape) != axes
            or array.shape[0] not in counts
            or (name == VALUES and array.shape[1] != width)
        ):
            raise damage(self._file.path, f"{name} are not those of {self._count} items of {width} features")
        require_memory(2 * array.size, f"the {name} in {self._file.path}", "leave them out of the file")
        dtype = torch.long if name == LABELS else torch.float32
        tensor = torch.from_numpy(self._file.read(name, array.size)).to(dtype)
        if not bool(tensor.isfinite().all()):
            raise UserError(f"{self._file.path} holds {name} that are not finite (NaN or infinity)")
        return tensor


def is_stored_reference(path: Path) -> bool:
    """Return whether a file is an .npz file of statistics.

    Raises:
        UserError: if it is a damaged .npz file.
    """
    return (
        path.suffix.lower() == ".npz"
        and path.is_file()
        and bool({MEAN, COVARIANCE} & ArrayFile(path).arrays.keys())
    )


def check_replaceable_reference(path: Path) -> None:
    """Raise UserError if a file exists that `write_reference` did not write."""
    if not path.exists():
        return
    try:
        own, reason = _own_facts(ArrayFile(path)) is not None, f"is no file of {FORMAT}"
    except UserError as fault:
        own, reason = False, f"cannot be checked ({fault})"
    if not own:
        raise UserError(f"{path} exists and {reason}: choose another --out, or remove it")


def write_reference(
    path: Path,
    features: FeatureSet,
    shape: tuple[int, ...],
    data: dict[str, Any],
    *,
    with_items: bool = False,
) -> None:
    """Write statistics of features to an .npz file, atomically; other programs can read `mu` and `sigma`.

    Args:
        path: path of the file.
        features: the features.
        shape: shape of the samples.
        data: description of the samples.
        with_items: whether to write the features of each item too, with its logits and labels.
    """
    statistics = features.statistics
    facts = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "features": features.info.to_json(),
        "count": statistics.count,
        "parts": features.parts,
        "shape": list(shape),
        "data": {key: value for key, value in data.items() if key != "left_out_files"},
    }
    arrays: dict[str, Tensor | None] = {MEAN: statistics.mean, COVARIANCE: statistics.covariance}
    if with_items:
        arrays |= {VALUES: features.values, LOGITS: features.logits, LABELS: features.labels}
    with whole(path) as temporary_path, zipfile.ZipFile(temporary_path, "w") as archive:
        archive.comment = json.dumps(facts).encode()
        for name, tensor in arrays.items():
            if tensor is not None:
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, tensor.cpu().numpy(), allow_pickle=False)


def _own_facts(file: ArrayFile) -> dict[str, Any] | None:
    """Return what a file of this package says about itself; None for files of other programs.

    Raises:
        UserError: if a file of this package is damaged, or of a later version.
    """
    try:
        facts = parse_json(file.comment, file.path)
    except UserError:
        return None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        return None
    if facts.get("format_version") != FORMAT_VERSION:
        raise UserError(f"{file.path} has a format that this version of acdit does not know: update acdit")
    check_values(facts, FACTS, file.path)
    check_values(facts["features"], INFO, file.path)
    return facts
