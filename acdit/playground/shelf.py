"""The models that the page offers, by name; each is loaded when it is first used."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar, cast

import torch

from ..modalities.classification import CLASSIFICATION
from ..pipelines.folders import SHIPPED, pipeline_folder, shipped_models
from ..pipelines.loading import load_pipeline
from ..pipelines.stored_pipeline import StoredPipeline
from ..utils.errors import UserError
from ..utils.untrusted import shown
from .cards import Card, read_card
from .jobs import Job
from .refusals import Refusal
from .snippets import Machine

P = TypeVar("P", bound=StoredPipeline)
CPU = torch.device("cpu")


class Shelf:
    """The models of the package and of given folders, by their names on the page.

    Args:
        folders: folders of pipelines or of training runs.
        device: device of the models.
        dtype: precision of the networks.

    Raises:
        UserError: if a folder is not that of a model.
    """

    def __init__(
        self, folders: Sequence[str], device: torch.device = CPU, dtype: torch.dtype = torch.float32
    ):
        self.machine = Machine(device, dtype)
        self.cards: dict[str, Card] = {}
        self._loaded: dict[str, StoredPipeline] = {}
        for source in dict.fromkeys(folders):
            folder = Path(source).resolve().name
            # half a surrogate pair, which stands for a byte that is not UTF-8, cannot come back in a request
            name = self._free_name(folder.encode(errors="replace").decode())
            self.cards[name] = read_card(name, source, pipeline_folder(source))
        for name in shipped_models():  # of the package, whatever folders the working directory has
            # a folder of this name in the working directory is what the name alone would load
            source = str(SHIPPED / name) if Path(name).exists() else name
            self.cards[name] = read_card(name, source, SHIPPED / name)

    def _free_name(self, name: str) -> str:
        taken = {*self.cards, *shipped_models()}
        return next(
            free
            for number in range(1, len(taken) + 2)
            if (free := name if number == 1 else f"{name}-{number}") not in taken
        )

    def card(self, name: str, tab: str | None = None) -> Card:
        """Return the description of a model.

        Args:
            name: name of the model on the page.
            tab: tab that is to show the model; None = any.

        Raises:
            UserError: if there is no such model, or the tab cannot show it.
        """
        card = self.cards.get(name)
        if card is None:
            raise Refusal(f"there is no model {shown(name)}: the page has {', '.join(self.cards)}", 404)
        if tab is not None and tab not in card.tabs:
            suited = [each.name for each in self.cards.values() if tab in each.tabs]
            raise UserError(
                f"{name} is a model of {card.modality.many}, which this tab cannot show; "
                f"it shows {', '.join(suited) or 'none of the models here'}"
            )
        return card

    def opened(self, job: Job, card: Card, kind: type[P]) -> P:
        """Return the pipeline of a model, which is loaded for its first job and stays.

        Args:
            job: job that needs the model, and is told if it has to be loaded.
            card: description of the model.
            kind: class of the pipeline.

        Raises:
            UserError: if it cannot be loaded.
        """
        if card.name not in self._loaded:
            job.send("loading", model=card.name)
            pipeline = load_pipeline(card.folder, self.machine.dtype, kind)
            pipeline.to(self.machine.device)
            pipeline.set_progress_bar_config(disable=True)
            self._loaded[card.name] = pipeline
            job.send("loaded", model=card.name)
        job.check()
        return cast(P, self._loaded[card.name])

    def classifier_of(self, card: Card) -> Card | None:
        """Return the first classifier of pictures of the size and channels of a generator; None if none."""
        return next(
            (
                each
                for each in self.cards.values()
                if each.modality is CLASSIFICATION
                and (each.size, each.channels) == (card.size, card.channels)
                and each.decodes
            ),
            None,
        )
