"""Several processes that train one model: which is the first, what they agree on, how the others are started.

``torchrun`` and ``accelerate launch`` start a group as they do for any script; `started` does it for ``--devices``.
The processes do the same from the same options. The first alone writes, and talks.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import OrdageError, UsageError

if TYPE_CHECKING:
    import torch

__all__ = ["agreed", "count", "from_first", "is_first", "rank", "started"]

T = TypeVar("T")
PATIENCE = 60.0  # seconds that the other processes have to end after the first
LOST = 15.0  # seconds after the loss of one in which the first should have noticed by itself


def count() -> int:
    """Return the number of processes in the group, 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Return the number of this process in its group, from 0."""
    return int(os.environ.get("RANK", "0")) if count() > 1 else 0


def is_first() -> bool:
    """Return whether this is the process that writes and talks."""
    return rank() == 0


def from_first(work: Callable[[], T]) -> T:
    """Do ``work`` in the first process alone, and give all what it returned.

    Raises:
        OrdageError: in every process, when ``work`` raised one.
    """
    if count() == 1:
        return work()
    from torch import distributed

    said: list[Any] = [None]
    if is_first():
        try:
            said = [(work(), None)]
        except OrdageError as error:
            said = [(None, error)]
    distributed.broadcast_object_list(said, src=0)
    result, problem = said[0]
    if problem is not None:
        raise problem
    return result


def agreed(numbers: list[int], device: torch.device) -> list[int]:
    """Return the largest that any process has of each number, the same in all of them; it waits for the device."""
    if count() == 1:
        return numbers
    import torch

    tensor = torch.tensor(numbers, dtype=torch.int64, device=device)
    torch.distributed.all_reduce(tensor, torch.distributed.ReduceOp.MAX)
    return tensor.tolist()


@contextmanager
def started(number: int, call: Mapping[str, Any]) -> Iterator[None]:
    """Make this process the first of a group on this machine, for the block, and start the others.

    Args:
        number: processes in all.
        call: what the others call `ordage.fit` with, as JSON can hold it.

    Raises:
        OrdageError: another process ended before its time.
    """
    import torch

    threads = torch.get_num_threads()
    share = str(max(1, threads // number))
    group = {
        "WORLD_SIZE": str(number),
        "LOCAL_WORLD_SIZE": str(number),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
    }
    environment = {"OMP_NUM_THREADS": share, **os.environ, **group}
    others = _Others(number, environment)
    before = dict(os.environ)
    os.environ.update({**environment, "RANK": "0", "LOCAL_RANK": "0"})
    torch.set_num_threads(int(share))
    succeeded = False
    try:
        others.call(call)
        yield
        succeeded = True
    except OrdageError:
        raise
    except Exception as error:
        # A lost neighbour shows as whatever the transport says of a closed connection.
        raise others.problem() or error from None
    finally:
        others.end(grace=PATIENCE if succeeded else 5.0)
        # With a process lost, NCCL would wait here for what it has not said.
        if torch.distributed.is_initialized() and (succeeded or torch.distributed.get_backend() == "gloo"):
            torch.distributed.destroy_process_group()
        torch.set_num_threads(threads)
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


class _Others:
    """The other processes of a group, seen from the first."""

    def __init__(self, number: int, environment: Mapping[str, str]) -> None:
        """Start them."""
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-c", "from ordage.processes import follow; follow()"],
                env={**environment, "RANK": str(position), "LOCAL_RANK": str(position)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for position in range(1, number)
        ]
        self._over = threading.Event()

    def call(self, call: Mapping[str, Any]) -> None:
        """Let all of them do it, and look from now on whether they live.

        Raises:
            OrdageError: one could not even start, and would be waited for in vain.
        """
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(json.dumps(dict(call)))
            process.stdin.close()
        for position, process in enumerate(self._processes, start=2):
            assert process.stdout is not None
            if not process.stdout.readline():
                raise OrdageError(f"process {position} did not start; see above")
        threading.Thread(target=self._watch, daemon=True).start()

    def problem(self) -> OrdageError | None:
        """Return what made one of them end before its time, if anything did."""
        for position, process in enumerate(self._processes, start=2):
            code = _code(process, 5.0)
            if code:
                assert process.stdout is not None
                kind = next((kind for kind in OrdageError.__subclasses__() if kind.exit_code == code), OrdageError)
                said = process.stdout.read().strip()
                return kind(said or f"process {position} ended with code {code}")
        return None

    def end(self, grace: float) -> None:
        """Wait so many seconds for each to end by itself, then end it."""
        self._over.set()
        for process in self._processes:
            if _code(process, grace) is None:
                process.kill()
                process.wait()
            assert process.stdout is not None
            process.stdout.close()

    def _watch(self) -> None:
        """End this process some time after another one is lost: NCCL would let it wait for minutes, and then abort."""
        while not self._over.wait(1.0):
            if any(process.poll() for process in self._processes) and not self._over.wait(LOST):
                error = self.problem() or OrdageError("one of the processes ended")
                print(f"ordage: error: {error}", file=sys.stderr, flush=True)
                for process in self._processes:
                    process.kill()
                os._exit(error.exit_code)


def follow() -> None:
    """Do in another process what the first does, which says all there is to say; tell it what went wrong."""
    from torch import distributed

    from . import fit

    call = json.loads(sys.stdin.read())
    print("ready", flush=True)
    try:
        fit(call.pop("config"), **call, verbosity=0)
    except OrdageError as error:
        print(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:  # in what cannot be gone on with; the first one says so
        sys.exit(130)
    if distributed.is_initialized():
        distributed.destroy_process_group()


def parse_devices(devices: str) -> int | None:
    """Return the number of processes that ``--devices`` asks for, ``None`` for one on each GPU.

    Raises:
        UsageError: neither a number nor ``all``.
    """
    if devices == "all":
        return None
    if not devices.isdigit() or int(devices) < 1:
        raise UsageError(f"--devices {devices}: expected a number of processes, or all for every GPU")
    return int(devices)


def _code(process: subprocess.Popen[str], timeout: float) -> int | None:
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        return None


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
