"""Rows of a data set of Hugging Face, from a folder, the hub or its cache."""

from pathlib import Path
from typing import TYPE_CHECKING

from ..utils.checks import here_or_on_hub
from ..utils.errors import UserError
from ..utils.hub import hub_is_known
from .config import DataConfig
from .folders import SAVED

if TYPE_CHECKING:
    import datasets


def load_rows(config: DataConfig) -> "datasets.Dataset":
    """Load the data set that `config.source` names, from a folder or from the hub.

    Raises:
        UserError: if there is no such data set, or if it cannot be loaded.
    """
    import datasets
    from datasets.exceptions import DatasetsError

    here_or_on_hub("data.source", config.source, "a data set")
    folder = Path(config.source).expanduser()
    if folder.exists() and not folder.is_dir():
        raise UserError(
            f"data.source {config.source} is not a data set; set it to a folder, or to a name on the hub"
        )
    try:
        if any((folder / name).exists() for name in SAVED):
            loaded = datasets.load_from_disk(str(folder))
            if isinstance(loaded, datasets.Dataset):
                config.refuse("split", reason="a data set that was saved without splits")
        elif folder.exists() or hub_is_known():
            loaded = datasets.load_dataset(folder.as_posix(), split=config.split)
        else:
            loaded = _from_cache(config)
    except IndexError as fault:  # raised by datasets for a set that was saved without rows
        raise UserError(f"data.source {config.source} has no rows") from fault
    except ConnectionError as fault:
        raise UserError(
            f"data.source {config.source} cannot be loaded: it is neither a folder nor in the cache, and the "
            "hub cannot be reached; check the name and the connection"
        ) from fault
    except (OSError, ValueError, DatasetsError) as fault:  # unknown or damaged
        reason = " ".join(str(fault).split())
        raise UserError(f"data.source {config.source} cannot be loaded: {reason}") from fault
    if isinstance(loaded, datasets.DatasetDict):
        if config.split not in loaded:
            splits = ", ".join(map(str, loaded))
            raise UserError(f"data.split of {config.source} must be one of {splits}, not {config.split!r}")
        loaded = loaded[config.split]
    assert isinstance(loaded, datasets.Dataset)  # since a split is named and streaming is off
    return loaded


def _from_cache(config: DataConfig) -> "datasets.Dataset":
    """Load a data set of the hub from the cache, without asking the hub."""
    import datasets
    import datasets.config

    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = True  # there is no argument for it
    try:
        loaded = datasets.load_dataset(config.source, split=config.split)
    finally:
        datasets.config.HF_HUB_OFFLINE = before
    assert isinstance(loaded, datasets.Dataset)  # since a split is named and streaming is off
    return loaded
