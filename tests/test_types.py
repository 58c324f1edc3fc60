"""Public functions say what they take and return; `Any` stands only where others give nothing better."""

import ast
from collections.abc import Iterator
from pathlib import Path

import acdit

PACKAGE = Path(acdit.__file__).parent

# Parameters of these names are of others' making, wherever they stand.
OTHERS = {
    "vae": "an autoencoder of diffusers, of any class",
    "scheduler": "a scheduler of diffusers, of any class; its components are checked by name",
    "image": "pictures as callers have them: PIL, NumPy or torch",
    "prefix": "clips as callers have them: PIL, NumPy or torch",
    "kwargs": "what diffusers takes by keyword",
    "args": "what diffusers takes by position",
    "save_directory": "a path as diffusers takes it",
    "pretrained_model_name_or_path": "a path as diffusers takes it",
    "pretrained_model_name_or_path_or_dict": "a path or weights as diffusers takes them",
    "fetching": "what diffusers takes by keyword",
    "network_class": "a class of transformers",
    "config_class": "a class of transformers",
    "common": "values of a configuration of transformers",
    "axes": "a panel of matplotlib, which is imported when it is needed",
    "tokenizer": "None, or a tokeniser of the package, which diffusers does not check",
}
# Functions that may say Any besides, and why.
EXCEPTIONS = {
    "utils.progress_bar.ProgressBar.display ->": "tqdm says None and returns whether something was shown",
    "pipelines.input_images.given_pixels(given)": "pictures as callers have them: PIL, NumPy or torch",
    "pipelines.input_images.square_pixels(given)": "the same",
    "diffusion.timesteps.started ->": "a scheduler of diffusers with more attributes than the protocol has",
    "diffusion.solver_checks.check_first_level(solver)": "the same",
    "pipelines.lora.LoraLoader.lora_state_dict ->": "weights, or weights and metadata, as diffusers has it",
    "pipelines.stored_pipeline.StoredPipeline.__call__ ->": "an output or a tuple, as diffusers has it",
    "pipelines.classification.ACDiTImageClassificationPipeline.__call__ ->": "the same",
    "pipelines.image.ACDiTImagePipeline.__call__ ->": "the same",
    "pipelines.text.ACDiTTextPipeline.__call__ ->": "the same",
    "pipelines.video.ACDiTVideoPipeline.__call__ ->": "the same",
    "diffusion.solver_checks.set_probed_timesteps(solver)": "the same",
    "diffusion.solver_checks.taking_steps(solver)": "the same",
    "evaluation.features.vision_transformer.architecture(config)": "a configuration of transformers",
    "pipelines.hub.fetched_folder(arguments)": "what huggingface_hub takes by keyword",
    "evaluation.external_models.load_vision_network ->": "a network of transformers, of any class",
    "evaluation.external_models.check_size ->": "a configuration of transformers, of any class",
}


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    """Every public function and method of the package, by module and name."""
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        yield from _below(ast.parse(path.read_text()).body, module)


def _below(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _below(node.body, f"{prefix}.{node.name}")
        if isinstance(node, ast.FunctionDef) and (
            not node.name.startswith("_") or node.name in ("__init__", "__call__")
        ):
            yield f"{prefix}.{node.name}", node


def bare_any(annotation: ast.expr | None) -> bool:
    return isinstance(annotation, ast.Name) and annotation.id == "Any"


def parameters(function: ast.FunctionDef) -> list[ast.arg]:
    given = function.args
    starred = [each for each in (given.vararg, given.kwarg) if each is not None]
    return [*given.posonlyargs, *given.args, *given.kwonlyargs, *starred]


def test_every_public_function_is_annotated():
    lacking = [
        f"{name}({parameter.arg})"
        for name, function in functions()
        for parameter in parameters(function)
        if parameter.annotation is None and parameter.arg not in ("self", "cls")
    ]
    lacking += [
        name for name, function in functions() if function.returns is None and function.name != "__init__"
    ]
    assert lacking == []


def test_any_stands_only_for_what_others_give():
    found = {
        f"{name}({parameter.arg})"
        for name, function in functions()
        for parameter in parameters(function)
        if bare_any(parameter.annotation) and parameter.arg not in OTHERS
    }
    found |= {f"{name} ->" for name, function in functions() if bare_any(function.returns)}
    assert found == set(EXCEPTIONS)
