"""Rows as CSV, JSON lines or parquet, to a file that is there whole or not at all, or to stdout."""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import pandas as pd

from .errors import MissingError, UsageError

__all__ = ["FORMATS", "Writer", "format_of", "row_file"]

FORMATS = ("csv", "jsonl", "parquet")
SUFFIXES = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pq": "parquet"}

Writer = Callable[[pd.DataFrame], None]


def format_of(path: Path | None, asked: str | None) -> str:
    """Return the format that was asked for, else that of the file's name, else CSV.

    Raises:
        UsageError: a format that there is not, or that stdout cannot take.
    """
    if asked is not None and asked not in FORMATS:
        raise UsageError(f"--format {asked}: expected one of {', '.join(FORMATS)}")
    found = asked or (SUFFIXES.get(path.suffix.lower()) if path is not None else None) or "csv"
    if found == "parquet" and path is None:
        raise UsageError("--format parquet: is no text; name a file by --out")
    return found


@contextmanager
def row_file(path: Path | None, kind: str) -> Iterator[Writer]:
    """Open what rows are written to; a file is there whole once the block is over, or not at all.

    Args:
        path: the file; stdout without.
        kind: one of `FORMATS`.

    Raises:
        MissingError: parquet without what writes it.
    """
    if path is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="surrogateescape")  # a file name need not be text
        yield _text_writer(sys.stdout, kind)
        return
    part = path.with_name(path.name + ".part")
    try:
        if kind == "parquet":
            frames: list[pd.DataFrame] = []
            yield frames.append
            try:
                pd.concat(frames or [pd.DataFrame()], ignore_index=True).to_parquet(part, index=False)
            except ImportError:
                raise MissingError("--format parquet: needs pyarrow; pip install pyarrow") from None
        else:
            with part.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                yield _text_writer(file, kind)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _text_writer(file: TextIO, kind: str) -> Writer:
    begun = False

    def write_csv(frame: pd.DataFrame) -> None:
        nonlocal begun
        frame.to_csv(file, index=False, header=not begun, lineterminator="\n")
        begun = True

    def write_lines(frame: pd.DataFrame) -> None:
        for row in frame.to_dict("records"):
            plain = {str(name): None if pd.isna(value) or value == math.inf else value for name, value in row.items()}
            file.write(json.dumps(plain, ensure_ascii=False, allow_nan=False) + "\n")

    return write_csv if kind == "csv" else write_lines
