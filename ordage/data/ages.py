"""Ages as people write them: ``34``, ``34.5``, ``30-39``, ``(25, 32)``, ``60+``, ``more than 70``."""

from __future__ import annotations

import math
import re

__all__ = ["is_spreadsheet_date", "parse_age"]

_NUMBER = r"\d+(?:\.\d+)?"
_EXACT = re.compile(rf"{_NUMBER}")
_INTERVAL = re.compile(rf"[(\[]?\s*({_NUMBER})\s*(?:-|–|—|_|to|,|;)\s*({_NUMBER})\s*[)\]]?")
_OPEN = re.compile(rf"(?:more than|over|above|>=?)\s*({_NUMBER})|({_NUMBER})\s*(?:\+|and (?:over|above|older)|plus)")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DATE = re.compile(rf"(?:(\d+)[- ]({'|'.join(_MONTHS)})|({'|'.join(_MONTHS)})[- ](\d+))", re.IGNORECASE)


def parse_age(text: str) -> tuple[float, float] | None:
    """Read an age or an age interval.

    Args:
        text: as it stands in a table or names a folder.

    Returns:
        ``(low, high)`` in years, both ends included, equal for an exact age, ``high`` infinite for an open interval;
        ``None`` when the text is no age. Spreadsheets turn ``3-9`` into ``03-Sep`` and ``10-19`` into ``Oct-19``;
        these are read back as the intervals they were.

    Example:
        >>> parse_age("34"), parse_age("(25, 32)"), parse_age("60+"), parse_age("03-Sep")
        ((34.0, 34.0), (25.0, 32.0), (60.0, inf), (3.0, 9.0))
    """
    text = text.strip().lower()
    if _EXACT.fullmatch(text):
        return float(text), float(text)
    if match := _INTERVAL.fullmatch(text):
        low, high = float(match[1]), float(match[2])
        return (low, high) if low <= high else None
    if match := _OPEN.fullmatch(text):
        return float(match[1] or match[2]), math.inf
    if match := _DATE.fullmatch(text):
        written = (match[1], match[2]) if match[1] else (match[3], match[4])
        # Whether the day or the month comes first depends on the country; the smaller number began the interval.
        low, high = sorted(float(_MONTHS.index(end) + 1) if end in _MONTHS else float(end) for end in written)
        return low, high
    return None


def is_spreadsheet_date(text: str) -> bool:
    """Return whether an age interval has become a date, as spreadsheets do to ``3-9`` and ``10-19``.

    Example:
        >>> is_spreadsheet_date("Oct-19"), is_spreadsheet_date("10-19")
        (True, False)
    """
    return _DATE.fullmatch(text.strip().lower()) is not None
