"""Ranks as processes of this machine: forked from a server that has imported torch and computed nothing."""

import os
import socket
import traceback
from collections.abc import Callable
from contextlib import chdir
from multiprocessing import forkserver, get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

PATIENCE = 300.0  # seconds; a hang is a failure
_context = get_context("forkserver")
_context.set_forkserver_preload(["tests.preloaded"])


def started(function: Callable[..., Any], *arguments: Any) -> BaseProcess:
    """Start a process that calls a function; it ends with this one."""
    with chdir(Path(__file__).parents[1]):  # from where the server, once, imports the module above
        forkserver.ensure_running()
    process = _context.Process(target=function, args=arguments, daemon=True)
    process.start()
    return process


class Processes:
    """Processes that each call a function of a module as one of `world_size` ranks, one thread each."""

    def __init__(self, function: Callable[..., Any], world_size: int, *arguments: Any):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        variables = {"WORLD_SIZE": world_size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        self.processes, self.ends = [], []
        for rank in range(world_size):
            mine, theirs = _context.Pipe()
            own = variables | {"RANK": rank, "LOCAL_RANK": rank}
            process = started(_child, theirs, own, function, arguments)
            theirs.close()
            self.processes.append(process)
            self.ends.append(mine)

    def results(self) -> list[Any]:
        """What the function returned, by rank; fails with the traceback of a rank that raised."""
        found = []
        for rank, end in enumerate(self.ends):
            assert end.poll(PATIENCE), f"rank {rank} hangs"
            kind, value = end.recv()
            assert kind == "returned", f"rank {rank}:\n{value}"
            found.append(value)
        self.wait()
        return found

    def wait(self) -> list[int | None]:
        """The processes' exit codes; negative for a signal."""
        for process in self.processes:
            process.join(PATIENCE)
        return [process.exitcode for process in self.processes]


def on_ranks(function: Callable[..., Any], world_size: int, *arguments: Any) -> list[Any]:
    """What a function returns on each of several ranks."""
    return Processes(function, world_size, *arguments).results()


def _child(
    end: Connection, variables: dict[str, int | str], function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    import torch

    os.environ.update({name: str(value) for name, value in variables.items()})
    torch.set_num_threads(1)
    try:
        end.send(("returned", function(*arguments)))
    except BaseException:
        end.send(("raised", traceback.format_exc()))
        raise
