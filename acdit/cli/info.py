"""`acdit info`: print the sizes of a model, its blocks, and the cost of a sample."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from ..model.layout import parse_dims
from ..pipelines.folders import folder_modality, pipeline_folder
from ..utils.references import load_object
from ..utils.settings import quoted_value
from .command import PlainCommand

if TYPE_CHECKING:
    from torch.nn import Module

    from ..modalities.modality import Modality
    from ..model.layout import Layout
    from ..pipelines.block_pipeline import BlockPipeline
    from ..pipelines.classification import ACDiTImageClassificationPipeline

Facts = dict[str, str | int]
MOST_NAMES = 12  # number of classes that the table lists


@dataclass
class InfoOptions:
    """Print parameters, layout, sequence length, FLOPs, cache bytes and class names of a model."""

    section: ClassVar[str] = "--"

    model: str | None = None
    """Pipeline directory, training run, or a model in the package (mnist, moving-digits, shakespeare or
    mnist-classifier); default: mnist."""
    block: str | None = None
    """Block size in tokens, such as 4x4; default: the model's own."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the network, on which the bytes of its weights and of the cache depend."""
    json: bool = False
    """Print JSON instead of a table."""

    def __post_init__(self) -> None:
        if self.block is not None:
            parse_dims(self.block, "--block")


def run(options: InfoOptions) -> None:
    """Print the facts as a table or as JSON."""
    import torch

    from ..pipelines.loading import load_pipeline
    from ..pipelines.stored_pipeline import StoredPipeline

    pipeline = load_pipeline(options.model, getattr(torch, options.dtype), StoredPipeline)
    folder, layout = pipeline_folder(options.model), pipeline.layout
    if options.block is not None:
        layout = layout.with_block(parse_dims(options.block))
    label_names = {index: name for index, name in pipeline.label_names.items() if name}  # "" is no name
    modality = folder_modality(folder)
    list_facts = cast("Callable[[StoredPipeline, Layout, Modality], Facts]", load_object(modality.facts))
    facts: Facts = {"model": str(folder)} | list_facts(pipeline, layout, modality)
    if options.json:
        names = {"class names": label_names} if label_names else {}
        by_key = {name.replace(" ", "_"): value for name, value in (facts | names).items()}
        print(json.dumps(by_key, indent=2))
    else:
        if label_names:
            facts["class names"] = _listed(label_names)
        for name, value in facts.items():
            print(f"{name:26}{f'{value:,}' if isinstance(value, int) else value}")


def _listed(names: dict[int, str]) -> str:
    """Return the numbers and names of classes in one line, as --labels accepts them, without most of many."""
    listed = [f"{index} {quoted_value(name)}" for index, name in sorted(names.items())]
    if len(listed) > MOST_NAMES:
        listed[MOST_NAMES - 1 : -1] = [f"... ({len(listed)} in all, see --json)"]
    return ", ".join(listed)


def weight_bytes(network: "Module") -> int:
    """Return the number of bytes of the weights of a network."""
    return sum(weight.nbytes for weight in network.parameters())


def generator_facts(pipeline: "BlockPipeline", layout: "Layout", modality: "Modality") -> Facts:
    """Return facts about a generator by name, with FLOPs and bytes for one sample in the blocks of a layout.

    Args:
        pipeline: pipeline of the model.
        layout: layout of a sample.
        modality: modality of the model.
    """
    from ..model.generator_counts import generator_counts
    from ..pipelines.stored import guided_by_default

    pipeline.transformer.check_layout(layout)
    counts, what = generator_counts(pipeline.transformer.config), modality.name
    model, itemsize = counts.network, pipeline.transformer.dtype.itemsize
    steps, (name, key) = pipeline.default_steps(layout), modality.vocabulary
    guided = guided_by_default(pipeline.config, pipeline.transformer.config)
    return {
        "parameters": counts.parameters,
        "weight bytes": weight_bytes(pipeline.transformer),
        "layers": model.num_layers,
        "hidden size": model.hidden_size,
        "heads": model.num_heads,
        name: pipeline.transformer.config[key] or 0,
        "layout": str(layout),
        "blocks": layout.num_blocks,
        "sequence length": layout.num_tokens,
        **counts.unusual,
        f"forward FLOPs per {what}": counts.forward_flops(layout),
        f"sampling FLOPs per {what}": counts.sampling_flops(layout, steps, guided=guided),
        f"cache bytes per {what}": counts.cache_bytes(layout, itemsize, guided=guided),
    }


def classifier_facts(
    pipeline: "ACDiTImageClassificationPipeline", layout: "Layout", modality: "Modality"
) -> Facts:
    """Return facts about a classifier by name, with FLOPs for one image in the blocks of a layout.

    Args:
        pipeline: pipeline of the model.
        layout: layout of an image.
        modality: modality of the model.
    """
    from ..model.classifier_flops import (
        ClassifierDimensions,
        classifier_forward_flops,
        classifier_parameters,
    )

    config, (name, key) = pipeline.classifier.config, modality.vocabulary
    model, timestep = ClassifierDimensions.of(config, frozen=False), config["timestep"]
    heads = zip(pipeline.classifier.layers, model.poolings, strict=True)
    return {
        "parameters": classifier_parameters(model),
        "weight bytes": weight_bytes(pipeline.classifier),
        "layers": model.backbone.num_layers,
        "hidden size": model.backbone.hidden_size,
        "heads": model.backbone.num_heads,
        name: config[key],
        "classification heads": ", ".join(f"layer {layer}: {pooling}" for layer, pooling in heads),
        "attention": config["attention"],
        "input": "clean" if timestep is None else f"noised to timestep {timestep:g}",
        "layout": str(layout),
        "blocks": layout.num_blocks,
        "sequence length": layout.num_tokens,
        "forward FLOPs per image": classifier_forward_flops(model, layout),
    }


COMMAND = PlainCommand(
    name="info",
    summary="parameters and cost",
    arguments="[MODEL]",
    example="acdit info runs/mnist --block 2x2",
    options=InfoOptions,
    positional="model",
    run=run,
)
