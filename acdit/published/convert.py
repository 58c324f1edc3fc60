"""Conversion of published checkpoints: pickled weights and arguments <-> pipeline directories."""

import argparse
import json
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from ..data.autoencoders import load_autoencoder
from ..diffusion.schedulers import default_sampler
from ..modalities.table import modality_of_layout
from ..model.layout import Layout, dims
from ..model.rope import default_split
from ..model.sizes import SIZES, Size
from ..model.stored import check_weights
from ..model.transformer import ACDiTTransformer
from ..model.weight_files import CONFIG
from ..pipelines.image import ACDiTImagePipeline
from ..pipelines.loading import load_pipeline
from ..pipelines.pixel_model import checked_scale_factor
from ..pipelines.pixel_pipeline import ACDiTPipeline
from ..training.checkpoint import check_whole, read_part, stored_checkpoints
from ..training.stored_weights import CHECKPOINTS
from ..utils.errors import UserError
from ..utils.files import whole
from ..utils.finite import check_finite
from ..utils.kinds import check_values, list_of, whole_number
from ..utils.names import imagenet_classes
from ..utils.references import load_object
from ..utils.untrusted import damage, read_object, reading
from .format import PUBLISHED_NAME, PublishedArguments, read_checkpoint

LAYOUT_FILE = "layout.json"  # file with the layout of a converted video model
MAX_SHOWN = 10  # number of tensors that an error message names
SaveConverted = Callable[[Path, ACDiTTransformer, Layout, int, AutoencoderKL | None], None]


def build_transformer(arguments: PublishedArguments, weights: Mapping[str, Tensor]) -> ACDiTTransformer:
    """Build the network of a published checkpoint from its weights, with the sizes of the tensors.

    Raises:
        UserError: if tensors are missing, surplus or misshapen; the message names the first ten.
    """
    layout = arguments.layout()
    config = _network_config(arguments, layout, weights)
    with torch.device("meta"):
        model = ACDiTTransformer(**config)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    wrong = [f"{name} is missing" for name in expected if name not in weights]
    wrong += [f"{name} is unexpected" for name in weights if name not in expected]
    wrong += [
        f"{name} is {dims(weights[name].shape)}, not {dims(shape)}"
        for name, shape in expected.items()
        if name in weights and tuple(weights[name].shape) != shape
    ]
    if wrong:
        more = f"; and {len(wrong) - MAX_SHOWN} more" if len(wrong) > MAX_SHOWN else ""
        raise UserError(f"the weights do not fit the network: {'; '.join(wrong[:MAX_SHOWN])}{more}")
    model.load_state_dict(dict(weights), assign=True)
    return model.eval()


