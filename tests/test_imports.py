"""The direction of the dependencies: losses and evaluation know neither each other nor the rest."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ordage

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


CHAIN = ("cli", "fitting comparison inspection", "cell", "training", "learner", "model data", "losses eval")
RANK = {module: rank for rank, modules in enumerate(CHAIN) for module in modules.split()}


def imported(path, package):
    """Return the parts of ``ordage`` that a file imports when it runs, wherever in it that stands."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            parts = [*base, *(node.module or "").split(".")] if node.module else base
            for alias in node.names:
                full = [*parts, alias.name]
                if full[0] == "ordage":
                    yield full[1]


@pytest.mark.parametrize("module", [module for module in RANK if module not in ("losses", "eval")])
def test_no_part_imports_one_before_it_in_the_chain(module):
    root = Path(ordage.__file__).parent
    paths = sorted((root / module).rglob("*.py")) if (root / module).is_dir() else [root / f"{module}.py"]
    found = {name for path in paths for name in imported(path, ["ordage", *path.relative_to(root).parts[:-1]])}

    assert found  # the files are read right
    assert {name for name in found if RANK.get(name, len(CHAIN)) < RANK[module]} == set()
