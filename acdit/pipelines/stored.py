"""Check the files of a stored pipeline before anything is loaded from them. Does not import torch."""

import math
from collections.abc import Callable, Container, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from ..data.autoencoder_files import check_autoencoder
from ..modalities.modality import Modality
from ..utils.checks import is_integer
from ..utils.errors import UserError, in_words
from ..utils.kinds import OBJECT, TEXT, Kind, check_values, list_of, number, whole_number
from ..utils.ranges import MOST_STEPS
from ..utils.untrusted import damage, plain, read_object, shown

INDEX = "model_index.json"
# A model_index.json names the libraries of its components, and loading it imports them.
TRUSTED_LIBRARIES = {"acdit", "diffusers", "transformers"}
NETWORKS = ("transformer", "classifier")  # names of components, which check their own files
MOST_TOKENS = 2**24  # of a layout
LONGEST_LIST = 10_000  # in the configuration of a component
SETTINGS = {  # of pipelines, beside their layout
    "id2label": OBJECT.or_none().if_given(),
    "pixel_range": list_of(number(), range(2, 3)).if_given(),
    "num_inference_steps": whole_number(1, MOST_STEPS).or_none().if_given(),
    "guidance_scale": number().or_none().if_given(),
    "vae_scale_factor": whole_number(1, 2**10).if_given(),
    "data_source": TEXT.or_none().if_given(),
}
MASKED_SCHEDULER = {
    "mask_token": whole_number(0),
    "schedule": TEXT.if_given(),
    "temperature": number(0).if_given(),
    "top_p": number(0).if_given(),
}


def guided_by_default(settings: Mapping[str, Any], network: Mapping[str, Any]) -> bool:
    """Return whether sampling applies classifier-free guidance unless the call says otherwise.

    Args:
        settings: settings of the pipeline, by name; without a guidance scale, the default of the class holds.
        network: configuration of its network.
    """
    return bool(network.get("num_classes")) and settings.get("guidance_scale") != 1


def check_parts(
    folder: Path, index: Mapping[str, Any], given: Container[str] = (), variant: str | None = None
) -> None:
    """Check the components that a model_index.json names: libraries, classes, files and configurations.

    Args:
        folder: folder of the pipeline.
        index: content of its model_index.json.
        given: names of components that are not read from the folder.
        variant: variant of the weights that are read, where a component has it, such as `fp16`.

    Raises:
        UserError: if a component is damaged or incomplete, or if its library must not be imported.
    """
    parts = {
        name: value
        for name, value in index.items()
        if name[:1] != "_" and name not in given and _names_class(value)
    }
    unknown = {value[0] for value in parts.values()} - TRUSTED_LIBRARIES
    if unknown:
        raise UserError(
            f"{folder / INDEX} needs code of {', '.join(sorted(unknown))}, but acdit only loads code of "
            f"{', '.join(sorted(TRUSTED_LIBRARIES))}: use another model"
        )
    for part, named in parts.items():
        if part in ("", ".", "..") or set(part) & {"/", "\\", "\0"}:
            raise damage(folder / INDEX, f"it names a component {part!r}, which is not a plain name")
        scheduler = part == "scheduler"
        for pattern in ["scheduler_config.json"] if scheduler else ["config.json", "*.safetensors"]:
            if not list((folder / part).glob(pattern)):
                raise UserError(
                    f"{folder} is incomplete: it has no {part}/{pattern}; copy or export the model again"
                )
        path = folder / part / ("scheduler_config.json" if scheduler else "config.json")
        config = read_object(path, infinite=True)
        stored = config.get("_class_name", named[1])
        if stored != named[1]:
            raise damage(folder, f"{INDEX} names {named[1]} for {part}, but {part} is a {plain(stored)}")
        if part not in NETWORKS:
            _check_config(path, config)
        if scheduler and named[0] == "acdit":
            check_values(config, MASKED_SCHEDULER, path)
        if part == "vae":
            has_variant = variant is not None and any((folder / part).glob(f"*.{variant}.*"))
            check_autoencoder(folder / part, config, variant if has_variant else None)


