"""Read weights of feature extractors from files, without executing anything in them."""

from pathlib import Path

from torch import Tensor, nn

from ...model.layout import dims
from ...utils.errors import UserError
from ...utils.pickles import load_untrusted
from ...utils.untrusted import open_tensors, plain


def load_weights(network: nn.Module, path: Path, expected: str) -> None:
    """Load the weights of a network from a file of safetensors or `torch.save`.

    Args:
        network: network that gets the weights.
        path: file of a state dict.
        expected: description of the expected file in messages, with its article.

    Raises:
        UserError: if the file cannot be read, would execute code, or holds other weights.
    """
    if path.suffix == ".safetensors":
        with open_tensors(path) as file:
            stored: object = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no mapping
    else:
        stored = load_untrusted(path, expected)
    if not isinstance(stored, dict):
        raise UserError(f"{path} is not {expected}: it holds no state dict")
    wanted = network.state_dict()
    for name, tensor in wanted.items():
        if name not in stored and not name.endswith(".num_batches_tracked"):
            raise UserError(f"{path} is not {expected}: it lacks {name}")
        value = stored.get(name, tensor)
        if not isinstance(value, Tensor) or value.layout != tensor.layout or value.is_complex():
            raise UserError(f"{path} is not {expected}: {name} is no dense tensor of real numbers")
        if value.shape != tensor.shape:
            sizes = f"{dims(value.shape) or 'one'} values instead of {dims(tensor.shape) or 'one'}"
            raise UserError(f"{path} is not {expected}: {name} has {sizes}")
        if not bool(value.isfinite().all()):
            raise UserError(f"{path} is damaged: {name} holds values that are not finite")
    unknown = next((name for name in stored if name not in wanted), None)
    if unknown is not None:
        raise UserError(f"{path} is not {expected}: it holds {plain(unknown)} too")
    network.load_state_dict(stored, strict=False)
