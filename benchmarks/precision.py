"""Which nets a CPU trains faster in bf16: one step forward and backward in float32 and under autocast, in turn."""

import time
from contextlib import nullcontext
from typing import Annotated

import timm
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch.nn import functional

import ordage.nets  # noqa: F401  # timm knows the built-in nets from here on
from ordage.devices import has_depthwise, keep_freed_memory

# name, pixels, channels, batch
NETS = (
    ("seed_cnn", 28, 1, 32),
    ("ordage_tiny", 28, 1, 128),
    ("ordage_small", 28, 1, 128),
    ("ordage_base", 64, 3, 64),
    ("resnet18", 64, 3, 64),
    ("resnet50", 64, 3, 32),
    ("repvgg_a0", 64, 3, 32),
    ("densenet121", 64, 3, 32),
    ("resnext50_32x4d", 64, 3, 32),
    ("regnety_002", 64, 3, 32),
    ("vit_tiny_patch16_224", 224, 3, 8),
    ("swin_tiny_patch4_window7_224", 224, 3, 4),
    ("convnext_atto", 64, 3, 32),
    ("mobilenetv3_small_100", 64, 3, 64),
    ("efficientnet_b0", 64, 3, 32),
    ("tf_efficientnet_lite0", 128, 3, 16),
)


def milliseconds(model: torch.nn.Module, images: torch.Tensor, precision: str, limit: float) -> float:
    """Return the mean time of the steps that fit into a time."""
    target = torch.zeros(len(images), dtype=torch.long)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext():
            logits = model(images)
        functional.cross_entropy(logits.float(), target).backward()
        model.zero_grad()

    step()
    count, begun = 0, time.perf_counter()
    while (spent := time.perf_counter() - begun) < limit or not count:
        step()
        count += 1
    return 1000 * spent / count


def main(
    rounds: Annotated[int, typer.Option(help="Turns of each precision; the shortest of them counts.")] = 3,
    limit: Annotated[float, typer.Option(help="Seconds of a turn.")] = 1.0,
) -> None:
    """Time training steps of several nets in both precisions."""
    keep_freed_memory()
    table = Table("net", "pixels", "depthwise", "fp32, ms", "bf16, ms", "fp32 / bf16")
    for name, size, chans, batch in NETS:
        options = {"img_size": size} if timm.get_pretrained_cfg(name).fixed_input_size else {}
        model = timm.create_model(name, num_classes=10, in_chans=chans, **options).train()
        model = model.to(memory_format=torch.channels_last)
        images = torch.randn(batch, chans, size, size).contiguous(memory_format=torch.channels_last)
        times = {precision: float("inf") for precision in ("fp32", "bf16")}
        for _ in range(rounds):
            for precision in times:
                times[precision] = min(times[precision], milliseconds(model, images, precision, limit))
        shown = [f"{times['fp32']:.0f}", f"{times['bf16']:.0f}", f"{times['fp32'] / times['bf16']:.2f}"]
        table.add_row(name, str(size), "yes" if has_depthwise(model) else "no", *shown)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
