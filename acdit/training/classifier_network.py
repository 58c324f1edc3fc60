"""Build the network of a classifier: new, or with the weights of a generator or of another classifier."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from ..data.dataset import LabelledDataset
from ..diffusion.schedulers import SOLVER_TARGETS
from ..model.classifier import BACKBONE, ACDiTForImageClassification
from ..model.layout import Layout
from ..pipelines.classification import ACDiTImageClassificationPipeline
from ..pipelines.folders import folder_modality, network_class_name, pipeline_folder
from ..pipelines.image import ACDiTImagePipeline
from ..pipelines.loading import load_pipeline
from ..utils.errors import UserError
from ..utils.names import NAMELESS
from .build import check_tokens, network_size, token_values
from .config import Recipe

Report = Callable[[str], None]


def build_classifier(
    recipe: Recipe,
    layout: Layout,
    data: LabelledDataset,
    stored: dict[str, Any] | None = None,
    report: Report | None = None,
) -> ACDiTForImageClassification:
    """Build the classifier of a run, or a frozen network with probes; see `build_model`.

    The backbone has the weights of `training.init_from` if the recipe names it. The heads are new, except
    that those of a classifier with the same heads and classes are kept.

    Args:
        recipe: Recipe of the run.
        layout: Layout of the network.
        data: Data that the network is trained on.
        stored: Config of the network of a resumed run.
        report: Function that is called with a description of what was taken over.

    Raises:
        UserError: If the recipe does not fit the data or `init_from`.
    """
    check_classes(data.label_names, recipe.data.source)
    if stored is not None:
        network = cast(ACDiTForImageClassification, ACDiTForImageClassification.from_config(stored))
    elif recipe.training.init_from is not None:
        network = _from_trained(recipe, recipe.training.init_from, layout, data, report)
    else:
        network = ACDiTForImageClassification(
            num_labels=len(data.label_names),
            axis_lengths=layout.grid,
            **new_backbone(recipe, token_values(data, layout)),
            **head_settings(recipe, network_size(recipe.model)._asdict()),
        )
    if recipe.classifier.probe != "none":
        network.transformer.requires_grad_(False)
    return network


def check_classes(label_names: Sequence[str], source: str) -> None:
    """Raise UserError if there are no classes to tell apart."""
    if len(label_names) < 2 or tuple(label_names) == NAMELESS:
        count = "none" if tuple(label_names) in ((), NAMELESS) else "one"
        raise UserError(
            f"classification needs at least two classes, but {source} has {count}: use a folder with one "
            "sub-folder per class"
        )


def new_backbone(recipe: Recipe, values: int) -> dict[str, Any]:
    """Return the arguments of a new network that describe its backbone, but not the heads.

    Args:
        recipe: Recipe of the run.
        values: Number of values of a token.
    """
    return {
        "in_channels": values,
        **network_size(recipe.model)._asdict(),
        "positions": recipe.model.positions,
        "prediction_type": SOLVER_TARGETS[recipe.diffusion.prediction],
    }


def head_settings(recipe: Recipe, backbone: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of the network that describe its input and heads.

    Probes are heads at the embedded tokens and at every layer; if there are both kinds, the linear ones come
    first.

    Args:
        recipe: Recipe of the run.
        backbone: Arguments of the network with `num_layers` and `hidden_size`.

    Raises:
        UserError: If the queries do not divide the hidden size.
    """
    config = recipe.classifier
    poolings = {"linear": ["mean"], "attention": ["attention"], "both": ["mean", "attention"]}
    kinds = poolings.get(config.probe, [config.pooling])
    if "attention" in kinds and backbone["hidden_size"] % config.queries:
        raise UserError(
            f"classifier.queries must divide the hidden size {backbone['hidden_size']}; {config.queries} "
            "does not"
        )
    settings: dict[str, Any] = {
        "pooling": config.pooling,
        "queries": config.queries,
        "attention": config.attention,
        "timestep": config.timestep,
    }
    if config.probe != "none":
        depths = range(backbone["num_layers"] + 1)
        settings["layers"] = [depth for _ in kinds for depth in depths]
        settings["pooling"] = [kind for kind in kinds for _ in depths]
    return settings


