"""The templates and the style sheet: files of the package, for light, dark, narrow screens and paper."""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_templates_are_files_of_the_package() -> None:
    """They come with the wheel: whatever lies in the packages' folders does."""
    names = {path.name for path in (resources.files("dshc.report") / "templates").iterdir()}
    assert {"page.html", "report.html", "gallery.html", "rows.html", "style.css"} <= names
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["scikit-build"]
    assert "python/dshc" in settings["wheel"]["packages"] and "exclude" not in settings["wheel"]
    assert not any("templates" in name for name in settings["sdist"].get("exclude", ()))
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    assert not {"*.html", "*.css", "templates", "templates/"} & set(ignored)


def test_the_style_knows_light_dark_narrow_and_paper() -> None:
    style = (resources.files("dshc.report") / "templates" / "style.css").read_text(encoding="utf-8")
    for words in ("prefers-color-scheme: dark", "max-width: 640px", "@media print", "overflow-x: auto"):
        assert words in style
    assert not re.search(r"url\(|@import|https?:", style)
    assert style.count("{") == style.count("}")
