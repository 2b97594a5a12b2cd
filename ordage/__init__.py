"""Predict an ordered quantity, such as age, from images: ordinal losses, fair comparison, honest evaluation.

``ordage.fit``, ``ordage.compare`` and ``ordage.load`` do what the commands of the same names do. They are imported at
first use, so that ``import ordage`` and ``ordage --help`` stay quick.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .comparison import Comparison, compare
    from .config import CompareConfig, RunConfig
    from .errors import OrdageError
    from .fitting import fit
    from .inspection import inspect
    from .predictor import Predictor, load
    from .runs import Run

_HOME = {
    "compare": "comparison",
    "Comparison": "comparison",
    "CompareConfig": "config",
    "RunConfig": "config",
    "OrdageError": "errors",
    "fit": "fitting",
    "inspect": "inspection",
    "load": "predictor",
    "Predictor": "predictor",
    "Run": "runs",
}

__all__ = [
    "CompareConfig",
    "Comparison",
    "OrdageError",
    "Predictor",
    "Run",
    "RunConfig",
    "compare",
    "fit",
    "inspect",
    "load",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("ordage")
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
