"""Files that are there whole or not at all."""

from __future__ import annotations

from pathlib import Path

__all__ = ["write_whole"]


def write_whole(path: Path, text: str) -> None:
    """Write a text file beside its place and put it there when it is complete.

    Args:
        path: the file.
        text: what it holds; encoded as UTF-8, with the bytes of file names that are no text as they were.

    Raises:
        OSError: it cannot be written; what was there before is as it was.
    """
    part = path.with_name(path.name + ".part")
    part.write_bytes(text.encode("utf-8", "surrogateescape"))
    part.replace(path)
