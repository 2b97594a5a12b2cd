"""Where a model is trained: the device, its precision, and how many processes."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from . import processes
from .errors import MissingError, UsageError

if TYPE_CHECKING:
    from .config import RunConfig, TrainingConfig

__all__ = [
    "choose_precision",
    "count_devices",
    "find_device",
    "has_depthwise",
    "keep_freed_memory",
    "make_accelerator",
    "seed_generators",
]

# of mallopt, by glibc's malloc.h, and their values in bytes
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
KEPT = {M_MMAP_THRESHOLD: 2**30, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 2**26}


def make_accelerator(config: TrainingConfig, folder: Path | None = None, trackers: Sequence[str] = ()) -> Accelerator:
    """Choose the device, and set it up for the precision of the options; float32 where they leave it open.

    Args:
        config: the options.
        folder: where trackers may write.
        trackers: their names.

    Raises:
        UsageError: no such device or precision.
        MissingError: the device asked for is not there.
    """
    device = find_device(config.device)
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when CUDA starts
    precision = config.precision or "fp32"
    if precision == "fp16" and device.type != "cuda":
        raise UsageError("--precision fp16: needs a CUDA device; use bf16 or fp32")
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.cuda.reset_peak_memory_stats(device)
        torch.set_float32_matmul_precision("high")  # TF32 where a matrix product is still in float32
        torch.backends.cudnn.benchmark = not config.deterministic
    torch.use_deterministic_algorithms(config.deterministic, warn_only=True)
    # accelerate keeps one state for the life of a process; a second run may want another device or precision.
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(
        mixed_precision="no" if precision == "fp32" else precision,
        cpu=device.type == "cpu",
        log_with=list(trackers) or None,
        project_dir=None if folder is None else str(folder),
    )
    if device.type == "cpu":
        keep_freed_memory()
    if device.type == "cuda":
        accelerator.state.device = device  # with its index: a helper thread has a current device of its own
    return accelerator


def keep_freed_memory() -> None:
    """Let this process keep the memory of freed tensors for the next ones; for glibc, whose default it is not.

    By default it gives large blocks back at once, and the kernel clears the pages of each new one: an eighth of the
    time of a small net's step on a CPU. CUDA's tensors are kept by torch in any case.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for parameter, value in KEPT.items():
            libc.mallopt(parameter, value)


def seed_generators(device: torch.device, seed: int) -> None:
    """Seed what the host and ``device`` draw from by default.

    `torch.manual_seed` seeds every kind of device, and for one that is not in use it notes the whole call stack:
    0.7 ms, which in every step of a small net is a fiftieth.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


def find_device(name: str | None) -> torch.device:
    """Return the device of that name, or the best there is.

    Raises:
        UsageError: no such name.
        MissingError: it is not there.
    """
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    have = ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in counts.items() if count)
    if name is None:
        name = next((kind for kind in ("cuda", "mps") if counts[kind]), "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device {name}: expected cpu, cuda, cuda:1, mps; this machine has {have}") from None
    if (device.index or 0) >= counts.get(device.type, 0):
        raise MissingError(f"--device {name}: not available here; this machine has {have}")
    if processes.count() > 1 and device.index is not None:
        raise UsageError(f"--device {name}: each process takes its own; say {device.type}")
    if device.type == "cuda":
        index = int(os.environ.get("LOCAL_RANK", "0")) if processes.count() > 1 else device.index or 0
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        if processes.count() > 1 and here > counts["cuda"]:  # in every one of them, not in the last alone
            raise MissingError(f"{here} processes, each of which needs a GPU; this machine has {have}")
        return torch.device("cuda", index)
    return device


def choose_precision(device: torch.device, backbone: nn.Module) -> str:
    """Return what trains this backbone fastest on this device: fp32, bf16 or fp16.

    A CPU that multiplies bf16 itself trains by it in half to three quarters of the time, but depthwise convolutions,
    of which MobileNets and EfficientNets consist, in twice the time: benchmarks/precision.py.
    """
    if device.type == "cuda":
        # Older devices emulate bf16, which is slower than their own fp16.
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if device.type == "cpu" and _cpu_has_bf16() and not has_depthwise(backbone) else "fp32"


def _cpu_has_bf16() -> bool:
    # AMX comes with AVX512-BF16. torch tells both from 2.6 on, but promises neither name.
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


def has_depthwise(backbone: nn.Module) -> bool:
    """Return whether some convolution looks at each channel by itself."""
    convolutions = (module for module in backbone.modules() if isinstance(module, nn.Conv2d))
    return any(module.groups == module.in_channels > 1 for module in convolutions)


def count_devices(config: RunConfig) -> int:
    """Return the number of processes that ``--devices`` asks for.

    Raises:
        MissingError: more than there are GPUs.
    """
    number = processes.parse_devices(config.devices)
    device = find_device(config.device)
    gpus = torch.cuda.device_count() if device.type == "cuda" else None
    if number is None:
        return gpus or 1
    if number > 1 and device.type == "mps":
        raise UsageError(f"--devices {number}: mps is one device; say --device cpu")
    if gpus is not None and number > gpus:
        raise MissingError(f"--devices {number}: this machine has {gpus} GPU{'s' if gpus > 1 else ''}")
    return number
