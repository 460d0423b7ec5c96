"""Pages from templates: what is filled in is escaped, and nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
import math
import unicodedata
from collections.abc import Sequence
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from .gallery import Row, has_pictures, is_small, thumbnail

__all__ = ["data_address", "render", "visible"]

# Marks, embeddings, overrides and isolates that turn the order of the letters round them; line and paragraph ends.
_TURNING = frozenset(
    "\u061c\u200b\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
)


def render(template: str, **values: object) -> str:
    """The text of a page; ``template`` is a file in ``templates/``, ``values`` are its variables.

    Whatever is filled in is escaped for HTML, once :func:`visible` has made it harmless.
    """
    return _environment().get_template(template).render(**values)


def visible(text: str) -> str:
    r"""``text`` with control characters, half surrogates and marks of writing direction as backslash escapes.

    >>> visible("a\nb\u202egpj.exe")
    'a\\nb\\u202egpj.exe'
    """
    return "".join(ascii(letter)[1:-1] if _hidden(letter) else letter for letter in text)


def data_address(data: bytes) -> str:
    """The address of a PNG or JPEG picture that lies in the page itself."""
    kind = "jpeg" if data.startswith(b"\xff\xd8") else "png"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("dshc", "report/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "address": lambda image: data_address(thumbnail(image)),
        "average_precision": _average_precision,
        "longest": _longest,
        "with_pictures": has_pictures,
    }
    environment.tests["pixels"] = is_small
    return environment


def _finalize(value: object) -> object:
    return value if isinstance(value, Markup) else visible(str(value))


def _hidden(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Cs") or letter in _TURNING


def _average_precision(row: Row) -> str:
    if row.average_precision is None:
        return ""
    return "nothing relevant" if math.isnan(row.average_precision) else f"AP {row.average_precision:.3f}"


def _longest(rows: Sequence[Row], n_results: int | None) -> int:
    return max((len(row.results[:n_results]) for row in rows), default=0)
