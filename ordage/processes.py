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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import OrdageError, UsageError

if TYPE_CHECKING:
    import torch

__all__ = ["agreed", "count", "from_first", "is_first", "rank", "started"]

T = TypeVar("T")
PATIENCE = 60.0  # seconds that the other processes have to end after the first


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
    command = [sys.executable, "-c", "from ordage.processes import follow; follow()"]
    others = []
    for position in range(1, number):
        own = {**environment, "RANK": str(position), "LOCAL_RANK": str(position)}
        others.append(subprocess.Popen(command, env=own, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    before = dict(os.environ)
    os.environ.update({**environment, "RANK": "0", "LOCAL_RANK": "0"})
    torch.set_num_threads(int(share))
    try:
        for other in others:
            assert other.stdin is not None
            other.stdin.write(json.dumps(dict(call)))
            other.stdin.close()
        for position, other in enumerate(others, start=2):
            assert other.stdout is not None
            if not other.stdout.readline():  # it could not even start, and would be waited for in vain
                raise OrdageError(f"process {position} of {number} did not start; see above")
        yield
    except OrdageError:
        raise
    except Exception as error:
        # A lost neighbour shows as whatever the transport says of a closed connection.
        codes = [code for code in (_code(other, 5.0) for other in others) if code]
        if codes:
            raise OrdageError(f"one of {number} processes ended with code {codes[0]}; what it said is above") from error
        raise
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        for other in others:
            if _code(other, PATIENCE) is None:
                other.kill()
        torch.set_num_threads(threads)
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


def follow() -> None:
    """Do in another process what the first does; it says all there is to say."""
    from . import fit

    call = json.loads(sys.stdin.read())
    print("ready", flush=True)
    try:
        fit(call.pop("config"), **call, verbosity=0)
    except OrdageError as error:
        sys.exit(error.exit_code)


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
