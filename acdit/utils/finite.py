"""Checks that tensors are finite, before they are written, loaded or shown."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from .errors import UserError


def nonfinite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the tensors that hold NaN or infinity; of sharded tensors, this rank's part counts.

    Tensors without values (on the device `meta`) and those of integers or packed numbers are finite.
    """
    return [name for name, tensor in tensors.items() if not is_finite(tensor)]


@torch.no_grad()
def is_finite(tensor: Tensor) -> bool:
    """Return whether all values of a tensor are finite."""
    local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    if local.is_meta or not local.is_floating_point() or local.itemsize < 2:  # isfinite knows no 8-bit floats
        return True
    # the largest magnitude is NaN if any value is; unlike a mask of all values, it takes no memory
    return not local.numel() or bool(torch.linalg.vector_norm(local.detach(), torch.inf).isfinite())


def check_finite(tensors: Mapping[str, Tensor], description: str, advice: str) -> None:
    """Raise UserError if any tensor holds NaN or infinity.

    Args:
        tensors: Tensors by name.
        description: Subject of the message in the plural, such as "the weights of runs/a".
        advice: What the user can do.
    """
    names = nonfinite(tensors)
    if names:
        raise UserError(
            f"{description} are not finite (NaN or infinity) in {len(names)} of {len(tensors)} tensors, such "
            f"as {names[0]}: {advice}"
        )


def check_finite_modules(modules: Iterable[tuple[str, object]], description: str, advice: str) -> None:
    """Raise UserError if weights of any of the named modules are not finite; other objects are ignored."""
    tensors = {
        f"{name}.{key}": tensor
        for name, module in modules
        if isinstance(module, nn.Module)
        for key, tensor in module.state_dict().items()
    }
    check_finite(tensors, description, advice)
