"""The Chromium of this system, without a screen, for the tests of pages."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

__all__ = ["browser", "missing", "opened"]

_CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def missing() -> str:
    """What is lacking to open a page; empty where nothing is."""
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed (extra 'browser')"
    return "" if _CHROMIUM else "no Chromium was found (apt-get install chromium)"


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=_CHROMIUM, args=[*_FLAGS])
        yield started
        started.close()


@contextlib.contextmanager
def opened(started: Any, address: str, *, refused: bool = False, **context: Any) -> Iterator[Any]:
    """A page at an address, in a window of its own. At the end nothing may have gone wrong in it: no error of a script,
    nothing that its policy forbade, nothing asked of another host. ``refused``: answers with an error are expected."""
    window = started.new_context(**{"viewport": {"width": 1440, "height": 960}, **context})
    page = window.new_page()
    page.set_default_timeout(30_000)
    wrong: list[str] = []
    hosts: set[str] = set()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on(
        "request",
        lambda request: hosts.add(urlsplit(request.url).netloc) if request.url[:4] == "http" else None,
    )
    page.goto(address)
    try:
        yield page
    except Exception as error:
        pytest.fail(f"{error}\n{wrong}")
    finally:
        window.close()
    if refused:
        wrong = [text for text in wrong if "Failed to load resource" not in text]
    assert not wrong
    assert hosts <= {urlsplit(address).netloc}
