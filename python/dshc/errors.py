"""What the program says when it is given something that cannot be: one wording, and the nearest right name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["InputError", "did_you_mean", "install", "one_of", "shortened"]


class InputError(ValueError):
    """Wrong input by the user: the message says what must hold, then what came, then what to do."""


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """``"; did you mean 'dshc'?"`` where one of the known names is near, else nothing.

    >>> did_you_mean("dsch", ["dshc", "itq"])
    "; did you mean 'dshc'?"
    """
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def install(extra: str) -> str:
    """What to type for an extra of this package that is missing.

    >>> install("vision")
    "pip install 'dshc-fast[vision]'"
    """
    return f"pip install 'dshc-fast[{extra}]'"


def one_of(what: str, name: object, known: Iterable[str]) -> InputError:
    """The error for a name that is none of the known ones.

    >>> print(one_of("method", "dsch", ["dshc", "itq"]))
    method must be one of dshc, itq, got 'dsch'; did you mean 'dshc'?
    """
    known = list(known)
    return InputError(f"{what} must be one of {', '.join(known)}, got {name!r}{did_you_mean(name, known)}")


def shortened(text: str) -> str:
    """A text that came from outside, as an error shows it: of more than 100 characters the beginning."""
    return text if len(text) <= 100 else f"{text[:97]}..."