def check_index(
    path: Path, index: Mapping[str, Any], modality: Modality, network: Mapping[str, Any] | None
) -> None:
    """Check the values in a model_index.json.

    Args:
        path: path of the file.
        index: content of the file.
        modality: modality of the pipeline.
        network: configuration of the pipeline's network; None = not compared.

    Raises:
        UserError: if a value is of another kind, or absurdly large.
    """
    axes, name = modality.axes, modality.network[0]
    classes = [["acdit", network_class] for network_class in modality.network_classes]
    lengths = list_of(whole_number(1, MOST_TOKENS), range(axes, axes + 1))
    kinds = {
        name: Kind(in_words(map(str, classes), "or"), lambda value: value in classes),
        "vae": Kind("an autoencoder of diffusers, or two nulls", _names_autoencoder).if_given(),
        "grid": lengths,
        "block": lengths,
        "patch": list_of(whole_number(1, 2**16), range(axes, axes + 1)).if_given(),
        "format_version": whole_number(0).if_given(),
    }
    if modality.runs("sample"):
        kinds["scheduler"] = Kind("a scheduler of diffusers or acdit", _names_scheduler)
    values = check_values(dict(index), kinds, path)
    if math.prod(values["grid"]) > MOST_TOKENS:
        raise damage(path, f"grid must have at most {MOST_TOKENS:,} tokens, not {values['grid']}")
    number = None if network is None else network.get("num_labels", network.get("num_classes"))
    check_settings(values, lambda reason: damage(path, reason), number if type(number) is int else None)
    if network is not None:
        _check_fit(path.parent, values, modality, network)


def _check_fit(
    folder: Path, index: Mapping[str, Any], modality: Modality, network: Mapping[str, Any]
) -> None:
    """Raise UserError unless a pipeline's layout is one of its network."""
    sizes, lengths = network.get(modality.values_key), network.get("axis_lengths")
    patch = math.prod(index.get("patch") or [1])
    if type(sizes) is not int or sizes % patch:
        raise damage(
            folder,
            f"a model of {modality.many} needs {modality.values_key} of a multiple of {patch} in "
            f"{modality.network[0]}/config.json, not {shown(sizes)}",
        )
    if not isinstance(lengths, list) or len(lengths) != modality.axes:
        raise damage(
            folder, f"axis_lengths of {modality.network[0]}/config.json must be {modality.axes} numbers"
        )


def checked_settings(classes: int | None = None, **settings: object) -> dict[str, object]:
    """Return the settings of a pipeline as its files hold them, after `check_settings`.

    Numbers of NumPy become those of Python, and a tuple or list a tuple.

    Args:
        classes: number of classes of the network; None = not compared.
        settings: values by name.

    Raises:
        UserError: see `check_settings`.
    """
    values = {key: _plain_number(value) for key, value in settings.items()}
    lists = {key: list(value) for key, value in values.items() if isinstance(value, tuple | list)}
    check_settings(values | lists, classes=classes)
    return values | {key: tuple(value) for key, value in lists.items()}


def _plain_number(value: object) -> object:
    """Return a number of NumPy as one of Python, and everything else as it is."""
    if is_integer(value):
        return int(value)
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else value


def check_settings(
    settings: Mapping[str, Any], refuse: Callable[[str], UserError] = UserError, classes: int | None = None
) -> None:
    """Check the settings of a pipeline that a model_index.json holds beside its parts and layout.

    Args:
        settings: values by name.
        refuse: function that returns the error for a reason.
        classes: number of classes of the network; None = not compared.

    Raises:
        UserError: if a value is of another kind, out of range, or for a class that the network does not have.
    """
    for key, kind in SETTINGS.items():
        if key in settings and not kind.accepts(settings[key]):
            raise refuse(f"{key} must be {kind.described}, not {shown(settings[key])}")
    for label, name in (settings.get("id2label") or {}).items():
        if not (label.isascii() and label.isdigit() and len(label) < 10) or not isinstance(name, str | None):
            raise refuse(
                f"id2label must give numbers of classes their names, not {shown(label)}: {shown(name)}"
            )
        if classes is not None and int(label) >= classes:
            raise refuse(f"id2label names class {label}, but the network has {classes} classes")
    low, high = settings.get("pixel_range", (-1, 1))
    if not low < high:
        raise refuse(f"pixel_range must rise, not be {low} to {high}")


def _check_config(path: Path, config: Mapping[str, Any]) -> None:
    """Raise UserError if a component's configuration holds an absurdly large number or list."""
    for key, value in config.items():
        values = value if isinstance(value, list) else [value]
        if len(values) > LONGEST_LIST:
            raise damage(path, f"{key} must have at most {LONGEST_LIST:,} values, not {len(values):,}")
        if any(type(each) is int and abs(each) > MOST_STEPS for each in values):
            raise damage(path, f"{key} must be at most {MOST_STEPS:,}")


def _names_class(value: Any) -> bool:
    """Return whether a value of a model_index.json is a library and a class."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(word, str) and word.isidentifier() for word in value)
    )


def _names_scheduler(value: Any) -> bool:
    return _names_class(value) and value[0] in ("acdit", "diffusers")


def _names_autoencoder(value: Any) -> bool:
    return value == [None, None] or (_names_class(value) and value[0] == "diffusers")
