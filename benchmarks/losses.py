"""How long a training step of each loss takes, beside cross-entropy and beside other libraries' losses.

A call is forward and backward of a mean over integer classes in float32, with a fresh gradient. All contenders of a
cell, N samples by K classes, take turns in one process: each round every one of them runs a small batch of calls, in an
order shuffled anew. A time and a ratio are medians over the rounds, a ratio of those of each round, so that a machine
which is faster in some rounds than in others does not move it; in brackets stand its quartiles. Other libraries' losses
are measured where they are installed.
"""

import gc
import json
import platform
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from statistics import median, quantiles
from types import FunctionType
from typing import Annotated, Any, Literal

import torch
import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from ordage.losses import OrdinalLoss, available, create

# The targets; those of the CPU are for one thread.
CPU_RATIO = ("≤", 2.0)  # a loss over cross_entropy, CPU
GPU_COMPILED_RATIO = ("≤", 1.5)  # a compiled loss over compiled cross_entropy, GPU
CPU_SPEEDUPS = {  # a peer, with N and K, over our loss, CPU
    ("coral_pytorch.corn_loss", 256, 10): ("≥", 8.0),
    ("coral_pytorch.corn_loss", 256, 101): ("≥", 50.0),
    ("coral_pytorch.coral_loss", 256, 101): ("≥", 20.0),
    ("coral_pytorch.coral_loss", 4096, 10): ("≥", 100.0),
}

BASELINE = "cross_entropy"
COMPILED = " (compiled)"
COMPILED_BASELINE = BASELINE + COMPILED
Criterion = Callable[[Tensor, Tensor], Tensor]
Step = Callable[[], None]
Build = Callable[[int, Tensor], Criterion]  # from K and the target


@dataclass(frozen=True)
class Contender:
    """A loss to measure."""

    name: str
    like: str  # our loss of the same kind
    build: Build
    width: Callable[[int], int] = lambda classes: classes  # number of logits, from K
    classes: range = range(2, sys.maxsize)  # the K that it can do


def ours(name: str) -> Contender:
    def make(classes: int, target: Tensor | None = None) -> OrdinalLoss:
        return create(name, classes, class_values=range(classes))

    return Contender(name, name, make, lambda classes: make(classes).out_features)


CROSS_ENTROPY = Contender(BASELINE, BASELINE, lambda classes, target: F.cross_entropy)


def dlordinal(name: str, **options: Any) -> Build:
    return lambda classes, target: getattr(import_module("dlordinal.losses"), name)(num_classes=classes, **options)


def soft_labels(name: str) -> Build:
    return dlordinal(name, base_loss=nn.CrossEntropyLoss())


def dlordinal_sord(classes: int, target: Tensor) -> Criterion:
    return dlordinal("SORDLoss", alpha=1.0, train_targets=target)(classes, target)


def dlordinal_clm(classes: int, target: Tensor) -> Criterion:
    layer = import_module("dlordinal.output_layers").CLM(classes, "logit").to(target.device).requires_grad_(False)
    return lambda logits, target: F.nll_loss(layer(logits).log(), target)


def coral_pytorch_corn(classes: int, target: Tensor) -> Criterion:
    loss = import_module("coral_pytorch.losses").corn_loss
    return lambda logits, target: loss(logits, target, classes)


def coral_pytorch_coral(classes: int, target: Tensor) -> Criterion:
    loss = import_module("coral_pytorch.losses").coral_loss
    levels = import_module("coral_pytorch.dataset").levels_from_labelbatch
    labels = target.cpu()  # as its tutorials do: levels are made of a loader's labels, then moved to the device
    return lambda logits, target: loss(logits, levels(labels, classes).to(logits.device))


