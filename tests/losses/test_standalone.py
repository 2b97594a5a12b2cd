"""The folder is usable without the rest: copied under another name, with torch alone."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ordage.losses

OTHERS = ["numpy", "pandas", "scipy", "timm", "torchvision", "sklearn", "typer", "accelerate", "pydantic", "rich"]


def run(script, cwd, blocked):
    # A module that is None is one that is not installed, also to those who only look for it.
    code = f"import sys\nsys.modules.update(dict.fromkeys({blocked!r}))\n{script}"
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def copied(tmp_path):
    shutil.copytree(Path(ordage.losses.__file__).parent, tmp_path / "borrowed", ignore=shutil.ignore_patterns("__*__"))
    shutil.copy(ordage.losses.__file__, tmp_path / "borrowed")
    return tmp_path


@pytest.mark.slow
def test_copy_under_another_name_keeps_the_contract_with_torch_alone(tmp_path):
    script = """
import torch
torch.set_num_threads(1)
from borrowed import available
from borrowed.testing import CHECKS, factory

for name in available():
    for check in CHECKS.keys() - ({"head"} if name == "coral" else set()):
        CHECKS[check](factory(name))
CHECKS["head"](factory("coral", monotone=True))
"""
    run(script, copied(tmp_path), [*OTHERS, "ordage", "losses", "coral_pytorch"])


def test_head_of_coral_says_what_to_install(tmp_path):
    script = """
from borrowed import CoralLoss
try:
    CoralLoss(5).make_head(3)
except ImportError as error:
    assert "pip install coral-pytorch" in str(error) and "monotone=True" in str(error), error
else:
    raise AssertionError("no error")
"""
    run(script, copied(tmp_path), [*OTHERS, "ordage", "coral_pytorch"])


def test_import_brings_nothing_but_torch(tmp_path):
    script = """
import torch
before = set(sys.modules)
import borrowed
new = {name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
assert new == {"borrowed"}, new
assert not [name for name in set(sys.modules) - before if name.startswith(("torch", "borrowed.testing"))]
"""
    run(script, copied(tmp_path), [])


def test_installed_package_needs_nothing_that_the_rest_of_the_project_needs(tmp_path):
    script = """
import torch
from ordage.losses import CoralLoss

loss = CoralLoss(num_classes=5)
logits = loss.make_head(3)(torch.zeros(2, 3))
loss(logits, torch.tensor([0, 4])).backward()
"""
    run(script, tmp_path, OTHERS)
