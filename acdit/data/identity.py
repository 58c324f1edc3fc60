"""Identity of a data set (source, classes, items), and the differences between two data sets in words."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Self

from ..utils.names import normal

DIGEST_BYTES = 16  # length of a hash
MOST_NAMED = 8  # maximum number of classes that a message names
ClassNames = Sequence[str | None]
"""Names of the rows of a class table, without the null row; None = the name is not known."""


class FileContent(NamedTuple):
    """Content of a file.

    Attributes:
        digest: hash of the bytes, `DIGEST_BYTES` long.
        modified: time of the last modification in nanoseconds, of the file that holds the bytes; 0 = unknown.
    """

    digest: bytes
    modified: int


@dataclass(frozen=True)
class DataIdentity:
    """Identity of a data set, as checkpoints and latents store it.

    It does not depend on where the files are, so that a data set may be moved.

    Attributes:
        source: name of a built-in data set or of one on the hub; empty for local files.
        unit: word for the items, such as `files`.
        label_names: names of the classes, indexed by label; empty if there are none.
        counts: number of items of each class; of all items if there are no classes.
        digests: hash of the items of each class, in order; empty if it is not known.
        digest: hash of all items with their labels, in order.
    """

    source: str
    unit: str
    label_names: tuple[str, ...]
    counts: tuple[int, ...]
    digests: tuple[str, ...]
    digest: str

    def to_json(self) -> dict[str, Any]:
        """Return the identity as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any] | None) -> Self | None:
        """Return the identity that `to_json` described; None if nothing was stored."""
        if stored is None:
            return None
        lists = {name: tuple(stored[name]) for name in ("label_names", "counts", "digests")}
        return cls(stored["source"], stored["unit"], digest=stored["digest"], **lists)


def identify(
    source: str, unit: str, label_names: Sequence[str], items: Iterable[tuple[bytes, int]]
) -> DataIdentity:
    """Return the identity of a data set.

    Args:
        source: see `DataIdentity`.
        unit: see `DataIdentity`.
        label_names: names of the classes, indexed by label.
        items: description and label of every item, in order.
    """
    groups = range(max(1, len(label_names)))
    counts, parts = [0 for _ in groups], [hashlib.blake2b(digest_size=DIGEST_BYTES) for _ in groups]
    whole = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for description, label in items:
        record = len(description).to_bytes(8, "big") + description
        counts[label] += 1
        parts[label].update(record)
        whole.update(label.to_bytes(4, "big") + record)
    digests = tuple(part.hexdigest() for part in parts)
    return DataIdentity(source, unit, tuple(label_names), tuple(counts), digests, whole.hexdigest())


def text_digest(text: str) -> str:
    """Return a hash of a text."""
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).hexdigest()


def class_changes(old: ClassNames, new: Sequence[str]) -> list[str]:
    """Describe the classes that are new, removed or in another row of the class table."""
    sources = row_sources(old, new)
    texts = [f"class {_word(name)} is new" for name in new_classes(old, new)]
    texts += [f"class {_word(name)} is removed" for name in removed_classes(old, new)]
    texts += [
        f"class {_word(name)} was row {source} and is row {row}"
        for row, (name, source) in enumerate(zip(new, sources, strict=True))
        if source not in (None, row)
    ]
    return _shortened(texts)


def data_changes(old: DataIdentity, new: DataIdentity) -> tuple[list[str], list[str]]:
    """Describe the differences between two data sets: those of the classes, and all others."""
    classes = class_changes(old.label_names, new.label_names)
    others: list[str] = []
    if old.source != new.source:
        others.append(f"the data set was {_source(old)} and is {_source(new)}")
    if not old.label_names and not new.label_names:
        others += _item_changes(old, new, 0, 0, "the data")
    else:
        sources = row_sources(old.label_names, new.label_names)
        items: list[str] = []
        for row, source in enumerate(sources):
            if source is not None:
                name = new.label_names[row]
                items += _item_changes(old, new, source, row, f"class {_word(name)}" if name else "the data")
        others += _shortened(items)
    if not classes and not others and old.digest != new.digest:
        others.append(f"the {new.unit} of the data are others, or in another order")
    return classes, others


def row_sources(old: ClassNames, new: Sequence[str]) -> list[int | None]:
    """Return the row of the old class table for every row of the new one, by name; None for a new class.

    If a name occurs several times, its occurrences correspond to each other in order. A single class without
    a name corresponds to any single class.
    """
    if len(old) == len(new) == 1 and "" in (old[0], new[0]):
        return [0]
    rows = {key: row for row, key in enumerate(_occurrences(old))}
    return [rows.get(key) for key in _occurrences(new)]


def new_classes(old: ClassNames, new: Sequence[str]) -> list[str]:
    """Return the names of the classes that only the new table has."""
    return [name for name, source in zip(new, row_sources(old, new), strict=True) if source is None]


def removed_classes(old: ClassNames, new: Sequence[str]) -> list[str]:
    """Return the names of the classes that only the old table has; rows without a name are not listed."""
    kept = set(row_sources(old, new))
    return [name for row, name in enumerate(old) if row not in kept and name is not None]


def describe_rows(old: ClassNames, new: Sequence[str]) -> str:
    """Describe which rows of a class table are kept when it is mapped to new classes by name."""
    added, removed = new_classes(old, new), removed_classes(old, new)
    kept = len(new) - len(added)
    text = f"class rows are mapped by name: {kept} of {len(new)} kept, and the null row"
    if added:
        text += f"; newly initialised: {named_classes(added)}"
    if removed:
        text += f"; removed: {named_classes(removed)}"
    if None in old:
        text += f"; rows whose class name is not recorded: {sum(name is None for name in old)}, not used"
    return text


def named_classes(names: Sequence[str]) -> str:
    """Return class names joined by commas, of which at most `MOST_NAMED` are written out."""
    rest = len(names) - MOST_NAMED
    return ", ".join(map(_word, names[:MOST_NAMED])) + (f" and {rest} more" if rest > 0 else "")


def _item_changes(old: DataIdentity, new: DataIdentity, source: int, row: int, subject: str) -> list[str]:
    """Describe the difference between the items of a class, row `source` of the old and `row` of the new."""
    before, after = old.counts[source], new.counts[row]
    if before != after:
        return [f"{subject} had {before} {old.unit} and has {after}"]
    if old.digests and new.digests and old.digests[source] != new.digests[row]:
        properties = "in name, size or order" if new.unit == "files" else "in content or order"
        return [f"{subject} has {after} {new.unit} as before, but they differ {properties}"]
    return []


def _occurrences(names: ClassNames) -> list[tuple[str | None, int]]:
    """Return every name, in its normal form, with the number of its occurrences before it."""
    seen: Counter[str | None] = Counter()
    keys = []
    for name in names:
        key = None if name is None else normal(name)
        keys.append((key, seen[key]))
        seen[key] += 1
    return keys


def _shortened(texts: list[str]) -> list[str]:
    rest = len(texts) - MOST_NAMED
    return texts[:MOST_NAMED] + ([f"{rest} more such differences"] if rest > 0 else [])


def _source(identity: DataIdentity) -> str:
    return identity.source or "local files"


def _word(name: str) -> str:
    """Return a class name as it appears in a message of one line."""
    return name if name.isprintable() and name.strip() == name != "" else repr(name)
