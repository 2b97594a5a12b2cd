import subprocess
import sys

import pytest
import timm
import torch

from ordage.devices import choose_precision, seed_generators

FAULTS = """
import resource, sys, torch
from ordage.devices import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
torch.zeros(10_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.zeros(10_000_000)  # 40 MB, 9,766 pages of 4 KiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how):
    command = [sys.executable, "-c", FAULTS, how]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.slow
def test_the_pages_of_freed_tensors_are_used_again():
    assert faults("keep") < 0.1 * faults("give back")


def test_seeding_draws_what_torch_would_draw():
    torch.manual_seed(7)
    expected = torch.rand(5)
    torch.rand(3)
    seed_generators(torch.device("cpu"), 7)

    assert torch.equal(torch.rand(5), expected)


@pytest.mark.parametrize(("name", "precision"), [("resnet18", "bf16"), ("mobilenetv3_small_100", "fp32")])
def test_a_cpu_with_bf16_trains_in_it_but_for_depthwise_convolutions(name, precision, monkeypatch):
    net = timm.create_model(name)
    device = torch.device("cpu")

    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    assert choose_precision(device, net) == precision
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    assert choose_precision(device, net) == "fp32"
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert choose_precision(device, net) == "fp32"