def check_source(source: str) -> str:
    """Return the name of the modality of `init_from`: `image` or `classification`.

    Raises:
        UserError: If it is a model of another modality.
    """
    folder = pipeline_folder(source)
    modality = folder_modality(folder)
    if network_class_name(folder) == "CausalTokenDiffusion":
        raise UserError(
            f"training.init_from {source} is a model of model.kind token-head, but a classifier needs one of "
            "model.kind acdit"
        )
    if modality.name not in ("image", "classification"):
        raise UserError(
            f"training.init_from {source} is a model of {modality.many}, but a classifier of images needs "
            "the network of a generator or classifier of images"
        )
    return modality.name


def check_start(recipe: Recipe, source: str, config: Mapping[str, Any]) -> None:
    """Raise UserError unless the network of `init_from` takes the input of the recipe's classifier.

    Args:
        recipe: Recipe of the run.
        source: Value of `training.init_from`.
        config: Config of that network, a generator of images or a classifier.
    """
    if config.get("context", "clean") != "clean":
        raise UserError(
            f"training.init_from {source} has a network with {config['context']} context, but a classifier "
            "needs a generator that has learned from clean blocks: leave out its model.context"
        )
    if "num_labels" in config:  # a classifier has time conditioning if it reads noised input
        timed = config["timestep"] is not None
    else:
        timed = config.get("time_conditioning", True)
    if recipe.classifier.timestep is not None and not timed:
        raise UserError(
            f"classifier.timestep {recipe.classifier.timestep:g} needs a network with time conditioning, "
            f"which training.init_from {source} does not have: leave it out"
        )


def _from_trained(
    recipe: Recipe, source: str, layout: Layout, data: LabelledDataset, report: Report | None
) -> ACDiTForImageClassification:
    """Return a classifier with the weights of a trained pipeline."""
    classes = len(data.label_names)
    if check_source(source) == "image":
        pipeline = load_pipeline(source, kind=ACDiTImagePipeline)
        low, high = pipeline.config["pixel_range"]
        if (low, high) != (-1, 1):
            raise UserError(
                f"training.init_from {source} was trained on values from {low:g} to {high:g}, but training "
                "reads values from -1 to 1"
            )
        generator = pipeline.transformer
        check_tokens(source, generator.config, token_values(data, layout))
        check_start(recipe, source, generator.config)
        settings = head_settings(recipe, dict(generator.config))
        network = ACDiTForImageClassification.from_generator(generator, classes, **settings)
        if network.config["prediction_type"] is None:
            network.register_to_config(prediction_type=SOLVER_TARGETS[recipe.diffusion.prediction])
        _say(report, source, f"the weights of the generator, with new heads for {classes} classes")
        return network
    pipeline = load_pipeline(source, kind=ACDiTImageClassificationPipeline)
    trained = pipeline.classifier
    check_tokens(source, trained.config | {"vocab_size": None}, token_values(data, layout))
    check_start(recipe, source, trained.config)
    backbone = {key: trained.config[key] for key in BACKBONE}
    backbone["num_layers"] = len(trained.blocks)
    null_label = recipe.classifier.timestep is not None and trained.config["null_label"]
    network = ACDiTForImageClassification(
        num_labels=classes, **backbone, **head_settings(recipe, backbone), null_label=null_label
    )
    network.load_backbone(trained.transformer.state_dict())
    heads, own = trained.heads.state_dict(), network.heads.state_dict()
    shapes, own_shapes = ({name: tensor.shape for name, tensor in part.items()} for part in (heads, own))
    poolings, own_poolings = ([head.pooling for head in each.heads] for each in (trained, network))
    same_heads = (shapes, trained.layers, poolings) == (own_shapes, network.layers, own_poolings)
    if same_heads and pipeline.class_names == list(data.label_names):
        network.heads.load_state_dict(heads)
        _say(report, source, "all weights, since classes and heads are the same")
    else:
        _say(report, source, f"the weights of the classifier's layers, with new heads for {classes} classes")
    return network


def _say(report: Report | None, source: str, what: str) -> None:
    if report is not None:
        report(f"training.init_from {source}: {what}")
