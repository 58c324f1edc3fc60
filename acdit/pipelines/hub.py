"""Models on the Hugging Face hub: all files of a model in one local folder."""

from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.constants import HF_HUB_OFFLINE
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from ..utils.errors import UserError, reason_of

FILES = ["*.json", "*.safetensors"]  # no code and no pickles
ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "revision", "token")


def local_folder(name: str | Path, arguments: dict[str, Any]) -> str:
    """Return the folder of a pipeline: the given one, or that of a model fetched from the hub.

    Args:
        name: folder, or name ORGANISATION/MODEL of a model on the hub.
        arguments: arguments of `from_pretrained`; those about the hub and `subfolder` are taken out.

    Raises:
        UserError: if the model cannot be fetched.
    """
    subfolder = arguments.pop("subfolder", None) or ""
    given = {key: arguments.pop(key) for key in ARGUMENTS if key in arguments}
    folder = Path(name)
    if not folder.is_dir():
        folder = fetched_folder(str(name), subfolder, **given)
    folder = folder / subfolder
    if not (folder / "model_index.json").is_file():
        raise UserError(f"{name} is not a pipeline: {folder} has no model_index.json")
    return str(folder)


def fetched_folder(name: str, subfolder: str = "", **arguments: Any) -> Path:
    """Return the folder in the cache with the files of a model on the hub, which are fetched if necessary.

    Args:
        name: name ORGANISATION/MODEL of the model.
        subfolder: folder of the model whose files are fetched; empty = all folders.
        arguments: those of `snapshot_download` that `ARGUMENTS` lists.

    Raises:
        UserError: if the model cannot be fetched.
    """
    patterns = [f"{subfolder}/{pattern}" if subfolder else pattern for pattern in FILES]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, **arguments))
    except HFValidationError as fault:
        raise UserError(
            f"{name} is neither a folder nor the name of a model on the Hugging Face hub (org/name)"
        ) from fault
    except LocalEntryNotFoundError as fault:
        offline = arguments.get("local_files_only") or HF_HUB_OFFLINE
        reason = (
            "was not asked (local_files_only or HF_HUB_OFFLINE): check the name and the revision"
            if offline
            else "cannot be reached: check the name and the network"
        )
        raise UserError(
            f"{name} is neither a folder nor a model in the cache, and the Hugging Face hub {reason}"
        ) from fault
    except (HfHubHTTPError, OSError) as fault:
        reason = reason_of(fault)
        raise UserError(f"{name} cannot be fetched from the Hugging Face hub: {reason}") from fault
