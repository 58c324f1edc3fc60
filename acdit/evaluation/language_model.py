"""Texts as an independent causal language model sees them, and how varied their tokens are."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from ..utils.checks import here_or_on_hub
from ..utils.errors import UserError, require


class LanguageJudge:
    """A causal language model of `transformers`, by name or path; weights are safetensors, no code is run.

    Raises:
        UserError: if it cannot be loaded.
    """

    def __init__(self, name: str, device: torch.device):
        here_or_on_hub("--judge", name, "a causal language model")
        library: Any = require("transformers", "text")
        try:
            self._tokenizer = library.AutoTokenizer.from_pretrained(name)
            network = library.AutoModelForCausalLM.from_pretrained(name, use_safetensors=True)
        except (OSError, ValueError) as fault:
            reason = " ".join(str(fault).split())
            raise UserError(f"--judge {name} is no causal language model: {reason}") from fault
        self._network = network.to(device).eval()
        self._most = getattr(network.config, "max_position_embeddings", None) or 1024

    @torch.no_grad()
    def negative_log_likelihood(self, text: str) -> tuple[float, int]:
        """Nats, and the tokens of the judge that they are of: all but the first, as far as it can read."""
        ids = self._tokenizer(text, return_tensors="pt", truncation=True, max_length=self._most).input_ids
        if ids.shape[1] < 2:
            return 0.0, 0
        ids = ids.to(self._network.device)
        logits = self._network(ids).logits[0, :-1].double()
        nats = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")
        return nats.item(), ids.shape[1] - 1

    def perplexity(self, texts: Sequence[str]) -> float | None:
        """Generative perplexity: of all texts, per token of the judge; None where they hold none."""
        nats, tokens = (sum(part) for part in zip(*map(self.negative_log_likelihood, texts), strict=True))
        return math.exp(nats / tokens) if tokens else None
