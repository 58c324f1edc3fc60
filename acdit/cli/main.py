"""The command `acdit`: parse, then call. Torch loads only when a command runs."""

import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

from .. import __version__
from ..modalities.table import MODALITIES
from ..pipelines.folders import DEFAULT
from ..training.autoencoder_config import AutoencoderRecipe
from ..training.config import NamedRun, Recipe
from ..training.recipes import recipe_names, recipe_to_yaml, recipe_values
from ..utils.errors import UserError
from ..utils.heap import keep_freed_memory
from ..utils.settings import build, help_text, nearest, read_arguments
from .bench_options import BenchOptions
from .modality_options import COMMANDS, UNSET, choose_modality, option_class
from .options import ConvertOptions, CurvesOptions, DoctorOptions, InfoOptions, TokenizerOptions
from .recipe_options import AutoencoderOptions, EncodeOptions, PlanOptions, TrainOptions
from .study_options import StudyOptions

PACKAGE = Path(__file__).parents[1]
HELP = """usage: acdit COMMAND [--key value ...]

ACDiT: autoregressive blocks of conditional diffusion transformers.

commands:
  train RECIPE        train a model          acdit train mnist --training.steps 1000
  plan RECIPE         cost and pitfalls      acdit plan imagenet256-xl --ranks 256
  autoencoder RECIPE  learn a latent space   acdit autoencoder mnist
  encode RECIPE       latents to train on    acdit encode imagenet256-xl --data.source FOLDER
  tokenizer TEXTS     tokens to train on     acdit tokenizer shakespeare --size 1024 --out bpe.json
  sample              draw, or write         acdit sample --labels 3,1,4 --block 4x4 --out digits.png
  evaluate            score a model          acdit evaluate --model runs/mnist --out scores.json
  info [MODEL]        parameters and cost    acdit info runs/mnist --block 2x2
  curves RUN ...      curves of runs         acdit curves runs/a runs/b --out curves.png
  convert FILE        published weights      acdit convert ACDiT-XL-img.pt --out models/xl --vae NAME
  bench [WORK]        how fast, and why not  acdit bench train --layout 32x32/16x16 --json bench.json
  study NAME          compare at a cost      acdit study sampling --out out/study
  doctor              what this machine has  acdit doctor

Without --model, a command takes the small model of MNIST digits that comes with the package.
`acdit COMMAND --help` lists a command's options; `acdit --version` prints the version.
"""
POSITIONALS = {
    "info": "model",
    "curves": "runs",
    "convert": "source",
    "bench": "work",
    "study": "name",
    "tokenizer": "source",
}
OPTIONS = {
    "info": InfoOptions,
    "curves": CurvesOptions,
    "convert": ConvertOptions,
    "bench": BenchOptions,
    "study": StudyOptions,
    "doctor": DoctorOptions,
    "tokenizer": TokenizerOptions,
}
USAGE = {
    "info": " [MODEL]",
    "curves": " RUN ...",
    "convert": " SOURCE --out PATH",
    "bench": " [WORK]",
    "study": " NAME",
    "tokenizer": " TEXTS",
}
RECIPES: dict[str, type[NamedRun]] = {
    "train": TrainOptions,
    "plan": PlanOptions,
    "encode": EncodeOptions,
    "autoencoder": AutoencoderOptions,
}
EXAMPLES = {
    "train": "acdit train mnist --training.steps 1000 --layout.blocks 4x4,2x2 --print_config",
    "plan": "acdit plan imagenet256-xl --ranks 256 --flops 4e14 --training.gradient_checkpointing",
    "autoencoder": "acdit autoencoder mnist --steps 1000 --model.channels 16,32,64",
    "encode": "acdit encode imagenet256-xl --data.source FOLDER --batch 64 --device cuda",
    "info": "acdit info runs/mnist --block 2x2",
    "curves": "acdit curves runs/mnist runs/other --smooth 0.99 --out curves.png",
    "convert": "acdit convert ACDiT-XL-img.pt --out models/xl --vae stabilityai/sd-vae-ft-ema",
    "bench": "acdit bench --rows train-4,sample-16 --json bench.json\n"
    "  acdit bench train --layout 16x16/8x8,32x32/16x16 --layers 2 --plot bench.png",
    "study": "acdit study sampling --samples 500 --seeds 3 --out out/study",
    "doctor": "acdit doctor --device cuda",
    "tokenizer": "acdit tokenizer shakespeare --size 1024 --out bpe.json",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command: 0 when done, 2 after one line on stderr about what the user can mend; bugs raise."""
    keep_freed_memory()
    try:
        _run(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        print("acdit: interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        if not isinstance(error, UserError | OSError) and not _raised_here(error):
            raise
        print(f"acdit: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _run(argv: Sequence[str]) -> None:
    command, *rest = argv or ["--help"]
    if command in ("--help", "-h"):
        print(HELP, end="")
    elif command == "--version":
        print(__version__)
    elif command in RECIPES:
        _run_recipe(command, rest)
    elif command in COMMANDS:
        _run_by_modality(command, rest)
    elif command in OPTIONS:
        _run_plain(command, rest)
    else:
        close = nearest(command, [*RECIPES, *COMMANDS, *OPTIONS])[0]
        raise UserError(f"unknown command {command!r}; did you mean {close}? `acdit --help` lists all")


def _run_recipe(command: str, argv: list[str]) -> None:
    if command == "train" and "--dry-run" in argv:
        command, argv = "plan", [word for word in argv if word != "--dry-run"]
    options = RECIPES[command]
    kind = AutoencoderRecipe if issubclass(options, AutoencoderRecipe) else Recipe
    recipes = ", ".join(recipe_names(kind))
    named = bool(argv) and not argv[0].startswith("-")
    if "--help" in argv or "-h" in argv:
        defaults = build(options, recipe_values(argv[0], kind)) if named else None
        usage = f"acdit {command} {argv[0] if named else 'RECIPE'}"
        listed = fill(f"recipes: {recipes}", 100, break_on_hyphens=False)
        print(help_text(options, usage, f"{EXAMPLES[command]}\n\n{listed}", defaults), end="")
        return
    if not named:
        raise UserError(f"{command} needs a recipe first: {recipes} or the path of a YAML file")
    printing = {"--print_config", "--print-config"}
    overrides = read_arguments(options, [word for word in argv[1:] if word not in printing])
    recipe = build(options, recipe_values(argv[0], kind) | overrides)
    if printing & set(argv):
        print(recipe_to_yaml(recipe), end="")
        return
    from ..cli import commands

    getattr(commands, command)(recipe)


def _run_by_modality(command: str, argv: list[str]) -> None:
    """Run a command whose options depend on the modality of the model."""
    if "--help" in argv or "-h" in argv:
        _help_by_modality(command, [word for word in argv if word not in ("--help", "-h")])
        return
    modality, words = choose_modality(command, argv)
    options = option_class(command, modality)
    values = read_arguments(options, words)
    if values.get("model") in (None, *UNSET) and modality.model != MODALITIES[DEFAULT].model:
        values["model"] = modality.model
    parsed = build(options, values)
    from ..cli import commands

    getattr(commands, command)(modality, parsed)


def _help_by_modality(command: str, argv: list[str]) -> None:
    """Print the options for models of the modality that other words tell, if they tell one."""
    try:
        modality, _ = choose_modality(command, argv)
    except UserError:
        modality = MODALITIES[DEFAULT]
    more = "\n".join(
        f"with a model of {each.many}: acdit {command} --model {each.model} --help"
        for each in MODALITIES.values()
        if each is not modality
    )
    options = option_class(command, modality)
    print(help_text(options, f"acdit {command}", f"{options.example}\n\n{more}"), end="")


def _run_plain(command: str, argv: list[str]) -> None:
    options, positional = OPTIONS[command], POSITIONALS.get(command)
    if "--help" in argv or "-h" in argv:
        usage = f"acdit {command}" + USAGE.get(command, "")
        print(help_text(options, usage, EXAMPLES[command]), end="")
        return
    parsed = build(options, read_arguments(options, argv, positional))
    from ..cli import commands

    getattr(commands, command)(parsed)


def _raised_here(error: ValueError) -> bool:
    """Whether a check of this package raised the error, and not a library that it called."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and Path(trace.tb_frame.f_code.co_filename).is_relative_to(PACKAGE)
