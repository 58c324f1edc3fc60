"""Tiny pipelines of random networks, for images of 8x8 pixels: four blocks of four tokens."""

from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from PIL import Image
from torch import Tensor

from acdit.data.tokenizers import ByteTokenizer, Tokenizer
from acdit.diffusion.masked_schedulers import AncestralScheduler, FirstHittingScheduler
from acdit.diffusion.schedulers import default_sampler
from acdit.model.classifier import ACDiTForImageClassification
from acdit.model.transformer import ACDiTTransformer
from acdit.pipelines.classification import ACDiTImageClassificationPipeline
from acdit.pipelines.image import ACDiTImagePipeline
from acdit.pipelines.text import ACDiTTextPipeline
from tests.tiny import randomise, tiny_model

NAMES = {0: "ant", 1: "bee", 2: "cow"}
SCALE, SHIFT = 0.37, 0.21  # of the small autoencoder's latents


def quadrant(images: Tensor, block: int) -> Tensor:
    """One of the four blocks of images (.., 8, 8)."""
    row, column = divmod(block, 2)
    return images[..., 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]


def network(in_channels: int, **config: Any) -> ACDiTTransformer:
    """Two layers over 4x4 tokens, all parameters random."""
    sizes: dict[str, Any] = {"in_channels": in_channels, "axis_lengths": (4, 4), "num_classes": 3}
    return tiny_model(**(sizes | config))


def build_text(tokenizer: Tokenizer | None = None, *, time_conditioning: bool = False) -> ACDiTTextPipeline:
    """A pipeline of texts, by default of bytes, in four blocks of four, without a progress bar."""
    tokenizer = tokenizer or ByteTokenizer()
    sizes: dict[str, Any] = {"in_channels": None, "axis_lengths": (16,), "num_classes": None}
    model = tiny_model(**sizes, vocab_size=tokenizer.vocab_size, time_conditioning=time_conditioning)
    kind = AncestralScheduler if time_conditioning else FirstHittingScheduler
    scheduler = kind(mask_token=tokenizer.mask)
    return quiet(ACDiTTextPipeline(model, scheduler, tokenizer, grid=(16,), block=(4,)))


def build(transformer: ACDiTTransformer, scheduler: Any = None, **arguments: Any) -> Any:
    """A pipeline of 2x2 blocks of tokens of 2x2 pixels, without a progress bar."""
    defaults = {"grid": (4, 4), "block": (2, 2), "patch": (2, 2), "id2label": NAMES, "num_inference_steps": 3}
    scheduler = scheduler or default_sampler("flow")
    return quiet(ACDiTImagePipeline(transformer, scheduler, **(defaults | arguments)))


def quiet(pipeline: Any) -> Any:
    """Switch the progress bar off."""
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def small_autoencoder() -> Any:
    """Images of 8x8 pixels to latents of 4x4 cells with four channels."""
    torch.manual_seed(0)
    config: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "block_out_channels": (8, 16),
        "norm_num_groups": 4,
        "sample_size": 8,
    }
    return AutoencoderKL(**config, scaling_factor=SCALE, shift_factor=SHIFT).eval()


def seeded(*seeds: int) -> list[torch.Generator]:
    """A generator for each seed."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def latents_of(pipeline: Any, *arguments: Any, **named: Any) -> Tensor:
    """What a call makes before it becomes pictures."""
    return pipeline(*arguments, output_type="latent", **named).images


def picture(channels: int, height: int = 8, width: int = 8, seed: int = 0) -> Image.Image:
    """A picture of random levels, grey or in colour."""
    shape = (height, width, 3) if channels == 3 else (height, width)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def build_classifier(channels: int = 1, *, latent: bool = False, **settings: Any) -> Any:
    """A pipeline that recognises images of 8x8 pixels with random heads; `settings` as of the network.

    With `latent`, images have three channels, and the network reads latents of 4x4 cells with four.
    """
    generator = network(4 if latent else 4 * channels, prediction_type="flow_prediction")
    classifier = ACDiTForImageClassification.from_generator(generator, 3, **settings)
    randomise(classifier.heads, seed=7)
    block = (2, 2) if settings.get("timestep") is None else (4, 4)
    patch, vae = ((1, 1), small_autoencoder()) if latent else ((2, 2), None)
    return ACDiTImageClassificationPipeline(
        classifier.eval(), vae, grid=(4, 4), block=block, patch=patch, id2label=NAMES
    )
