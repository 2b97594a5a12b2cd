"""Readers of the layouts that age data comes in. Importing a module registers its layout, the most telling first."""

from . import demo, arrays, utkface, folders, table  # noqa: I001 - the order in which they are tried
from .base import Layout, read, register

__all__ = ["Layout", "arrays", "demo", "folders", "read", "register", "table", "utkface"]