PEERS = (
    Contender("coral_pytorch.coral_loss", "coral", coral_pytorch_coral, lambda classes: classes - 1),
    Contender("coral_pytorch.corn_loss", "corn", coral_pytorch_corn, lambda classes: classes - 1),
    Contender("dlordinal.CORNLoss", "corn", dlordinal("CORNLoss"), lambda classes: classes - 1),
    Contender("dlordinal.CDWCELoss", "cdw-ce", dlordinal("CDWCELoss", alpha=2.0)),
    Contender("dlordinal.EMDLoss", "emd", dlordinal("EMDLoss")),
    Contender("dlordinal.WKLoss", "weighted-kappa", dlordinal("WKLoss", use_logits=True)),
    Contender("dlordinal.SORDLoss", "sord", dlordinal_sord),
    Contender("dlordinal.CLM", "clm", dlordinal_clm, lambda classes: 1),  # its thresholds are part of the call
    Contender("dlordinal.BetaLoss", "soft-labels", soft_labels("BetaLoss"), classes=range(3, 15)),
    *(
        Contender(f"dlordinal.{name}", "soft-labels", soft_labels(name))
        for name in ("ExponentialLoss", "TriangularLoss", "BinomialLoss", "PoissonLoss")
    ),
)


@dataclass(frozen=True)
class Cell:
    """N samples by K classes on a device."""

    samples: int
    classes: int
    device: str


@dataclass(frozen=True)
class Ratio:
    """The median of the rounds' ratios, their quartiles and, if there is a target, whether that is reached."""

    value: float
    quartiles: tuple[float, float]
    target: str | None = None
    reached: bool | None = None

    def __str__(self) -> str:
        verdict = "" if self.target is None else f" {self.target} {'reached' if self.reached else 'missed'}"
        return f"{self.value:.2f} ({self.quartiles[0]:.2f}–{self.quartiles[1]:.2f}){verdict}"


@dataclass(frozen=True)
class Row:
    """A loss in a cell: microseconds, and ratios by what it is compared with."""

    cell: Cell
    loss: str
    microseconds: float
    compiled_microseconds: float | None
    ratios: dict[str, Ratio]


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def brief(error: Exception) -> str:
    # Errors of torch.compile give the backend in the first line and the reason in the second.
    return " ".join(f"{type(error).__name__}: {error}".splitlines()[:2])


