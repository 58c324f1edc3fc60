"""What `acdit info` says of a model: its sizes, its blocks, and what it costs to draw with it."""

from ..modalities.modality import Modality
from ..model.flops import Dimensions, cache_bytes, forward_flops, parameters, sampling_flops
from ..model.layout import Layout
from ..pipelines.block_pipeline import BlockPipeline


def model_facts(pipeline: BlockPipeline, layout: Layout, modality: Modality) -> dict[str, str | int]:
    """Return names and values: FLOPs and bytes for one sample, cut into the blocks of a layout.

    Args:
        pipeline: of the model.
        layout: of the samples.
        modality: of the model.
    """
    model, what = Dimensions.of(pipeline.transformer.config), modality.name
    steps, (name, key) = pipeline.default_steps(layout), modality.vocabulary
    return {
        "parameters": parameters(model),
        "layers": model.num_layers,
        "hidden size": model.hidden_size,
        "heads": model.num_heads,
        name: pipeline.transformer.config[key] or 0,
        "layout": str(layout),
        "blocks": layout.num_blocks,
        "sequence length": layout.num_tokens,
        f"forward FLOPs per {what}": forward_flops(model, layout),
        f"sampling FLOPs per {what}": sampling_flops(model, layout, steps, guided=modality.guided),
        f"cache bytes per {what}": cache_bytes(model, layout, pipeline.transformer.dtype.itemsize),
    }
