"""Plans of sets of samples: the settings that the images depend on, and the class of every image."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..diffusion.generate import steps_per_block
from ..model.layout import dims
from ..pipelines.image import ACDiTImagePipeline
from ..utils.errors import UserError
from ..utils.files import model_digest
from ..utils.randomness import seed_of
from .batches import Sampling

FORMAT_VERSION = 1
NULLS = ("prompt", "max_new_tokens", "temperature", "top_p")  # keys of the format that have no meaning here


@dataclass(frozen=True)
class SetPlan:
    """Contents of a set of samples.

    Attributes:
        count: number of images.
        sampling: settings of sampling; the seed of image i is that of the first plus i.
        labels: classes by number or name; None = all, [None] = no class.
        balanced: whether the images take the classes in turn; otherwise a class is drawn from each image's
            seed.
        block: tokens of a block, (h, w); None = the pipeline's default.
        guidance_rising: whether guidance rises over the blocks.
    """

    count: int
    sampling: Sampling
    labels: Sequence[int | str | None] | None = None
    balanced: bool = False
    block: Sequence[int] | None = None
    guidance_rising: bool = False


def set_settings(pipeline: ACDiTImagePipeline, model: Path, plan: SetPlan) -> dict[str, Any]:
    """Return all settings that the images depend on, as JSON values, with the model's defaults filled in."""
    layout = pipeline.layout if plan.block is None else pipeline.layout.with_block(plan.block)
    sampling, vae = plan.sampling, pipeline.vae
    steps = pipeline.config["num_inference_steps"] if sampling.steps is None else sampling.steps
    settings = {
        "seed": sampling.seed,
        "device": pipeline.device.type,
        "dtype": str(pipeline.transformer.dtype).removeprefix("torch."),
        "batch": sampling.batch,
        "steps": steps_per_block(steps, layout.num_blocks),
        "guidance": sampling.scale(pipeline),
        "guidance_interval": sampling.guidance_interval,
        "vae_slicing": bool(getattr(vae, "use_slicing", False)),
        "vae_tiling": bool(getattr(vae, "use_tiling", False)),
        **dict.fromkeys(NULLS),
        "labels": None if plan.labels is None else pipeline.label_ids(plan.labels),
        "count": plan.count,
        "balanced": plan.balanced,
        "guidance_rising": plan.guidance_rising,
        "block": dims(layout.block),
        "format_version": FORMAT_VERSION,
        "weights": model_digest(model),
    }
    return json.loads(json.dumps(settings))


def image_labels(settings: dict[str, Any], num_classes: int) -> list[int] | None:
    """Return the class of every image, in turn or drawn from its seed; None for images without classes."""
    classes = settings["labels"] or range(num_classes)
    if classes == [None]:
        return None
    if not classes:
        if settings["balanced"]:
            raise UserError("--balanced needs a model with classes, and this model has none")
        return None
    positions = range(settings["count"])
    if not settings["balanced"]:
        positions = [seed_of(settings["seed"] + image, "label") for image in positions]
    return [classes[position % len(classes)] for position in positions]
