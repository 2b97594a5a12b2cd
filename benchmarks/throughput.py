"""How fast `ordage fit` trains, beside the bare step and what people write by hand.

All contenders take turns on the same images, batch size and net, with the loss CORAL, each in a process of its own that
waits while it is another's turn: so none has the threads, or the allocator's settings, of another.

- bare step: forward, backward and optimiser step on one batch that lies on the device, in the precision and
  with the allocator's settings of fit; with the optimiser that fit takes, as it is by default in torch.
- fused step: the same with the optimiser's own kernel, as in fit, where it has one. Nothing can be faster.
- fit: a steady epoch of `ordage fit` as it is by default, with augmentation, moving average and progress.
- plain script: Dataset, Pillow, DataLoader with workers, torchvision's transforms, coral-pytorch's layer and loss.
- timm loader: the same loop with timm's own loader and transforms.
- Keras: the same small net on arrays, where TensorFlow is installed; seed_cnn alone.
"""

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal

import numpy as np
import timm
import timm.data
import torch
import typer
from coral_pytorch.dataset import levels_from_labelbatch
from coral_pytorch.layers import CoralLayer
from coral_pytorch.losses import coral_loss
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

import ordage
from ordage import losses
from ordage.config import DataConfig
from ordage.data.demo import draw
from ordage.data.layouts import read
from ordage.devices import choose_precision, keep_freed_memory
from ordage.model import OWN_NETS
from ordage.muon import Muon
from ordage.net_choice import HALF
from ordage.transforms import ImageSpec

YEARS = 101
WORKERS = 2
EPOCHS = 3  # of fit in a turn, and as many passes of the bare step: the median of all but the first counts


@dataclass(frozen=True)
class Case:
    """A net and its input."""

    model: str
    size: int
    chans: int
    batch: int


CASES = (
    Case("seed_cnn", 28, 1, 32),
    Case("ordage_tiny", 28, 1, 128),
    Case("mobilenetv3_small_100", 64, 3, 64),
)


@dataclass(frozen=True)
class Faces:
    """The images, as files in one folder."""

    folder: Path
    paths: list[Path]
    ages: list[int]


class BareStep:
    fused = False

    def __init__(self, case: Case, faces: Faces, device: torch.device) -> None:
        self.case, self.device = case, device
        keep_freed_memory()
        self.steps = len(faces.paths) // case.batch
        self.criterion = losses.create("coral", YEARS).to(device)
        backbone = make_backbone(case)
        head = self.criterion.make_head(features_of(backbone))
        self.model = nn.Sequential(backbone, head).to(device, memory_format=torch.channels_last).train()
        own = case.model in OWN_NETS  # the optimiser that fit takes
        self.optimizer = (
            Muon([{"params": backbone.parameters()}, {"params": head.parameters(), "matrix": False}], 8e-3)
            if own
            else torch.optim.AdamW(self.model.parameters(), 2e-3, fused=self.fused)
        )
        self.images = torch.randn(case.batch, case.chans, case.size, case.size, device=device)
        self.images = self.images.contiguous(memory_format=torch.channels_last)
        self.target = torch.randint(YEARS, (case.batch,), device=device)
        self.precision = choose_precision(device, backbone)

    def turn(self) -> float:
        def step() -> None:
            with torch.autocast(self.device.type, HALF.get(self.precision), enabled=self.precision in HALF):
                logits = self.model(self.images)
            self.criterion(logits.float(), self.target).backward()
            self.optimizer.step()
            self.optimizer.zero_grad()

        def epoch() -> float:
            return self.case.batch * self.steps / seconds(lambda: [step() for _ in range(self.steps)], self.device)

        return median([epoch() for _ in range(EPOCHS)][1:])


class FusedStep(BareStep):
    fused = True


class Fit:
    def __init__(self, case: Case, faces: Faces, device: torch.device) -> None:
        self.case, self.faces, self.device = case, faces, device

    def turn(self) -> float:
        with tempfile.TemporaryDirectory() as folder:
            run = ordage.fit(
                data=str(self.faces.folder),
                model=self.case.model,
                pretrained=False,
                img_size=self.case.size,
                in_chans=self.case.chans,
                batch_size=self.case.batch,
                loss="coral",
                epochs=EPOCHS,
                device=str(self.device),
                out=folder,
                verbosity=0,
            )
            return median(float(row["images_per_second"]) for row in run.metrics[1:])


