"""Tracers of torch, and caches of tensors that hold no tensor of a tracer."""

from collections.abc import Callable, Hashable
from functools import lru_cache, wraps
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

untyped: Any = torch  # some of what follows has no type hints
functorch = untyped._C._functorch
TRACING_MODES = (
    torch._C._TorchDispatchModeKey.FAKE,
    torch._C._TorchDispatchModeKey.PROXY,
    torch._C._TorchDispatchModeKey.FUNCTIONAL,
)
Function = TypeVar("Function", bound=Callable[..., Any])
MOST_COMPILED = 64  # maximum number of compiled variants of a function; torch runs further ones uncompiled


def allow_variants() -> None:
    """Let torch.compile keep a variant of a function for every layout; its own limit of 8 is soon reached."""
    from torch._dynamo import config  # this import takes a second

    settings: Any = config
    settings.recompile_limit = max(settings.recompile_limit, MOST_COMPILED)


def is_tracing() -> bool:
    """Return whether a tracer follows the operations, so that tensors may hold no values.

    Tracers are `torch.compile`, `torch.export`, `torch.jit.trace`, `make_fx`, the transforms of `torch.func`
    and `FakeTensorMode`; other modes, such as counters of FLOPs, see values.
    """
    return (
        torch.compiler.is_compiling()  # first: the compiler cannot follow the others
        or any(torch._C._get_dispatch_mode(mode) is not None for mode in TRACING_MODES)
        or torch._ops._len_torch_dispatch_stack_pre_dispatch() > 0
        or torch._C._get_tracing_state() is not None
        or functorch.peek_interpreter_stack() is not None
    )


def is_concrete(value: object) -> bool:
    """Return whether all tensors of a value hold numbers of their own.

    The value is a tensor, a container of tensors, or an object with tensors as attributes.
    """
    leaves = pytree.tree_leaves(value)
    leaves += [attribute for leaf in leaves for attribute in getattr(leaf, "__dict__", {}).values()]
    return all(_holds_numbers(leaf) for leaf in leaves if isinstance(leaf, Tensor))


def _holds_numbers(tensor: Tensor) -> bool:
    return (
        type(tensor) in (Tensor, nn.Parameter)
        and not tensor.is_meta
        and not untyped._is_functional_tensor(tensor)
        and not functorch.is_functorch_wrapped_tensor(tensor)
    )


def tensor_cache(maxsize: int) -> Callable[[Function], Function]:
    """Cache the results of a function, which are tensors or hold some, like `functools.lru_cache`.

    A result that is computed while a tracer is active belongs to the tracer: it is neither stored nor taken
    from the cache, nor is a tensor without numbers stored. What is stored can be used in training too, and
    does not depend on torch's default device.

    Args:
        maxsize: Number of results that are kept; those that were not used for longest are dropped first.
    """

    def decorate(function: Function) -> Function:
        class NotStored(Exception):
            """Carries a result that must not be kept past the cache."""

        @lru_cache(maxsize=maxsize)
        def stored(*arguments: Hashable) -> Any:
            with torch.inference_mode(False), torch.device("cpu"):
                result = function(*arguments)
            if not is_concrete(result):
                raise NotStored(result)
            return result

        @wraps(function)
        def cached(*arguments: Hashable) -> Any:
            if is_tracing():
                return function(*arguments)
            try:
                return stored(*arguments)
            except NotStored as passed:
                return passed.args[0]

        cached.cache_clear = stored.cache_clear  # pyright: ignore[reportAttributeAccessIssue]
        return cached  # pyright: ignore[reportReturnType]

    return decorate
