"""Scores of texts under an independent causal language model."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from ..metrics.entropy import perplexity
from ..model.weight_files import CONFIG
from ..utils.errors import UserError, require
from ..utils.hub import loading, local_or_hub, only_local
from ..utils.progress_bar import ProgressBar
from ..utils.untrusted import shown
from .external_models import check_complete, check_size


class ExternalLanguageModel:
    """Causal language model of `transformers`, loaded from safetensors without executing code.

    Args:
        name: name or path of the model.
        device: device that the model runs on.

    Raises:
        UserError: if the model cannot be loaded. The methods raise it if the model's answers are not valid.
    """

    def __init__(self, name: str, device: torch.device):
        self._named = f"--judge {name}"
        folder = local_or_hub("--judge", name, "a causal language model", [CONFIG])
        library: Any = require("transformers", "text")
        source: dict[str, Any] = {"trust_remote_code": False, "local_files_only": only_local(folder)}
        with loading(self._named, folder):
            if folder is not None:
                build = partial(library.AutoModelForCausalLM.from_config, trust_remote_code=False)
                check_size(folder, library.AutoConfig, build)
            self._tokenizer = library.AutoTokenizer.from_pretrained(folder or name, **source)
            network, loaded = library.AutoModelForCausalLM.from_pretrained(
                folder or name, use_safetensors=True, output_loading_info=True, **source
            )
        check_complete(loaded, self._named)
        self._network = network.to(device).eval()
        longest = getattr(network.config, "max_position_embeddings", None) or 1024
        if type(longest) is not int or longest < 2:
            raise UserError(f"{self._named} has max_position_embeddings {shown(longest)}, not a length")
        self._max_tokens = longest

    def token_ids(self, text: str) -> list[int]:
        """Return the ids of a text in the vocabulary of the language model, up to its maximum length."""
        with loading(self._named, None):
            return self._tokenizer(
                text,
                truncation=True,
                max_length=self._max_tokens,
                split_special_tokens=True,  # such as <|endoftext|> spelled in a text
            ).input_ids

    @torch.no_grad()
    def negative_log_likelihood(self, text: str) -> tuple[float, int]:
        """Return the negative log-likelihood of a text in nats, and the number of tokens that it covers.

        These are all tokens of the language model except the first, up to its maximum length.
        """
        ids = torch.tensor([self.token_ids(text)], dtype=torch.long)  # (1, L)
        if ids.shape[1] < 2:
            return 0.0, 0
        rows = len(self._network.get_input_embeddings().weight)
        if int(ids.max()) >= rows:
            raise UserError(
                f"{self._named} has a tokenizer of another model: it gives the id {int(ids.max())}, but the "
                f"network has {rows} ids"
            )
        output = self._network(ids.to(self._network.device)).logits  # (1, L, V)
        if output.ndim != 3 or output.shape[:2] != ids.shape or not bool(output.isfinite().all()):
            raise UserError(f"{self._named} must give finite logits for each of {ids.shape[1]} tokens")
        targets = ids[0, 1:].to(output.device)
        nats = torch.nn.functional.cross_entropy(output[0, :-1].double(), targets, reduction="sum")
        return nats.item(), ids.shape[1] - 1

    def perplexity(self, texts: Sequence[str]) -> float | None:
        """Return the generative perplexity of all texts, per token of the language model.

        It is None if the texts hold no tokens.

        Raises:
            UserError: if it is not finite.
        """
        nats, tokens = 0.0, 0
        for text in ProgressBar(texts, "perplexity", unit="text", delay=3, leave=False):
            of_text, count = self.negative_log_likelihood(text)
            nats, tokens = nats + of_text, tokens + count
        return perplexity(nats / tokens) if tokens else None
