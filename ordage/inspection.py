"""`inspect`: look at a data set before anything is trained on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import DataConfig
from .data.layouts import read
from .errors import DataError
from .files import write_whole
from .progress import Reporter
from .workspace import merge_options

if TYPE_CHECKING:
    from .data.audit import Audit

__all__ = ["inspect", "write_page", "write_rejected"]


def inspect(config: DataConfig | Mapping[str, Any] | None = None, /, *, verbosity: int = 1, **options: Any) -> Audit:
    """Look at every image and label of a data set: what ``ordage inspect`` does.

    The images are decoded into the cache that training uses, so the time is not lost.

    Args:
        config: options as an object or a mapping; keyword ``options`` win over it.
        verbosity: 0 says nothing, 1 a few lines on stderr.
        **options: any field of `DataConfig`, such as ``data="faces", img_size=64``.

    Returns:
        The audit, with ``findings``, ``to_dict()`` and ``write_csv(path)``.

    Raises:
        OrdageError: there is no data, or options do not fit it.
    """
    reporter = Reporter(verbosity)
    asked = DataConfig.parse(merge_options(config, options))
    manifest = read(asked)
    from .data.audit import audit  # here, because torch takes seconds, and a wrong path is told before
    from .transforms import ImageSpec, default_size

    native = None if manifest.images is None else manifest.images.shape[1:]
    chans = asked.in_chans or (min(native[2], 3) if native else 3)
    return audit(manifest, ImageSpec(asked.img_size or default_size(native), chans, asked.fit), asked, reporter)


def write_rejected(audit: Audit, path: Path) -> None:
    """Write the samples of an audit that cannot be used as a table: id, reason, and whether by a rule of the set."""
    try:
        audit.rejected.write(path)
    except OSError as error:
        raise DataError(f"--rejected {path}: {error.strerror or error}") from None


def write_page(audit: Audit, path: Path) -> None:
    """Write an audit as one HTML file that opens without a network."""
    from .report.audit_page import audit_page

    try:
        write_whole(path, audit_page(audit))
    except OSError as error:
        raise DataError(f"--html {path}: {error.strerror or error}") from None
