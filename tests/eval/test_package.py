import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import ordage.eval

BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError(f"{{name}} is blocked")
        return None

sys.meta_path.insert(0, Blocker())
"""
NOT_OURS = ["torch", "torchvision", "timm", "accelerate", "typer", "pydantic", "rich", "coral_pytorch"]
USE = """
bins = eval.OrdinalScale.parse("0-10,11+")
said = eval.Predictions.from_probs([[0.9, 0.1], [0.2, 0.8]], bins, age=[3, 30])
assert eval.evaluate(said).test["bin_accuracy"] == 1
assert eval.paired_bootstrap([1.0, 2.0, 3.0], [2.0, 4.0, 5.0], n_resamples=10).difference < 0
"""


def run(script, cwd):
    done = subprocess.run([sys.executable, "-c", script], cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_import_needs_numpy_only(tmp_path):
    blocked = [*NOT_OURS, "scipy", "sklearn", "pandas", "matplotlib"]

    run(BLOCKER.format(blocked=blocked) + "import ordage.eval; ordage.eval.OrdinalScale.tens(90)", tmp_path)


def test_evaluation_works_without_torch_and_its_relatives(tmp_path):
    run(BLOCKER.format(blocked=NOT_OURS) + "from ordage import eval" + USE, tmp_path)


def test_folder_works_under_another_name(tmp_path):
    shutil.copytree(Path(ordage.eval.__file__).parent, tmp_path / "judging")

    run(BLOCKER.format(blocked=[*NOT_OURS, "ordage"]) + "import judging as eval" + USE, tmp_path)


@pytest.mark.parametrize("name", ordage.eval.__all__)
def test_public_names_exist_and_are_documented(name):
    assert getattr(ordage.eval, name).__doc__


def test_every_imported_name_is_listed_as_public():
    imported = {name for name, value in vars(ordage.eval).items() if not isinstance(value, ModuleType)}

    assert {name for name in imported if not name.startswith("_")} == set(ordage.eval.__all__)
