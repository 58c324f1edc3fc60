"""Processes that load data beside training."""

import signal


def leave_signals(worker: int) -> None:
    """Let a worker of a data loader ignore requests to stop, which the main process answers.

    Schedulers of jobs and terminals send SIGTERM and SIGINT to all processes of a job. A worker that ended by
    itself would make the main process fail before it can save its state.

    Args:
        worker: number of the worker, as PyTorch passes it.
    """
    del worker
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
