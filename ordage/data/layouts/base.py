"""One registry of the ways in which age data lies on disk; a layout says whether it fits and reads the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import DataError, UsageError, did_you_mean
from ..ages import parse_age

if TYPE_CHECKING:
    from ...config import TrainingConfig
    from ..manifest import Manifest

__all__ = ["MAX_AGE", "Layout", "age_row", "read", "register"]

MAX_AGE = 120.0  # years; anything above is a stamp, an id or a typing error, not an age

_LAYOUTS: dict[str, Layout] = {}


@dataclass(frozen=True)
class Layout:
    """A way in which data lies on disk.

    Attributes:
        name: what ``--layout`` calls it.
        recognise: takes the path, returns why it is this layout, or ``None`` when it is not.
        read: makes the manifest; the ``reason`` is passed through.
    """

    name: str
    recognise: Callable[[Path], str | None]
    read: Callable[[Path, TrainingConfig, str], Manifest]


def register(layout: Layout) -> Layout:
    """Make a layout known; those registered first are tried first."""
    _LAYOUTS[layout.name] = layout
    return layout


def read(options: TrainingConfig) -> Manifest:
    """Read the manifest of ``options.data`` in the layout named, else in the first one that recognises it.

    Raises:
        DataError: nothing there, or no layout fits.
        UsageError: no such layout.
    """
    path = Path(options.data)
    if options.layout is not None:
        if options.layout not in _LAYOUTS:
            known = ", ".join(_LAYOUTS)
            raise UsageError(
                f"--layout {options.layout}: expected one of {known}{did_you_mean(options.layout, _LAYOUTS)}"
            )
        layout, reason = _LAYOUTS[options.layout], "named by --layout"
    else:
        layout, reason = _recognise(path)
    if layout.name != "demo" and not path.exists():
        raise DataError(f"{path}: no such file or folder")
    return layout.read(path, options, reason)


def _recognise(path: Path) -> tuple[Layout, str]:
    for layout in _LAYOUTS.values():
        if (reason := layout.recognise(path)) is not None:
            return layout, reason
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; expected a folder, a table, arrays, or 'demo'")
    if path.is_dir() and not any(path.iterdir()):
        raise DataError(f"{path}: the folder is empty; expected images whose age stands in a name, a folder or a table")
    raise DataError(
        f"{path}: not recognised as any of {', '.join(_LAYOUTS)}; name its layout by --layout, or make a table with "
        "the columns image and age"
    )


def age_row(sample: str, text: str, **fields: object) -> dict[str, object]:
    """Return a row of the manifest's table for an age as written.

    Raises:
        ValueError: the text is no age, or none that a person can have; the message is a reason for ``rejected.csv``.
    """
    interval = parse_age(text)
    if interval is None:
        raise ValueError(f"no age in {text!r}")
    if interval[0] > MAX_AGE:
        raise ValueError(f"age {interval[0]:g} is above {MAX_AGE:g}")
    return {"id": sample, "low": interval[0], "high": interval[1], **fields}
