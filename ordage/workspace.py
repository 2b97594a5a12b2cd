"""Where work goes: a directory that is named, found by its options, or made; and what may be done to it."""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from .config import DataConfig, TrainingConfig, read_yaml
from .errors import OrdageError, UsageError
from .runs import CONFIG, REPORT

__all__ = ["agree", "choose_directory", "claim_directory", "file_name", "merge_options"]

C = TypeVar("C", bound=TrainingConfig)
OPEN = (None, "auto", "find")  # values that leave it to ordage; what it chose is saved


def merge_options(config: DataConfig | Mapping[str, Any] | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that are given, those by keyword before those of ``config``, paths made absolute."""
    given = config.to_dict() if isinstance(config, DataConfig) else dict(config or {})
    given.update(options)
    for name in ("image_root", "weights", "splits"):
        if given.get(name) is not None:
            given[name] = os.path.abspath(given[name])
    if "data" in given:
        given["data"] = _place(given["data"])
    return given


def _place(data: Any) -> str:
    """Return where the data is: an absolute path, unless it is no path."""
    named = str(data or "demo")
    return named if named == "demo" or named.startswith("hf:") else os.path.abspath(named)


def choose_directory(
    out: Path, name: str | None, given: Mapping[str, Any], asked: TrainingConfig, *, resume: bool, overwrite: bool
) -> tuple[Path | None, bool]:
    """Return the directory that is named or found, and whether it holds earlier work to go on from."""
    if resume and overwrite:
        raise UsageError("--resume and --overwrite exclude each other")
    if name is not None:
        return out / name, _open_directory(out / name, resume=resume, overwrite=overwrite)
    if overwrite:
        raise UsageError("--overwrite: say which run by --name")
    if not resume:
        return None, False
    found = _find_resumable(out, {option: value for option, value in asked.to_dict().items() if option in given}, asked)
    if found is None:
        raise UsageError(f"--resume: nothing in {out} agrees with these options; name it by --name")
    return found, True


def agree(saved: C, asked: C, given: Mapping[str, Any]) -> C:
    """Return the saved options, once those given now do not contradict them."""
    for option in given:
        was, wanted = getattr(saved, option), getattr(asked, option)
        if was != wanted and wanted not in OPEN:
            flag = "--" + option.replace("_", "-")
            raise UsageError(f"{flag} {wanted}: what is to be resumed has {was}; leave it out, or start another")
    return saved


def claim_directory(out: Path, path: Path | None, what: str, *, overwrite: bool) -> Path:
    """Make the directory once everything is known to be in order, and return it.

    Args:
        out: the folder of all runs.
        path: the directory that `choose_directory` returned; without one it is named by the time and ``what``.
        what: a short description.
        overwrite: delete what ``path`` holds, which `choose_directory` has found to be ordage's own.
    """
    try:
        if path is not None:
            if overwrite and path.exists():
                shutil.rmtree(path)
            path.mkdir(parents=True, exist_ok=True)
            return path
        out.mkdir(parents=True, exist_ok=True)
        stamp = datetime.now().strftime("%Y-%m-%d_%H%M%S")
        for count in itertools.count():
            path = out / f"{stamp}_{file_name(what)}{f'_{count}' if count else ''}"
            with suppress(FileExistsError):  # another run that was started in the same second
                path.mkdir()
                return path
    except OSError as error:
        raise UsageError(f"--out {out}: {error.strerror or error}") from None
    raise AssertionError("unreachable")


def file_name(text: str) -> str:
    """Return ``text`` with nothing in it that a file system takes amiss."""
    return re.sub(r"[^\w.-]+", "-", text)


def _open_directory(path: Path, *, resume: bool, overwrite: bool) -> bool:
    """Make sure that ``path`` may be used; return whether it holds earlier work to go on from. Nothing is deleted yet.

    Raises:
        UsageError: it is not empty and neither ``resume`` nor ``overwrite`` says what to do, or ``overwrite`` would
            delete something that no run wrote.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return False
    if not path.is_dir():
        raise UsageError(f"{path}: is a file; name another directory by --out and --name")
    if overwrite:
        if not (path / CONFIG).exists():
            raise UsageError(f"{path}: --overwrite deletes only what ordage wrote, and it has no {CONFIG}")
        return False
    if not resume:
        raise UsageError(f"{path}: is not empty; go on with it by --resume, replace it by --overwrite, or name another")
    if not (path / CONFIG).exists():
        raise UsageError(f"{path}: nothing to resume, it has no {CONFIG}")
    return True


def _find_resumable(out: Path, given: Mapping[str, Any], like: TrainingConfig) -> Path | None:
    """Return the newest directory under ``out`` whose saved options agree with those given now.

    Unfinished work comes before finished work.

    Args:
        out: the folder of all runs.
        given: the options that the user states, as they are saved.
        like: tells runs and comparisons apart by the fields that they save.
    """
    found = []
    for config in out.glob(f"*/{CONFIG}"):
        try:
            saved = read_yaml(config)
        except OrdageError:  # somebody else's file
            continue
        agrees = all(saved.get(name) == value for name, value in given.items() if value not in OPEN)
        if saved.keys() == like.to_dict().keys() and agrees:
            found.append(config.parent)
    return max(found, key=lambda path: (not (path / REPORT).exists(), os.path.getmtime(path / CONFIG)), default=None)
