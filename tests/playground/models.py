"""Folders of tiny models for the page."""

from pathlib import Path
from typing import Any

import torch

from acdit.diffusion.schedulers import default_sampler
from acdit.pipelines.video import ACDiTVideoPipeline
from tests.pipelines.small import NAMES, build, build_classifier, build_text, network, quiet
from tests.tiny import tiny_model


def save_models(folder: Path) -> dict[str, Path]:
    """Save a model of each modality, and return their folders by the names that they have on the page."""
    text = build_text()
    with torch.no_grad():
        text.transformer.final_layer.linear.bias[32:127] += 6  # mostly readable
    pipelines = {
        "picture": build(network(12)),
        "recogniser": build_classifier(3),
        "clip": build_video(),
        "letters": text,
    }
    for name, pipeline in pipelines.items():
        pipeline.save_pretrained(folder / name)
    return {name: folder / name for name in pipelines}


def build_video(**config: Any) -> ACDiTVideoPipeline:
    """A pipeline of clips of 4 frames of 8x8 pixels, in blocks of a frame; `config` is the network's."""
    transformer = tiny_model(in_channels=4, axis_lengths=(4, 4, 4), num_classes=3, **config)
    sizes: dict[str, Any] = {"grid": (4, 4, 4), "block": (1, 4, 4), "patch": (1, 2, 2)}
    return quiet(
        ACDiTVideoPipeline(
            transformer, default_sampler("flow"), **sizes, id2label=NAMES, num_inference_steps=2
        )
    )
