"""Commands that parse their arguments, show their help and run. Does not import torch."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

from ..modalities.table import MODALITIES
from ..pipelines.folders import DEFAULT
from ..training.config import NamedRun
from ..training.recipes import RECIPE_PATHS, recipe_names, recipe_to_yaml, recipe_values
from ..utils.errors import UserError, renamed_keys
from ..utils.help_format import help_text, wrapped
from ..utils.references import load_object
from ..utils.settings import build, read_arguments
from .modality_options import UNSET, choose_modality, modalities_of, option_class
from .model_options import ModelOptions

Options = TypeVar("Options")
R = TypeVar("R", bound=NamedRun)
PRINTING = {"--print_config", "--print-config"}


@dataclass(frozen=True, kw_only=True)
class Command(ABC):
    """Command: one entry in the table of `acdit.cli.main`.

    Attributes:
        name: name that the user types.
        summary: description in a few words.
        arguments: text that follows the name in the usage line, such as "[MODEL]".
        example: one or more command lines.
        brief: short example for the overview; default: the first line of `example`.
        keys: keys of recipes that messages may name, and what stands for each among the options; see
            `renamed_keys`.
    """

    name: str
    summary: str
    arguments: str = ""
    example: str
    brief: str = ""
    keys: Mapping[str, str] = field(default_factory=dict[str, str])

    @abstractmethod
    def main(self, argv: list[str]) -> None:
        """Parse the arguments after the command's name, and run the command."""

    @abstractmethod
    def help(self, argv: list[str]) -> str:
        """Return the help, given the arguments other than --help."""

    @abstractmethod
    def option_classes(self) -> list[type]:
        """Return the dataclasses whose fields are the options of the command."""


@dataclass(frozen=True, kw_only=True)
class PlainCommand(Command, Generic[Options]):
    """Command whose options are the fields of a dataclass.

    Attributes:
        options: dataclass of the options.
        positional: name of the option that may be given without a key.
        run: function that runs the command.
    """

    options: type[Options]
    positional: str | None = None
    run: Callable[[Options], None]

    def main(self, argv: list[str]) -> None:
        """Parse the arguments, and run the command."""
        options = build(self.options, read_arguments(self.options, argv, self.positional))
        with renamed_keys(self.keys):
            self.run(options)

    def help(self, argv: list[str]) -> str:
        """Return the help, regardless of the arguments."""
        del argv
        return help_text(self.options, f"acdit {self.name} {self.arguments}".rstrip(), self.example)

    def option_classes(self) -> list[type]:
        """Return the dataclass of the options."""
        return [self.options]


@dataclass(frozen=True, kw_only=True)
class RecipeCommand(Command, Generic[R]):
    """Command that starts from a recipe; its options are the values of the recipe and options of its own.

    Attributes:
        kind: class of the recipe.
        options: subclass of the recipe with the options of the command.
        run: function that runs the command.
    """

    kind: type[NamedRun]
    options: type[R]
    run: Callable[[R], None]

    def main(self, argv: list[str]) -> None:
        """Build the recipe from the arguments, and run the command or print the recipe."""
        recipes = ", ".join(recipe_names(self.kind))
        if not argv or argv[0].startswith("-"):
            raise UserError(
                f"{self.name} needs a recipe first: {recipes}, or the path of {RECIPE_PATHS[self.kind]}"
            )
        overrides = read_arguments(self.options, [word for word in argv[1:] if word not in PRINTING])
        recipe = build(self.options, recipe_values(argv[0], self.kind) | overrides)
        if PRINTING & set(argv):
            print(recipe_to_yaml(recipe), end="")
        else:
            self.run(recipe)

    def help(self, argv: list[str]) -> str:
        """Return the help, with the defaults of a recipe if the arguments name one."""
        named = bool(argv) and not argv[0].startswith("-")
        defaults = build(self.options, recipe_values(argv[0], self.kind)) if named else None
        listed = wrapped(f"recipes: {', '.join(recipe_names(self.kind))}")
        usage = f"acdit {self.name} {argv[0] if named else 'RECIPE'}"
        return help_text(self.options, usage, f"{self.example}\n\n{listed}", defaults)

    def option_classes(self) -> list[type]:
        """Return the dataclass of the options."""
        return [self.options]


def run_import_string(import_string: str, options: ModelOptions) -> None:
    """Import the function that an import string names, and call it with the options."""
    cast(Callable[[ModelOptions], None], load_object(import_string))(options)


@dataclass(frozen=True, kw_only=True)
class ModalityCommand(Command):
    """Command whose options depend on the modality of the model.

    Each `Modality` holds the import string of the function that runs the command, under the command's name.

    Attributes:
        run: function that is called with that import string and the options.
    """

    run: Callable[[str, ModelOptions], None] = run_import_string

    def main(self, argv: list[str]) -> None:
        """Choose the modality, parse the arguments with its options, and run the command."""
        modality, words = choose_modality(self.name, argv)
        options = option_class(self.name, modality)
        values = read_arguments(options, words)
        if values.get("model") in (None, *UNSET) and options.needs_model(values):
            values["model"] = modality.model
        built = build(options, values)
        with renamed_keys(self.keys):
            self.run(getattr(modality, self.name), built)

    def help(self, argv: list[str]) -> str:
        """Return the help for models of the modality that the arguments name or imply."""
        try:
            modality, _ = choose_modality(self.name, argv)
        except UserError:
            modality = MODALITIES[DEFAULT]
        more = "\n".join(
            f"with a model of {each.many}: acdit {self.name} --model {each.model} --help"
            for each in modalities_of(self.name)
            if each is not modality
        )
        options = option_class(self.name, modality)
        return help_text(options, f"acdit {self.name}", f"{options.example}\n\n{more}")

    def option_classes(self) -> list[type]:
        """Return the dataclasses of the options, one for each modality."""
        return [option_class(self.name, modality) for modality in modalities_of(self.name)]
