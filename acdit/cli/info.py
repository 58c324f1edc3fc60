"""What `acdit info` says of a model: its sizes, its blocks, and what it costs to draw with it."""

from typing import Any

from ..model.flops import Dimensions, cache_bytes, forward_flops, parameters, sampling_flops
from ..model.layout import Layout
from ..pipelines.text import ACDiTTextPipeline


def model_facts(pipeline: Any, layout: Layout) -> dict[str, str | int]:
    """Names and values: FLOPs and bytes for one image, video or text, cut into the blocks of `layout`."""
    model = Dimensions.of(pipeline.transformer.config)
    texts = isinstance(pipeline, ACDiTTextPipeline)
    what = {1: "text", 2: "image", 3: "video"}[layout.axes]
    asked = pipeline.config["num_inference_steps"] or layout.block_tokens
    steps = [min(asked, layout.block_tokens) if texts else asked] * layout.num_blocks
    kinds = {"vocabulary": model.in_channels} if texts else {"classes": model.num_classes or 0}
    return {
        "parameters": parameters(model),
        "layers": model.num_layers,
        "hidden size": model.hidden_size,
        "heads": model.num_heads,
        **kinds,
        "layout": str(layout),
        "blocks": layout.num_blocks,
        "sequence length": layout.num_tokens,
        f"forward FLOPs per {what}": forward_flops(model, layout),
        f"sampling FLOPs per {what}": sampling_flops(model, layout, steps, guided=not texts),
        f"cache bytes per {what}": cache_bytes(model, layout, pipeline.transformer.dtype.itemsize),
    }
