"""Scores of texts under an independent causal language model."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from ..utils.checks import here_or_on_hub
from ..utils.errors import UserError, require


class ExternalLanguageModel:
    """Causal language model of `transformers`, loaded from safetensors without executing code.

    Args:
        name: name or path of the model.
        device: device that the model runs on.

    Raises:
        UserError: if the model cannot be loaded.
    """

    def __init__(self, name: str, device: torch.device):
        here_or_on_hub("--judge", name, "a causal language model")
        library: Any = require("transformers", "text")
        try:
            self._tokenizer = library.AutoTokenizer.from_pretrained(name)
            network = library.AutoModelForCausalLM.from_pretrained(name, use_safetensors=True)
        except (OSError, ValueError) as fault:
            reason = " ".join(str(fault).split())
            raise UserError(
                f"--judge {name} cannot be loaded as a causal language model: {reason}"
            ) from fault
        self._network = network.to(device).eval()
        self._max_tokens = getattr(network.config, "max_position_embeddings", None) or 1024

    @torch.no_grad()
    def negative_log_likelihood(self, text: str) -> tuple[float, int]:
        """Return the negative log-likelihood of a text in nats, and the number of tokens that it covers.

        These are all tokens of the language model except the first, up to its maximum length.
        """
        ids = self._tokenizer(
            text,
            return_tensors="pt",
            truncation=True,
            max_length=self._max_tokens,
            split_special_tokens=True,  # such as <|endoftext|> spelled in a text
        ).input_ids
        if ids.shape[1] < 2:
            return 0.0, 0
        ids = ids.to(self._network.device)
        logits = self._network(ids).logits[0, :-1].double()
        nats = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")
        return nats.item(), ids.shape[1] - 1

    def perplexity(self, texts: Sequence[str]) -> float | None:
        """Return the generative perplexity of all texts, per token of the language model.

        It is None if the texts hold no tokens.
        """
        nats, tokens = (sum(part) for part in zip(*map(self.negative_log_likelihood, texts), strict=True))
        return math.exp(nats / tokens) if tokens else None
