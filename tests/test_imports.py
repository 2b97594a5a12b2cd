"""The direction of the dependencies: losses and evaluation know neither each other nor the rest."""

import subprocess
import sys

import pytest

PROGRAM = """
import importlib.abc
import sys

class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in {blocked!r} or name.startswith({prefixes!r}):
            raise ImportError(f"{{name}} is blocked")
        return None

sys.meta_path.insert(0, Block())
{statements}
"""

HEAVY = (
    "timm",
    "torchvision",
    "accelerate",
    "sklearn",
    "scipy",
    "pandas",
    "typer",
    "rich",
    "pydantic",
    "coral_pytorch",
)


@pytest.mark.parametrize(
    ("statements", "blocked", "prefixes"),
    [
        ("from ordage.losses import CoralLoss; CoralLoss(num_classes=5)", HEAVY, ("ordage.eval", "ordage.data")),
        (
            "from ordage.eval import OrdinalScale; OrdinalScale.tens(60)",
            ("torch", *HEAVY),
            ("ordage.losses", "ordage.data", "ordage.model"),
        ),
        ("import ordage; ordage.fit", ("torch", "timm", "accelerate"), ("ordage.model", "ordage.training")),
        ("import ordage; ordage.RunConfig()", ("torch", "numpy", *HEAVY), ("ordage.data", "ordage.eval")),
    ],
)
def test_each_part_imports_nothing_that_it_may_not(statements, blocked, prefixes):
    program = PROGRAM.format(statements=statements, blocked=blocked, prefixes=prefixes)

    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert result.returncode == 0, result.stderr


def test_data_and_training_do_not_import_the_commands():
    program = (
        "import sys, ordage.training, ordage.data.dataset; print([m for m in sys.modules if m.startswith('ordage')])"
    )

    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    for module in ("ordage.cli", "ordage.fitting", "ordage.comparison", "ordage.tables", "typer"):
        assert f"'{module}'" not in result.stdout