class Files(Dataset[tuple[Any, int]]):
    def __init__(self, faces: Faces, mode: str, transform: Callable[[Image.Image], Any] | None = None) -> None:
        self.faces, self.mode, self.transform = faces, mode, transform

    def __len__(self) -> int:
        return len(self.faces.paths)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = Image.open(self.faces.paths[index]).convert(self.mode)
        return self.transform(image), self.faces.ages[index]


class PlainScript:
    def __init__(self, case: Case, faces: Faces, device: torch.device) -> None:
        self.case, self.device = case, device
        backbone = make_backbone(case)
        self.model = nn.Sequential(backbone, CoralLayer(features_of(backbone), YEARS)).to(device).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 2e-3)
        self.loader = self.make_loader(faces)
        self.turn()  # the workers start once; a steady epoch is what counts

    def make_loader(self, faces: Faces) -> Any:
        mean = [0.5] * self.case.chans
        transform = transforms.Compose(
            [
                transforms.Resize((self.case.size, self.case.size)),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(mean, mean),
            ]
        )
        return DataLoader(
            Files(faces, mode(self.case), transform),
            self.case.batch,
            shuffle=True,
            num_workers=WORKERS,
            drop_last=True,
            persistent_workers=True,
            pin_memory=self.device.type == "cuda",
        )

    def turn(self) -> float:
        def epoch() -> int:
            seen = 0
            for images, ages in self.loader:
                images, ages = images.to(self.device), ages.to(self.device)
                logits = self.model(images)
                loss = coral_loss(logits, levels_from_labelbatch(ages, YEARS).to(self.device))
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                loss.item()  # for the running mean that such scripts print
                seen += len(images)
            return seen

        start = time.perf_counter()
        return epoch() / (time.perf_counter() - start)


class TimmLoader(PlainScript):
    def make_loader(self, faces: Faces) -> Any:
        return timm.data.create_loader(
            Files(faces, mode(self.case)),
            (self.case.chans, self.case.size, self.case.size),
            self.case.batch,
            is_training=True,
            scale=(0.9, 1.0),
            mean=(0.5,) * self.case.chans,
            std=(0.5,) * self.case.chans,
            num_workers=WORKERS,
            persistent_workers=True,
            use_prefetcher=self.device.type == "cuda",
            device=self.device,
        )


