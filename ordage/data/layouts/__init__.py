"""Readers of the layouts that age data comes in. Importing a module registers its layouts, the most telling first."""

from . import demo, hub, arrays, published, matlab, file_names, folders, table  # noqa: I001 - the order of trying
from .base import Layout, Source, age_row, layouts, read, register

__all__ = [
    "Layout",
    "Source",
    "age_row",
    "arrays",
    "demo",
    "file_names",
    "folders",
    "hub",
    "layouts",
    "matlab",
    "published",
    "read",
    "register",
    "table",
]
