"""Check the configuration of a stored autoencoder against its weights. Does not import torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..model.weight_files import CONFIG, read_weight_headers
from ..utils.kinds import check_values, list_of, number, whole_number
from ..utils.untrusted import damage

CHANNELS = whole_number(1, 2**16)
LARGEST_NUMBER = 10**6  # of a configuration


def check_autoencoder(folder: Path, config: Mapping[str, Any], variant: str | None = None) -> None:
    """Check that the sizes in an autoencoder's configuration do not exceed those of its weights.

    Args:
        folder: folder of the autoencoder.
        config: content of its configuration.
        variant: variant of the weights, such as `fp16`; None = the usual files.

    Raises:
        UserError: if they do, or if the configuration or a file is damaged.
    """
    path = folder / CONFIG
    kinds = {
        "block_out_channels": list_of(CHANNELS, range(1, 17)).if_given(),
        "latent_channels": CHANNELS.if_given(),
        "in_channels": CHANNELS.if_given(),
        "out_channels": CHANNELS.if_given(),
        "scaling_factor": number().if_given(),
        "shift_factor": number().or_none().if_given(),
        "latents_mean": list_of(number()).or_none().if_given(),
        "latents_std": list_of(number()).or_none().if_given(),
    }
    check_values(dict(config), kinds, path)
    if config.get("scaling_factor") == 0:
        raise damage(path, "scaling_factor must not be 0")
    tensors = read_weight_headers(folder, variant).values()
    widest = max((length for tensor in tensors for length in tensor.shape), default=0)
    for key, value in config.items():
        limit = widest if "channels" in key else len(tensors) if "layers" in key else LARGEST_NUMBER
        for size in value if isinstance(value, list | tuple) else [value]:
            if isinstance(size, int) and size > limit:
                raise damage(folder, f"{key} of {CONFIG} is {size:,}, but the weights have at most {limit:,}")