def convert_checkpoint(
    path: Path,
    out: Path,
    *,
    ema: bool = False,
    vae: str | None = None,
    report: Callable[[str], None] | None = None,
) -> None:
    """Write the pipeline directory of a published checkpoint, with an autoencoder if one is named.

    A video checkpoint is written as `transformer/`, `scheduler/`, `layout.json` and, with an autoencoder,
    `vae/`.

    Args:
        path: the checkpoint.
        out: directory to write.
        ema: whether the moving average of the weights is written.
        vae: name on the hub, or folder, of the autoencoder; None = none.
        report: function that is called with a sentence if names of weights were changed.

    Raises:
        UserError: if `read_checkpoint` or `build_transformer` refuses the checkpoint, the autoencoder does
            not fit, or the folder is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(
            f"{out} exists and is not an empty folder: choose another --out, or delete that folder"
        )
    stored = read_checkpoint(path)
    if ema and stored.ema is None:
        raise UserError(f"{path} has no moving average (ema): leave out --ema")
    weights = stored.ema if ema and stored.ema is not None else stored.model
    part = "ema" if ema else "model"
    if report is not None and part in stored.notes:
        report(stored.notes[part])
    arguments, layout = stored.arguments, stored.arguments.layout()
    check_finite(weights, f"the weights in {path}", "the file is damaged; get it again")
    model = build_transformer(arguments, weights)
    autoencoder = None if vae is None else load_autoencoder(vae)
    checked_scale_factor(autoencoder, arguments.vae_latent_size, arguments.vae_patch_pixels)
    save = cast(SaveConverted, load_object(modality_of_layout(layout.axes).save_converted))
    with whole(out) as temporary_path:
        save(temporary_path, model, layout, arguments.vae_patch_pixels, autoencoder)


def save_image_pipeline(
    folder: Path, model: ACDiTTransformer, layout: Layout, cell: int, vae: AutoencoderKL | None
) -> None:
    """Write the pipeline of a published image checkpoint.

    Args:
        folder: output folder.
        model: the network.
        layout: layout of the images.
        cell: side of a latent cell in pixels.
        vae: the autoencoder; None = none.
    """
    ACDiTImagePipeline(
        transformer=model,
        scheduler=default_sampler("epsilon"),
        vae=vae,
        grid=layout.grid,
        block=layout.block,
        patch=layout.patch,
        id2label=_label_names(model.config["num_classes"]),
        vae_scale_factor=cell,
    ).save_pretrained(folder)


def save_video_parts(
    folder: Path, model: ACDiTTransformer, layout: Layout, cell: int, vae: AutoencoderKL | None
) -> None:
    """Write the parts of a published video checkpoint; the arguments are those of `save_image_pipeline`."""
    model.save_pretrained(folder / "transformer")
    default_sampler("epsilon").save_pretrained(folder / "scheduler")
    if vae is not None:
        vae.save_pretrained(folder / "vae")
    described = asdict(layout) | {"vae_scale_factor": cell}
    (folder / LAYOUT_FILE).write_text(json.dumps({"format_version": 1} | described, indent=2) + "\n")


def publish(source: Path, out: Path) -> None:
    """Write a pipeline directory, or a training run, as a published checkpoint.

    For a run, `model` holds the last weights and `ema` their moving average; for a pipeline, and for a run
    that trained adapters, both hold the weights of the pipeline, into which adapters are merged.

    Raises:
        UserError: if the published code cannot express the network or the layout, or the file exists.
    """
    if out.exists():
        raise UserError(f"{out} already exists: choose another --out, or delete that folder")
    transformer, layout, cell = _load_source(source)
    config = transformer.config
    if config["rope"] != "published":
        raise UserError(
            f"{source} has the rotary embedding {config['rope']}, but the published code supports only "
            "its own: to publish a model, train it from a converted checkpoint (training.init_from)"
        )
    if tuple(config["axis_lengths"]) != layout.grid:
        raise UserError(
            f"{source} cannot be converted: it generates a grid of {dims(layout.grid)} with rotary "
            f"embeddings for {dims(config['axis_lengths'])}, and the published format needs them to be equal"
        )
    if config["context"] != "clean":
        raise UserError(f"{source} was trained with noised context, which the published code does not have")
    if config["prediction_type"] not in (None, "epsilon"):
        raise UserError(
            f"{source} predicts {config['prediction_type']}, but networks of the published code predict the "
            "noise (epsilon): train it with diffusion.prediction epsilon"
        )
    if config["num_classes"] is None or not config["time_conditioning"]:
        raise UserError(f"{source} has no classes or no timesteps; the published code needs both")
    arguments = _describe(transformer, layout, cell)
    try:
        expressed = arguments.layout()
    except UserError:
        expressed = None
    if expressed != layout:
        raise UserError(f"{source} has a layout that the published code cannot express: {layout}")
    check_finite(transformer.state_dict(), f"the weights of {source}", "use an earlier checkpoint")
    model = ema = dict(transformer.state_dict())
    stored_steps = stored_checkpoints(source / CHECKPOINTS)  # which a run may be adding to
    newest = stored_steps[-1] if stored_steps else None
    if newest is not None and not newest.state.get("recipe", {}).get("lora", {}).get("rank"):
        check_whole(newest)
        model, ema = read_part(newest, "model"), read_part(newest, "ema")
        check_finite(model | ema, f"the weights of {newest.path}", "use an earlier checkpoint")
    stored = {"model": OrderedDict(model), "ema": ema, "args": argparse.Namespace(**asdict(arguments))}
    # A Python file reports why a write fails.
    with whole(out) as temporary_path, temporary_path.open("wb") as file:
        torch.save(stored, file)


def _load_source(source: Path) -> tuple[ACDiTTransformer, Layout, int]:
    """Load network, layout and side of a latent cell from a pipeline, a run, or a converted video model."""
    described = source / LAYOUT_FILE
    if not described.exists():
        pipeline = load_pipeline(source, kind=ACDiTPipeline)
        if not isinstance(pipeline.transformer, ACDiTTransformer):
            name = type(pipeline.transformer).__name__
            raise UserError(f"{source} holds a {name}, which the published format cannot express")
        return pipeline.transformer, pipeline.layout, pipeline.vae_scale_factor
    lengths = list_of(whole_number(1, 2**24), range(1, 4))
    kinds = {"grid": lengths, "block": lengths, "patch": lengths, "vae_scale_factor": whole_number(1, 2**10)}
    stored = check_values(read_object(described), kinds, described)
    try:
        layout = Layout(*(tuple(stored[name]) for name in ("grid", "block", "patch")))
    except ValueError as fault:
        raise damage(described, str(fault)) from fault
    network = source / "transformer"
    if not (network / CONFIG).is_file():
        raise UserError(
            f"{source} is incomplete: it has no transformer/{CONFIG}; convert the checkpoint again"
        )
    with reading(network):
        transformer = ACDiTTransformer.from_pretrained(network)
    check_weights(network, transformer)
    channels, axes = transformer.config["in_channels"], len(transformer.config["axis_lengths"])
    if channels is None or channels % layout.patch_elements or axes != layout.axes:
        raise damage(described, f"its layout, {layout}, does not fit the network")
    return transformer, layout, stored["vae_scale_factor"]


def _describe(transformer: ACDiTTransformer, layout: Layout, cell: int) -> PublishedArguments:
    """Return the arguments for a network and its layout; the caller must check that they express both."""
    config = transformer.config
    head_dim = config["hidden_size"] // config["num_heads"]
    split = tuple(config["rope_split"] or default_split(head_dim, layout.axes))
    is_default = split == default_split(head_dim, layout.axes)
    size = Size(config["num_layers"], config["hidden_size"], config["num_heads"])
    names = [f"ACDiT-{name}" for name, known in SIZES.items() if known == size]
    frames = (1, *layout.grid)[-3]
    side, patch = layout.grid[-1], layout.patch[-1]
    return PublishedArguments(
        model=names[0] if names else PUBLISHED_NAME,
        vae_latent_size=config["in_channels"] // layout.patch_elements,
        patch_size=patch,
        block_size=layout.block_tokens,
        ar_len=layout.num_blocks,
        num_frames=frames,
        image_size=side * patch * cell,
        vae_patch_pixels=cell,
        nd_split=None if is_default else "_".join(str(width // math.gcd(*split)) for width in split),
        square_block=frames == 1 or layout.block[-1] < side,
    )


def _network_config(
    arguments: PublishedArguments, layout: Layout, weights: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Return the config of an `ACDiTTransformer` with the sizes of the tensors."""

    def shape(name: str, axes: int) -> tuple[int, ...]:
        tensor = weights.get(name)
        if tensor is None or tensor.ndim != axes:
            raise UserError(f"the weights do not fit the network: {name} is missing or not a {axes}-D tensor")
        return tuple(tensor.shape)

    hidden, channels = shape("x_embedder.weight", 2)
    (head_dim,) = shape("blocks.0.attn.q_norm.weight", 1)
    expected = arguments.vae_latent_size * layout.patch_elements
    if channels != expected:
        raise UserError(
            f"the checkpoint is inconsistent: x_embedder.weight has {channels} values per token, its args "
            f"{expected}"
        )
    if not head_dim or not hidden or hidden % head_dim:
        raise UserError(f"a hidden width of {hidden} cannot be divided into heads of {head_dim} dimensions")
    return {
        "in_channels": channels,
        "axis_lengths": layout.grid,
        # counted from the first layer: in a damaged file the highest index may be arbitrary
        "num_layers": next(layer for layer in count() if f"blocks.{layer}.norm1.weight" not in weights),
        "hidden_size": hidden,
        "num_heads": hidden // head_dim,
        "mlp_ratio": shape("blocks.0.mlp.fc1.weight", 2)[0] / hidden,
        "num_classes": shape("y_embedder.embedding_table.weight", 2)[0] - 1,
        "rope": "published",
        "prediction_type": "epsilon",
        "rope_split": arguments.rope_split(head_dim, layout.axes),
    }


def _label_names(num_classes: int) -> dict[int, str]:
    """Return the names of ImageNet's thousand classes, or no names for another number of classes."""
    if num_classes != 1000:
        return {}
    return dict(enumerate(imagenet_classes()))