def make_data(cell: Cell, width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(cell.samples, width, generator=generator)
    target = torch.randint(cell.classes, (cell.samples,), generator=generator)
    return logits.to(cell.device).requires_grad_(), target.to(cell.device)


def make_step(contender: Contender, cell: Cell, compiled: bool) -> Step:
    """Return forward and backward of a loss, warmed up."""
    logits, target = make_data(cell, contender.width(cell.classes))
    loss = contender.build(cell.classes, target)
    loss = loss.to(cell.device) if isinstance(loss, nn.Module) else loss

    def call(logits: Tensor, target: Tensor) -> Tensor:
        return loss(logits, target)

    if compiled:
        # Graphs are kept by code object: in one that all losses shared, each call would search those of the others.
        own = FunctionType(call.__code__.replace(), call.__globals__, closure=call.__closure__)
        call = torch.compile(own, fullgraph=True, dynamic=False)

    def step() -> None:
        logits.grad = None
        call(logits, target).backward()

    for _ in range(3):
        step()
    return step


def make_steps(contenders: Sequence[Contender], cell: Cell, compiled: bool) -> tuple[dict[str, Step], list[str]]:
    """Return the contenders that run in a cell, by name, and what is to be said of those that fail."""
    torch._dynamo.reset()  # forget the graphs of the cell before
    steps, failures = {}, []
    for contender in contenders:
        for compile_it in (False, True) if compiled and contender not in PEERS else (False,):
            name = contender.name + COMPILED * compile_it
            try:
                if cell.classes in contender.classes:
                    steps[name] = make_step(contender, cell, compile_it)
            except Exception as error:  # the others are worth measuring all the same
                failures.append(f"{name} fails at {cell.samples} × {cell.classes}: {brief(error)}")
    return steps, failures


def compiler_works(device: str) -> bool:
    try:
        make_step(CROSS_ENTROPY, Cell(4, 3, device), compiled=True)
    except Exception as error:  # most often there is no C++ compiler
        say(f"torch.compile does not work here, so nothing is compiled: {brief(error)}")
        return False
    return True


def synchronising(name: str, cell: Cell) -> list[str]:
    """Say which parts of a loss of ours make the host wait for the GPU."""
    loss = create(name, cell.classes).to(cell.device)
    logits, target = make_data(cell, loss.out_features)
    found = []
    parts = ("training step", lambda: loss(logits, target).backward()), ("log_probs", lambda: loss.log_probs(logits))
    for part, call in parts:
        try:
            call()  # what is done once, such as loading kernels, may wait
            torch.cuda.set_sync_debug_mode("error")
            call()
        except Exception as error:
            found.append(
                f"{name} synchronises or fails in its {part} at {cell.samples} × {cell.classes}: {brief(error)}"
            )
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return found


def wait_for_gpu() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def time_call(step: Step, calls: int) -> float:
    """Return the microseconds of a call."""
    wait_for_gpu()
    start = time.perf_counter_ns()
    for _ in range(calls):
        step()
    wait_for_gpu()
    return (time.perf_counter_ns() - start) / calls / 1e3


def measure(steps: dict[str, Step], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Return the microseconds of a call of each contender, one figure a round."""
    share = seconds * 1e6 / rounds / max(len(steps), 1)
    calls = {name: max(1, round(share / time_call(step, 3))) for name, step in steps.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    order, shuffler = list(steps), random.Random(0)
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            shuffler.shuffle(order)
            for name in order:
                times[name].append(time_call(steps[name], calls[name]))
    finally:
        gc.enable()
    return times


def compare(over: list[float], under: list[float], target: tuple[str, float] | None) -> Ratio:
    low, value, high = quantiles([a / b for a, b in zip(over, under, strict=True)], n=4)
    if target is None:
        return Ratio(value, (low, high))
    sign, bound = target
    return Ratio(value, (low, high), f"{sign} {bound:g}", value <= bound if sign == "≤" else value >= bound)


def make_row(name: str, cell: Cell, times: dict[str, list[float]]) -> Row:
    one_thread, gpu = cell.device == "cpu" and torch.get_num_threads() == 1, cell.device == "cuda"
    pairs = [
        (BASELINE, name, BASELINE, CPU_RATIO if one_thread else None),
        (COMPILED_BASELINE, name + COMPILED, COMPILED_BASELINE, GPU_COMPILED_RATIO if gpu else None),
    ] * (name != BASELINE)
    for peer in PEERS:
        if peer.like == name:
            target = CPU_SPEEDUPS.get((peer.name, cell.samples, cell.classes)) if one_thread else None
            pairs.append((peer.name, peer.name, name, target))
    ratios = {
        label: compare(times[over], times[under], target)
        for label, over, under, target in pairs
        if over in times and under in times
    }
    compiled = times.get(name + COMPILED)
    return Row(cell, name, median(times[name]), median(compiled) if compiled else None, ratios)


def grid(rows: Sequence[Row], between: str) -> list[list[str]]:
    """Return the header and the lines of a table, without columns that say nothing."""
    lines = [["N × K", "loss", "µs", "× cross_entropy", "compiled µs", "× compiled cross_entropy", "times faster than"]]
    for row in rows:
        compiled = "" if row.compiled_microseconds is None else f"{row.compiled_microseconds:,.0f}"
        ratios = {name: str(ratio) for name, ratio in row.ratios.items()}
        to_eager, to_compiled = ratios.pop(BASELINE, ""), ratios.pop(COMPILED_BASELINE, "")
        peers = between.join(f"{name} {ratio}" for name, ratio in ratios.items())
        size = f"{row.cell.samples} × {row.cell.classes}"
        lines.append([size, row.loss, f"{row.microseconds:,.0f}", to_eager, compiled, to_compiled, peers])
    full = [any(column) for column in zip(*lines[1:], strict=True)]
    return [[text for text, keep in zip(line, full, strict=True) if keep] for line in lines]


def as_table(rows: Sequence[Row]) -> Table:
    header, *lines = grid(rows, "\n")
    table = Table(box=box.SIMPLE_HEAD)
    for name in header:
        table.add_column(name, justify="right" if name.endswith("µs") else "left")
    for line in lines:
        table.add_row(*(Text(text, style="red" if "missed" in text else "") for text in line))
    return table


def as_markdown(rows: Sequence[Row]) -> str:
    header, *lines = grid(rows, "<br>")
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *lines))


def machine(device: str) -> str:
    """Name the processor with the instructions that torch uses, the version of torch, the threads and the device."""
    cpus = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in cpus.splitlines() if line.startswith("model name")]
    name = torch.cuda.get_device_name() if device == "cuda" else (names or [platform.processor()])[0]
    if device == "cpu":
        name += f" ({torch.backends.cpu.get_cpu_capability()})"
    return f"{name}, torch {torch.__version__}, threads {torch.get_num_threads()}, device {device}"


def integers(text: str) -> list[int]:
    if not all(part.strip().isdigit() for part in text.split(",")):
        raise typer.BadParameter(f"expected integers with commas between, but got {text!r}")
    return [int(part) for part in text.split(",")]


def chosen(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")] if text else available()
    if unknown := sorted(set(names) - set(available())):
        raise typer.BadParameter(f"unknown: {', '.join(unknown)} (available: {', '.join(available())})")
    return names


def installed_peers(names: Sequence[str]) -> list[Contender]:
    """Return the peers of these losses; say which packages are missing."""
    missing = tuple(package for package in ("coral_pytorch", "dlordinal") if find_spec(package) is None)
    for package in missing:
        say(f"{package} is not installed: its rows are left out")
    return [peer for peer in PEERS if peer.like in names and not peer.name.startswith(missing)]


def main(
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where to measure.")] = "cpu",
    compiled: Annotated[bool, typer.Option("--compile/--no-compile", help="Also through torch.compile.")] = False,
    samples: Annotated[str, typer.Option(help="The N, with commas between.")] = "256,4096",
    classes: Annotated[str, typer.Option(help="The K, with commas between.")] = "10,101",
    losses: Annotated[str, typer.Option(help="Names, with commas between; all without.")] = "",
    rounds: Annotated[int, typer.Option(min=2, help="Turns of each contender in a cell.")] = 41,
    seconds: Annotated[float, typer.Option(min=0, help="Time for a cell, roughly.")] = 25,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch on the CPU.")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="5 rounds in 1 second a cell: rough figures.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="One Markdown table.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here as well.")] = None,
) -> None:
    """Measure a training step of the losses beside cross-entropy and other libraries' losses."""
    if device == "cuda" and not torch.cuda.is_available():
        raise typer.BadParameter("torch sees no CUDA device")
    torch.set_num_threads(threads)
    rounds, seconds = (5, 1.0) if quick else (rounds, seconds)
    names = chosen(losses)
    contenders = [CROSS_ENTROPY, *map(ours, names), *installed_peers(names)]
    cells = [Cell(n, k, device) for n, k in product(integers(samples), integers(classes))]
    compiled = compiled and compiler_works(device)
    console = Console(width=None if sys.stdout.isatty() else 160)
    print(machine(device), end="\n\n", flush=True)

    rows: list[Row] = []
    failures = [text for cell in cells if device == "cuda" for name in names for text in synchronising(name, cell)]
    for cell in cells:
        steps, failed = make_steps(contenders, cell, compiled)
        times = measure(steps, rounds, seconds)
        new = [make_row(name, cell, times) for name in (BASELINE, *names) if name in times]
        if not markdown:
            console.print(as_table(new))
        rows += new
        failures += failed
    if markdown:
        print(as_markdown(rows), end="\n\n")
    if json_file is not None:
        json_file.write_text(json.dumps({"machine": machine(device), "rows": [asdict(row) for row in rows]}, indent=2))
    for text in failures:
        say(text)
    verdicts = [ratio.reached for row in rows for ratio in row.ratios.values() if ratio.reached is not None]
    print(f"reached {sum(verdicts)} of {len(verdicts)}")
    raise typer.Exit(code=1 if failures else 0)


if __name__ == "__main__":
    typer.run(main)
