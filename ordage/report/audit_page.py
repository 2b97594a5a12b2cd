"""The page of ``ordage inspect --html``."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from .pages import image_uri, render

if TYPE_CHECKING:
    from ..data.audit import Audit, Group

__all__ = ["audit_page"]

GROUPS = 60  # label conflicts that are shown with their images
COPIES = 6  # images of one group


def audit_page(audit: Audit) -> str:
    """Return the page as text."""
    content = audit.to_dict()
    ages = content["ages"]
    return render(
        "audit.html",
        audit=content,
        conflicts=_shown(audit, audit.identical),
        near_conflicts=_shown(audit, audit.near),
        limit=GROUPS,
        unusual=[_card(audit, int(row)) for row in audit.unusual],
        histogram=_bars(ages["histogram"], ages["training"]),
        years=_bars(ages["years"], {}),
        version=version("ordage"),
    )


def _shown(audit: Audit, groups: tuple[Group, ...]) -> list[dict[str, Any]]:
    """Return the groups whose ages differ, with their images."""
    return [
        {"spread": group.spread, "cards": [_card(audit, row) for row in group.rows[:COPIES]], "size": len(group.rows)}
        for group in groups[:GROUPS]
        if group.spread
    ]


def _card(audit: Audit, row: int) -> dict[str, str]:
    from ..data.dataset import age_text

    store, manifest = audit.examined.store, audit.examined.manifest
    place = store.row[row : row + 1]
    pixels = store.images[place][0] if isinstance(store.images, np.ndarray) else next(store.images.take([place]))[0]
    return {
        "image": image_uri(np.asarray(pixels)),
        "id": str(manifest.table["id"].iat[row]),
        "age": age_text(manifest, row),
    }


def _bars(counts: dict[str, int], training: dict[str, int]) -> list[dict[str, Any]]:
    """Return the bars of a histogram, their heights as percentages of the highest."""
    highest = max(counts.values(), default=1) or 1
    return [
        {"label": label, "count": count, "height": 100 * count / highest, "training": training.get(label)}
        for label, count in counts.items()
    ]
