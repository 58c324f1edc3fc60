"""What a run needs before it starts: configuration, data, latents and room on the disk."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.digits import LABEL_NAMES
from ..data.latents import check_settings, data_settings, read_manifest
from ..data.opening import WITHOUT_DOWNLOAD, open_pixels
from ..data.shakespeare import SHAKESPEARE
from ..data.sources import holds_tables, source_folder
from ..data.tokenizers import open_tokenizer
from ..model.flops import Dimensions, parameters
from ..model.layout import Layout, dims
from ..model.rope import default_split
from ..utils.errors import UserError
from ..utils.files import check_writable
from .build import build_layouts
from .config import Recipe
from .options import PlanOptions
from .validation import check_validation

# Pixels along a latent cell, and channels, of Stable Diffusion's autoencoder: for one that is not at hand.
USUAL_AUTOENCODER = (8, 4)
USUAL_VOCABULARY = 50_258  # ids of GPT-2's tokeniser and the mask, for one that is not at hand
STATES = 4  # in a checkpoint, each of a float32 value per parameter: weights, their average, two moments


@dataclass(frozen=True)
class Check:
    """One thing that a run needs."""

    subject: str
    ok: bool
    found: str


@dataclass(frozen=True)
class Data:
    """What the network sees of the data, as far as it can be known without reading it."""

    values: int  # channels, or of texts the ids, the mask included
    size: tuple[int, ...]  # (h, w) or (F, h, w), in pixels or latent cells; (L,) of texts
    num_classes: int | None
    assumed: tuple[str, ...] = ()


@dataclass
class Checks:
    """Checks made one by one; a check that fails becomes a problem."""

    made: list[Check] = field(default_factory=list)

    def make(self, subject: str, check: Callable[[], Any]) -> Any:
        """What `check` returns, noted as found unless it is None; None after a problem."""
        try:
            found = check()
        except (ValueError, OSError) as error:
            self.made.append(Check(subject, False, " ".join(str(error).split())))
            return None
        if found is not None:
            shown = "; ".join(map(str, found)) if isinstance(found, list) else str(found)
            self.made.append(Check(subject, True, shown))
        return found


def check_run(options: PlanOptions, data: Data, network: Dimensions) -> tuple[list[Check], list[Layout]]:
    """All checks, and the layouts of the recipe where they tile."""
    checks = Checks()
    layouts = checks.make("layout", lambda: build_layouts(options, data.size))
    checks.make("heads", lambda: _check_heads(network, len(data.size)))
    checks.make("batch", lambda: _check_batch(options, options.ranks))
    if options.autoencoder.model is not None:
        checks.make("latents", lambda: _check_latents(options))
    if options.autoencoder.model is None or _manifest(options) is None:
        checks.make("data", lambda: _check_source(options))
    if counted := _counted_classes(options):
        checks.make("classes", lambda: _check_classes(options, counted))
    checks.make("validation", lambda: check_validation(options))
    checks.make("disk", lambda: _check_disk(options, parameters(network)))
    return checks.made, layouts or []


def look_at_data(recipe: Recipe) -> Data:
    """Size, channels and classes of what the network sees.

    Raises:
        UserError: if the recipe names no size.
    """
    config = recipe.data
    if config.tokens is not None:
        return _look_at_texts(config.tokenizer, config.tokens)
    channels, edge, num_classes = config.channels, config.image_size, _counted_classes(recipe)
    frames = () if config.frames is None else (config.frames,)
    if config.source in WITHOUT_DOWNLOAD:
        digits = open_pixels(config, seed=recipe.training.seed)
        channels, edge = digits.channels, digits.size[-1]
    if edge is None:
        raise UserError(f"data.image_size must be the edge in pixels for {config.source}, such as 256")
    num_classes = num_classes or config.num_classes
    assumed = []
    if num_classes is None:
        assumed.append("no classes, for the data is not at hand to count them; name data.num_classes")
    if recipe.autoencoder.model is None:
        return Data(channels, (*frames, edge, edge), num_classes, tuple(assumed))
    manifest = _manifest(recipe)
    if manifest is not None:
        return Data(manifest["shape"][0], tuple(manifest["shape"][1:]), num_classes, tuple(assumed))
    cell, channels = _autoencoder_shape(recipe.autoencoder.model) or (None, None)
    if cell is None or channels is None:
        cell, channels = USUAL_AUTOENCODER
        assumed.append(
            f"an autoencoder of {channels} channels that makes a latent cell of {cell}x{cell} pixels"
        )
    return Data(channels, (*frames, edge // cell, edge // cell), num_classes, tuple(assumed))


def _look_at_texts(tokenizer: str, tokens: int) -> Data:
    """What is known of texts; a tokeniser that is neither a file nor a folder is not asked for."""
    if tokenizer != "bytes" and not Path(tokenizer).expanduser().exists():
        assumed = f"a vocabulary of {USUAL_VOCABULARY:,}, GPT-2's and the mask, for {tokenizer} is not asked"
        return Data(USUAL_VOCABULARY, (tokens,), None, (assumed,))
    return Data(open_tokenizer(tokenizer).vocab_size, (tokens,), None)


def _check_heads(network: Dimensions, axes: int) -> str:
    hidden, heads = network.hidden_size, network.num_heads
    if hidden % heads:
        raise UserError(f"model.num_heads must divide the hidden size of {hidden}; {heads} does not")
    return f"rotary dimensions of an axis: {dims(default_split(hidden // heads, axes), '|')}"


def _check_batch(recipe: Recipe, ranks: int) -> str:
    config = recipe.training
    ways = ranks * config.accumulation
    if config.batch_size % ways:
        raise UserError(
            f"training.batch_size must be a multiple of ranks x accumulation, {ways}, not {config.batch_size}"
        )
    return f"{config.batch_size} over {ways} forwards"


def _check_latents(recipe: Recipe) -> str:
    manifest = read_manifest(recipe.latents)
    wanted = {"data": data_settings(recipe.data, recipe.autoencoder.clips)}
    check_settings(recipe.latents, {"data": manifest["settings"]["data"]}, wanted)
    return (
        f"{manifest['count']:,} {recipe.data.noun} in {recipe.latents}; training compares the autoencoder too"
    )


def _check_source(recipe: Recipe) -> str:
    """What is known of the source without reading it, or a UserError if it must be a folder and is none."""
    source = recipe.data.source
    if source in (*WITHOUT_DOWNLOAD, SHAKESPEARE):
        return f"{source} needs no download"
    if recipe.data.tokens is not None and Path(source).expanduser().is_file():
        return f"{source} is a file; it is not read"
    if source_folder(source) is None:
        return f"{source} is no folder here, so a name on the hub, which is not asked"
    return f"{source} is a folder; its files are not read"


def _check_classes(recipe: Recipe, counted: int) -> str:
    named = recipe.data.num_classes
    if named not in (None, counted):
        raise UserError(f"data.num_classes must be {counted}, as many as there are, not {named}")
    return f"{counted} are there"


def _check_disk(recipe: Recipe, parameters: int) -> str:
    check_writable(recipe.folder / "checkpoints")
    kept = recipe.training.keep_checkpoints + 1  # the newest is written before the oldest goes
    wanted = kept * STATES * 4 * parameters
    folder = recipe.folder.absolute()
    free = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free
    needs = f"{kept} checkpoints of {recipe.folder} take {wanted / 1e9:,.3g} GB"
    if wanted > free:
        raise UserError(
            f"{needs}, {free / 1e9:,.3g} GB are free: name another --out or lower training.keep_checkpoints"
        )
    return f"{needs}, {free / 1e9:,.3g} GB are free"


def _manifest(recipe: Recipe) -> dict[str, Any] | None:
    """The manifest of the latents; None where there is none that can be read."""
    try:
        return read_manifest(recipe.latents)
    except UserError:
        return None


def _counted_classes(recipe: Recipe) -> int | None:
    """Classes of the latents, the digits, or a folder with a sub-folder for each; None of anything else."""
    manifest = _manifest(recipe) if recipe.autoencoder.model is not None else None
    if manifest is not None:
        return len(manifest["label_names"])
    if recipe.data.source in WITHOUT_DOWNLOAD:
        return len(LABEL_NAMES)
    folder = Path(recipe.data.source).expanduser()
    if not folder.is_dir() or holds_tables(folder):
        return None
    children = [child for child in folder.iterdir() if not child.name.startswith(".")]
    classes = sum(
        any(not file.is_dir() for file in child.rglob("[!.]*")) for child in children if child.is_dir()
    )
    return classes or (1 if children else None)  # files without a folder are of one class


def _autoencoder_shape(model: str) -> tuple[int, int] | None:
    """Pixels along a latent cell and channels of an autoencoder in a folder; None elsewhere."""
    for path in (Path(model) / "vae" / "config.json", Path(model) / "config.json"):
        try:
            config = json.loads(path.read_text())
            return 2 ** (len(config["block_out_channels"]) - 1), int(config["latent_channels"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None
