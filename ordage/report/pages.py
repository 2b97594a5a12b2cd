"""What all pages share: the template folder, the look, and images inside of the page."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import jinja2
from PIL import Image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["image_uri", "render"]

QUALITY = 80  # of embedded images; they are small, and a page may hold hundreds


def render(template: str, **content: Any) -> str:
    """Fill a template of this package; all that comes from the data is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ordage.report"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["thousands"] = lambda number: f"{number:,}"
    environment.filters["sentence"] = lambda text: text[:1].upper() + text[1:] + "."
    environment.filters["percent"] = lambda share: "—" if share is None else f"{100 * share:.1f} %"
    # A file name need not be text: what cannot be shown becomes a question mark instead of ending the page.
    text = environment.get_template(template).render(**content)
    return text.encode("utf-8", "replace").decode("utf-8")


def image_uri(pixels: NDArray[np.uint8]) -> str:
    """Return ``(H, W, C)`` pixels as an address that holds the whole image."""
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
