"""The errors a user can act on, each with the exit code the command line gives it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["DataError", "Interrupted", "MissingError", "NonFiniteError", "OrdageError", "UsageError", "did_you_mean"]


class OrdageError(Exception):
    """Base of all errors that name what is wrong, where, and what to do about it."""

    exit_code = 1


class UsageError(OrdageError, ValueError):
    """An option or argument is wrong."""

    exit_code = 2


class DataError(OrdageError, ValueError):
    """A file, folder, table or checkpoint cannot be used as it is."""

    exit_code = 3


class NonFiniteError(OrdageError, ArithmeticError):
    """Training produced a loss that is not finite."""

    exit_code = 4


class MissingError(OrdageError, RuntimeError):
    """A dependency, a device or pretrained weights cannot be had."""

    exit_code = 5


class Interrupted(OrdageError):  # noqa: N818 - it is a state to go on from, not an error of the user
    """Training was interrupted; its state is saved and ``--resume`` goes on from it."""

    exit_code = 130


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known word that is closest, or nothing.

    Example:
        >>> did_you_mean("corall", ["coral", "corn"])
        "; did you mean 'coral'?"
    """
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
