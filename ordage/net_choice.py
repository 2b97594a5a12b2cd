"""Which built-in net is taken where nobody asks for one, and how many; benchmarks/recipes.md has the evidence."""

from __future__ import annotations

import dataclasses
import math
import time

import timm
import torch

from .model import Plan

__all__ = ["MANY", "choose_net"]

NETS = ("ordage_base", "ordage_small", "ordage_tiny")  # the largest first
ENOUGH = 20  # epochs; with fewer, a smaller net is further on after the same time
PER_MEMBER = 15  # epochs; a net that has time for twice as many learns images by heart, and two of them err less
MOST_MEMBERS = 4  # what a further one brings gets small, and each takes its time to predict
MANY = 25  # epochs, from which on images are learned by heart unless they are changed more
USED = 0.7  # share of a time limit that goes forward and backward; the rest validates, changes weights and images
UNTIMED, TIMED = 1, 3  # steps
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}  # what autocast calls them


def choose_net(
    plan: Plan,
    device: torch.device,
    precision: str,
    seconds: float | None,
    samples: int,
    batch_size: int,
    members: int | None = None,
) -> tuple[Plan, int | None]:
    """Return the plan with the largest built-in net that sees each image often enough, and how often in the time limit.

    Time for more goes into several of them.

    Args:
        plan: with any of the built-in nets; the input is the same for all.
        device: where it will be trained.
        precision: in which it will be trained.
        seconds: the time limit, if there is one; some steps of each net are timed then.
        samples: images of the training part.
        batch_size: images of a step.
        members: how many nets, if that is not to be chosen.
    """
    if seconds is None:
        if device.type == "cpu":
            return dataclasses.replace(plan, model=NETS[-1], reason="quick on a CPU; --time-limit lets it grow"), None
        return dataclasses.replace(plan, model=NETS[0], reason="the largest built-in net, for a GPU"), None
    epochs = 0
    for name in NETS:
        rate = batch_size / _step_seconds(name, plan, device, precision, batch_size)
        epochs = math.floor(USED * seconds * rate / samples / (members or 1))
        if epochs >= ENOUGH:
            break
    if members is None:
        members = min(max(epochs // PER_MEMBER, 1), MOST_MEMBERS)
        epochs //= members
    reason = f"about {epochs} epochs in {seconds:g} s by a first timing"
    return dataclasses.replace(plan, model=name, members=members, reason=reason), epochs


def _step_seconds(name: str, plan: Plan, device: torch.device, precision: str, batch_size: int) -> float:
    """Return the shortest of some steps: what else the machine does meanwhile makes them longer, never shorter."""
    size, chans = plan.spec.size, plan.spec.chans
    net = timm.create_model(name, num_classes=0, in_chans=chans, img_size=size)
    net = net.to(device, memory_format=torch.channels_last).train()
    images = torch.randn(batch_size, chans, size, size, device=device).contiguous(memory_format=torch.channels_last)
    times = []
    for _ in range(UNTIMED + TIMED):
        begun = time.perf_counter()
        with torch.autocast(device.type, HALF.get(precision), enabled=precision in HALF):
            value = net(images).sum()
        value.backward()
        value.item()  # waits for the device
        times.append(time.perf_counter() - begun)
    return min(times[UNTIMED:])
