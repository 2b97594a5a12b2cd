"""Readers of the layouts that age data comes in."""

from . import arrays, demo, file_names, folders, hub, matlab, published, table
from .base import Layout, Source, age_row, layouts, read, register

__all__ = ["Layout", "Source", "age_row", "layouts", "read", "register"]

# In the order in which they are tried: what a file says of itself before what names look like, and people's own tables
# and folders last.
for _layout in (
    demo.LAYOUT,
    hub.LAYOUT,
    arrays.LAYOUT,
    published.ADIENCE,
    published.APPA_REAL,
    published.FAIRFACE,
    matlab.IMDB_WIKI,
    matlab.CACD,
    published.MORPH,
    file_names.UTKFACE,
    file_names.FGNET,
    file_names.AGEDB,
    folders.AFAD,
    folders.FOLDERS,
    table.CSV,
    table.PARQUET_TABLE,
):
    register(_layout)
