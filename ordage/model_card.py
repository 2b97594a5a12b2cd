"""The card that travels with an exported model: what it is, what it was made of, how well it does, how to use it."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ordage import losses
from ordage.eval.tables import tables_of

from .answers import OUTPUTS, can_resize
from .model import parse_loss
from .runs import Run

if TYPE_CHECKING:
    from .predictor import Predictor

__all__ = ["CARD", "model_card"]

CARD = "README.md"
FRONT_MATTER = """---
library_name: ordage
pipeline_tag: image-classification
tags:
- age-estimation
- ordinal-regression
- {model}
---"""
USE = """## Use

```python
import ordage

ages = ordage.load(".")(["face.jpg"])  # this folder, or hf:user/name where it lies on the hub
ages.age, ages.interval, ages.bin, ages.probs
```"""
ONNX_USE = """`model.onnx` needs neither ordage nor PyTorch:

```python
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
age, low, high, bin_probabilities, class_probabilities = session.run(None, {"images": images})
```"""
TORCH_USE = """`model.pt2` needs PyTorch alone:

```python
import torch

program = torch.export.load("model.pt2").module()
age, low, high, bin_probabilities, class_probabilities = program(torch.from_numpy(images))
```"""
INTENDED = """## Intended use and limits

For research on, and applications of, the estimation of an ordered quantity such as age from images like those of the
training set, prepared alike: the same crop, the same kind of camera and people. The answer is a guess with an interval,
not a measurement: it must not be what a decision about a single person rests on, such as access or identity.

- It cannot say an age outside of {lowest} to {highest}, the classes that it was trained on.
- For people and ages of which the training set has few, the answers are worse than for others{groups}.
- The interval's promise holds over images that are drawn as those of the validation set were, not in each group.
- The terms of the training images and of pretrained weights go on to hold for what was made of them."""


def model_card(path: Path, predictor: Predictor, folder: Path, judged_by: str) -> str:
    """Return the card as Markdown, with the front matter that the Hugging Face hub reads.

    Args:
        path: the run, whose data, protocol and figures the card then tells, or a folder with a model.
        predictor: the model.
        folder: where the card will stand; what else is there is described.
        judged_by: the views that the model was judged by, if these are not its own now.
    """
    run = Run(path)
    judged: list[str] = []
    has_groups = False
    if run.finished:
        figures, has_groups = _figures(run)
        judged = [_data(run), "## Figures on the test part", *_other_views(predictor, judged_by), *figures]
    parts = [
        FRONT_MATTER.format(model=predictor.name),
        f"# {_title(predictor)}",
        _model(predictor),
        *judged,
        *_use(predictor, folder),
        _limits(predictor, has_groups=has_groups),
    ]
    return "\n\n".join(parts) + "\n"


def _title(predictor: Predictor) -> str:
    return f"{predictor.name} with {predictor.loss}, by ordage"


def _model(predictor: Predictor) -> str:
    spec, classes = predictor.spec, predictor.classes
    parameters = sum(parameter.numel() for parameter in predictor.model.parameters())
    source = losses.get(parse_loss(predictor.loss)[0]).source
    several = f" ({members} side by side)" if (members := predictor.model.members) > 1 else ""
    lines = [
        f"- backbone: {predictor.name}{several}, {parameters:,} parameters, "
        f"{'grey' if spec.chans == 1 else 'RGB'} images of {spec.size} x {spec.size} pixels "
        f"({spec.fit}, {spec.interpolation})",
        f"- loss: {predictor.loss} ({source})",
        f"- classes: {len(classes)}, {classes.labels[0]} to {classes.labels[-1]} {classes.unit}; "
        f"judged on the bins {', '.join(predictor.bins.labels)}",
        f"- test-time views: {predictor.model.tta}",
    ]
    if (calibration := predictor.calibration) is not None:
        temperature = "" if calibration.temperature is None else f"temperature {calibration.temperature:.3f}, "
        lines.append(
            f"- calibration: {temperature}intervals that hold the true age with probability "
            f"{calibration.intervals.coverage:g}, from {calibration.intervals.n:,} validation images"
        )
    return "\n".join(lines)


def _data(run: Run) -> str:
    report, config = run.report, run.config
    data, training = report["data"], report["training"]
    parts = ", ".join(f"{count:,} for {part}" for part, count in data["parts"].items())
    source = Path(str(data["source"])).name or str(data["source"])
    return (
        f"## Data and protocol\n\nTrained on {source}: {parts}.\n\n"
        f"Seed {report['seed']}, {training['epochs']} epochs, of which the one with the least validation MAE "
        f"({training['best_epoch']}) was kept; {config.opt} at {config.lr:g} in batches of {config.batch_size}, "
        f"augmentation {config.augment}. The test part chose nothing."
    )


def _figures(run: Run) -> tuple[list[str], bool]:
    """Return what the report says of the test part, and whether it says it by group."""
    from .report.content import run_content

    content = run_content(run)
    evaluation = content.models[0].judged.evaluation
    tables = tables_of(evaluation, str(run.report["loss"]))
    told = [*(f"**{sentence}**" for sentence in content.verdicts), *content.warnings]
    return [*told, *(table.to_markdown() for table in tables)], bool(evaluation.groups)


def _other_views(predictor: Predictor, judged_by: str) -> list[str]:
    own = predictor.model.tta
    if own == judged_by:
        return []
    return [f"These are of the views `{judged_by}`; the model in this folder answers by `{own}`, which was not judged."]


def _use(predictor: Predictor, folder: Path) -> list[str]:
    found = [USE]
    files = {"model.onnx": ONNX_USE, "model.pt2": TORCH_USE}
    present = [text for name, text in files.items() if (folder / name).exists()]
    if present:
        found += present
        spec = predictor.spec
        size = "of any size" if can_resize(spec) else f"of {spec.size} x {spec.size} pixels"
        chans = "grey" if spec.chans == 1 else "RGB"
        found.append(f"`images` is uint8 `(N, H, W, {spec.chans})`, {chans}, upright, {size}. The answers:")
        found.append("\n".join(f"- `{name}`: {what}" for name, what in OUTPUTS.items()))
    return found


def _limits(predictor: Predictor, *, has_groups: bool) -> str:
    labels = predictor.classes.labels
    groups = "; the figures by group above say how much" if has_groups else ""
    told = INTENDED.format(lowest=labels[0], highest=labels[-1], groups=groups)
    return f"{told}\n\nMade by ordage {version('ordage')}."