class Keras:
    def __init__(self, case: Case, faces: Faces, device: torch.device) -> None:
        import keras

        spec = ImageSpec(case.size, case.chans)
        pixels = np.zeros((len(faces.paths), case.size, case.size, case.chans), np.uint8)
        spec.decode_into(pixels, range(len(pixels)), lambda place: faces.paths[place].read_bytes())
        self.images, self.target = pixels.astype("float32") / 255, np.minimum(np.array(faces.ages) // 10, 9)
        self.batch = case.batch
        layers = keras.layers
        self.model = keras.Sequential(
            [
                layers.Input((case.size, case.size, case.chans)),
                layers.Conv2D(64, 3, activation="relu"),
                layers.Conv2D(32, 3, activation="relu"),
                layers.Flatten(),
                layers.Dense(10, activation="softmax"),
            ]
        )
        self.model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        self.turn()

    def turn(self) -> float:
        start = time.perf_counter()
        self.model.fit(self.images, self.target, batch_size=self.batch, epochs=1, verbose=0)
        return len(self.images) / (time.perf_counter() - start)


def parse_case(text: str) -> Case:
    model, *numbers = text.split(":")
    return Case(model, *map(int, numbers))


def make_backbone(case: Case) -> Any:
    options = {"img_size": case.size} if timm.get_pretrained_cfg(case.model).fixed_input_size else {}
    return timm.create_model(case.model, num_classes=0, in_chans=case.chans, **options)


def features_of(backbone: Any) -> int:
    return getattr(backbone, "head_hidden_size", None) or backbone.num_features


def mode(case: Case) -> str:
    return "L" if case.chans == 1 else "RGB"


def seconds(work: Callable[[], object], device: torch.device) -> float:
    synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    synchronize()
    start = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - start


def all_contenders(case: Case, device: torch.device) -> Iterator[tuple[str, type]]:
    yield "bare step", BareStep
    if case.model not in OWN_NETS:
        yield "fused step", FusedStep
    yield from (("fit", Fit), ("plain script", PlainScript), ("timm loader", TimmLoader))
    if case.model == "seed_cnn" and find_spec("tensorflow") is not None and device.type == "cpu":
        yield "Keras", Keras


def collect(source: str | None, count: int, folder: Path) -> Faces:
    """Put so many JPEG files into one folder: of a data set, or drawn ones."""
    if source is None:
        drawn = draw(count, 200)
        names = [f"{age}_0_0_{place}.jpg" for place, age in enumerate(drawn.ages)]
        for name, pixels in zip(names, drawn.images, strict=True):
            Image.fromarray(pixels).save(folder / name, quality=90)
        return Faces(folder, [folder / name for name in names], [int(age) for age in drawn.ages])
    table = read(DataConfig(data=source)).table.sample(count, random_state=0)
    for path in table["path"]:
        (folder / Path(path).name).symlink_to(Path(path).resolve())
    return Faces(folder, [Path(path) for path in table["path"]], [min(int(age), YEARS - 1) for age in table["low"]])


def measure(case: Case, faces: Faces, device: torch.device, rounds: int, only: set[str]) -> dict[str, list[float]]:
    """Return the images per second of each contender in each round."""
    context = multiprocessing.get_context("spawn")
    running: dict[str, Connection] = {}
    for name, kind in all_contenders(case, device):
        if only and name not in {"fit", *only}:
            continue
        running[name], far = context.Pipe()
        context.Process(target=serve, args=(kind, case, faces, device, far)).start()
        far.close()
    for pipe in running.values():  # they start side by side; before the first turn all are ready, and quiet
        pipe.recv()
    rates: dict[str, list[float]] = {name: [] for name in running}
    for _ in range(rounds):
        for name, pipe in running.items():
            pipe.send("turn")
            rates[name].append(pipe.recv())
    for pipe in running.values():
        pipe.close()
    return rates


def serve(kind: type, case: Case, faces: Faces, device: torch.device, pipe: Connection) -> None:
    """Take a turn whenever the other end of the pipe asks for one, and end when it is closed."""
    contender = kind(case, faces, device)
    pipe.send("ready")
    with suppress(EOFError):
        while pipe.recv():
            pipe.send(contender.turn())


def main(
    folder: Annotated[str | None, typer.Argument(help="A data set of JPEG files; drawn faces without.")] = None,
    images: Annotated[int, typer.Option(help="Files that are trained on.")] = 4000,
    rounds: Annotated[int, typer.Option(help="Turns of each contender.")] = 3,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where to train.")] = "cpu",
    models: Annotated[str, typer.Option(help="Nets, with commas between; all without.")] = "",
    more: Annotated[str, typer.Option(help="Cases beside these: net:size:channels:batch, commas between.")] = "",
    contenders: Annotated[str, typer.Option(help="Beside fit, with commas between; all without.")] = "",
    markdown: Annotated[bool, typer.Option("--markdown", help="A Markdown table.")] = False,
) -> None:
    """Measure training of `ordage fit` beside the bare step, a plain script, timm's loader and Keras."""
    title = f"{images:,} images, {os.cpu_count()} cores, torch {torch.__version__}, {device}"
    headings = ("net", "contender", "img/s", "slowest, fastest round", "fit ÷ contender")
    print(title, end="\n\n")
    if markdown:
        print_markdown([headings, ("---",) * len(headings)])
    with tempfile.TemporaryDirectory() as place:
        faces = collect(folder, images, Path(place))
        wanted = [case for case in CASES if not models or case.model in models.split(",")]
        for case in (*wanted, *map(parse_case, filter(None, more.split(",")))):
            rates = measure(case, faces, torch.device(device), rounds, set(filter(None, contenders.split(","))))
            net = f"{case.model}, {case.size} px, batch {case.batch}"
            rows = []
            for name in rates:
                share = median(ours / theirs for ours, theirs in zip(rates["fit"], rates[name], strict=True))
                spread = f"{min(rates[name]):,.0f}, {max(rates[name]):,.0f}"
                rows.append((net, name, f"{median(rates[name]):,.0f}", spread, f"{share:.3f}"))
            if markdown:
                print_markdown(rows)
            else:
                print_table(headings, rows)


def print_markdown(rows: Sequence[tuple[str, ...]]) -> None:
    print(*("| " + " | ".join(row) + " |" for row in rows), sep="\n", flush=True)


def print_table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    table = Table()
    for heading in headings:
        table.add_column(heading, justify="right" if heading in headings[2:] else "left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
