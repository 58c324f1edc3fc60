"""A lock for building and loading networks, which only one thread of a process may do at a time.

While diffusers or transformers loads a network, it replaces functions of torch for all threads: those that
register parameters, and those that initialise them. A network that another thread builds meanwhile has no
weights. If two threads load at once, a replacement stays for good, and no later network has weights.
"""

import threading
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

CONSTRUCTION = threading.RLock()


def one_at_a_time(function: Callable[P, T]) -> Callable[P, T]:
    """Return a function that holds the lock while it runs."""

    @wraps(function)
    def locked(*args: P.args, **kwargs: P.kwargs) -> T:
        with CONSTRUCTION:
            return function(*args, **kwargs)

    return locked
