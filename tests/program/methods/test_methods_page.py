"""docs/methods.md says of every method what there is: its paper, its settings with their defaults, figures, when to
choose it.
"""

import re
from pathlib import Path

import methods_page
import pytest

from dshc import methods

PAGE = (Path(__file__).parents[3] / "docs" / "methods.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### (\S+)\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))
SHARED = ("name", "bits", "lengths")


def settings_of(name):
    """A method's own settings in words, as the page has them."""
    fields = methods.get(name).Settings.model_fields
    own = [
        f"`{setting}` {'none' if field.default is None else field.default}"
        for setting, field in fields.items()
        if setting not in SHARED
    ]
    return ", ".join(own) or "none of its own"


def entries(name):
    """What the page says under each of the five points of a method, on one line."""
    return {
        point: " ".join(text.split())
        for point, text in re.findall(
            r"^\* \*\*([\w ]+?)\*\*:? (.*?)(?=^\* |\Z)", SECTIONS[name], re.M | re.S
        )
    }


def test_every_method_has_a_section_and_no_other():
    assert set(SECTIONS) == set(methods.available())


@pytest.mark.parametrize("name", methods.available())
def test_a_section_has_five_points_and_true_defaults(name):
    found = entries(name)
    here = ["Here"] if methods_page.here(name) else []
    assert list(found) == ["Paper", "Settings", "Published", *here, "Choose it"]
    assert all(text.endswith(".") for text in found.values())
    assert found["Settings"] == settings_of(name) + "."
    assert re.match(r"\n\S.*\.\n", SECTIONS[name]), "a line in words comes first"


def test_figures_are_those_of_the_results():
    assert methods_page.with_lines(PAGE) == PAGE, "python benchmarks/methods_page.py writes them"
    assert ".588" in entries("dshc")["Here"] and "dithered" in entries("dshc")["Here"]


@pytest.mark.parametrize("name", methods.available())
def test_papers_are_those_that_the_method_states(name):
    years = re.findall(r"\b(?:19|20)\d\d\b", methods.get(name).source)
    assert not years or any(year in entries(name)["Paper"] for year in years)


def test_every_method_that_is_named_is_there_or_said_to_be_missing():
    advice = PAGE[PAGE.index("## Which one") : PAGE.index("## Settings that many share")]
    rows = [line for line in advice.splitlines() if line.startswith("|")][2:]
    named = {name for row in rows for name in re.findall(r"`([a-z-]+)`", row)}
    assert named <= set(methods.available())
    missing = re.findall(r"^\| ([A-Z]{4}) \|", PAGE[PAGE.index("## Cited, not implemented") :], re.MULTILINE)
    assert missing == ["VDSH", "DSLH", "RMLH"]
    assert not {name.lower() for name in missing} & set(methods.available())
