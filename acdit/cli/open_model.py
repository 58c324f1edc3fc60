"""Open the device and the pipeline that options name, and read the settings of sampling."""

from typing import TypeVar

import torch

from ..generation.batches import Sampling
from ..pipelines.loading import load_pipeline
from ..pipelines.pixel_pipeline import ACDiTPipeline
from ..pipelines.stored_pipeline import StoredPipeline
from ..utils.errors import UserError
from ..utils.ranks import launched
from .model_options import GuidedOptions, ModelOptions

P = TypeVar("P", bound=StoredPipeline)
G = TypeVar("G", bound=ACDiTPipeline)


def open_pipeline(options: ModelOptions, kind: type[P]) -> P:
    """Load the pipeline that options name, on their device and in their precision.

    Args:
        options: options of a command.
        kind: class that the pipeline must have.

    Raises:
        UserError: if the pipeline is of another class, or there is no such device.
    """
    device = device_of(options.device)
    pipeline = load_pipeline(options.model, getattr(torch, options.dtype), kind)
    pipeline.to(device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def open_guided(options: GuidedOptions, kind: type[G]) -> G:
    """Load a pipeline of images or video as `open_pipeline` does, and set up its autoencoder's decoding.

    Raises:
        UserError: if slicing or tiling is requested and there is no autoencoder.
    """
    pipeline = open_pipeline(options, kind)
    if options.vae_slicing or options.vae_tiling:
        if pipeline.vae is None:
            raise UserError("--vae-slicing and --vae-tiling are for models with an autoencoder")
        pipeline.vae.use_slicing, pipeline.vae.use_tiling = options.vae_slicing, options.vae_tiling
    return pipeline


def sampling_of(options: GuidedOptions, pipeline: ACDiTPipeline) -> Sampling:
    """Return the settings of sampling, with steps and guidance interval in place of `fast`."""
    steps, interval = options.steps, options.guidance_interval
    if options.fast:
        fast = pipeline.fast
        steps, interval = fast["num_inference_steps"], fast["guidance_interval"]
    return Sampling(options.seed, options.batch, steps, options.guidance, interval)


def device_of(name: str | None) -> torch.device:
    """Return the named device; by default the GPU of this rank, or the CPU if there is none.

    Raises:
        UserError: if there is no such device.
    """
    ranks = launched()  # each rank has a GPU of its own
    chosen = {None: str(ranks.device), "cuda": f"cuda:{ranks.local_rank}"}.get(name, name)
    try:
        device = torch.empty(0, device=chosen).device
    except (RuntimeError, AssertionError) as error:  # raised by torch if there is no such device
        reason = str(error).splitlines()[0]
        if reason.startswith("Expected one of"):
            reason = "it is no device; use cpu, cuda, cuda:1 (the second GPU) or mps"
        raise UserError(f"--device {chosen} cannot be used: {reason}") from error
    if device.type == "meta":
        raise UserError("--device meta cannot be used: its tensors hold no values; use cpu, cuda or mps")
    return device
