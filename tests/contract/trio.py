"""One tiny pipeline of each modality, and what a call of it generates."""

from typing import Any

import torch
from torch import Tensor

from acdit.data.tokenizers import ByteTokenizer
from acdit.diffusion.masked_schedulers import FirstHittingScheduler
from acdit.diffusion.schedulers import default_sampler
from acdit.pipelines.text import ACDiTTextPipeline
from acdit.pipelines.video import ACDiTVideoPipeline
from tests.pipelines.small import build, network, quiet, seeded, small_autoencoder
from tests.tiny import tiny_model

BYTES = ByteTokenizer()


def image_pipeline() -> Any:
    """Images 8x8 through an autoencoder, four blocks of latents."""
    return build(network(4), vae=small_autoencoder(), patch=(1, 1), num_inference_steps=2)


def video_pipeline() -> Any:
    """Clips of four frames 8x8, two blocks of pixels."""
    transformer = tiny_model(in_channels=4, axis_lengths=(4, 4, 4), num_classes=3)
    layout: dict[str, Any] = {"grid": (4, 4, 4), "block": (2, 4, 4), "patch": (1, 2, 2)}
    return quiet(ACDiTVideoPipeline(transformer, default_sampler("flow"), num_inference_steps=2, **layout))


def text_pipeline() -> Any:
    """Texts of twelve bytes, three blocks."""
    text = {"in_channels": None, "vocab_size": BYTES.vocab_size, "axis_lengths": (12,)}
    transformer = tiny_model(**text, num_classes=None, time_conditioning=False)
    scheduler = FirstHittingScheduler(mask_token=BYTES.mask)
    return quiet(ACDiTTextPipeline(transformer, scheduler, BYTES, grid=[12], block=[4]))


PIPELINES = {"images": image_pipeline, "video": video_pipeline, "text": text_pipeline}


def sampled(pipeline: Any) -> Tensor:
    """Samples of a call, always from the same seed: pixels of images and clips, token ids of texts."""
    if isinstance(pipeline, ACDiTTextPipeline):
        return torch.as_tensor(pipeline("ab", generator=seeded(5), output_type="tokens").texts[0])
    output = pipeline([1, 2], generator=seeded(5, 6), output_type="pt", return_dict=False)
    return output[0]
