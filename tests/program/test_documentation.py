"""The pages of the documentation site: what they tell the reader to do works, and no public name is left out."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import pkgutil
import re
from pathlib import Path

import pytest
from doc_pages import blocks, follow

import dshc
import dshc_fast

DOCS = Path(__file__).resolve().parents[2] / "docs"
LAYERS = sorted(
    page.name.removesuffix(".md") for page in (DOCS / "api").glob("dshc.*.md") if page.name != "dshc.md"
)


@pytest.mark.parametrize(
    "page", ["index.md", "how-to/index.md", "data.md", "code-index.md", "databases.md", "scale.md"]
)
def test_examples(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    examples = blocks(DOCS / page, "python")
    assert examples
    for _, content in examples:
        exec(compile(content, page, "exec"), {})
    assert capsys.readouterr().out


def modules_with_examples() -> list[str]:
    found = []
    for package in (dshc, dshc_fast):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            spec = importlib.util.find_spec(module.name)
            if spec and spec.origin and spec.origin.endswith(".py"):
                lines = Path(spec.origin).read_text(encoding="utf-8").splitlines()
                if any(">>> " in line and "+SKIP" not in line for line in lines):
                    found.append(module.name)
    return found


@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_of_docstrings_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted and not found.failed


@pytest.mark.deep
def test_the_tutorial_on_embeddings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """From an empty folder to the end of the page, which shows what comes out."""
    monkeypatch.chdir(tmp_path)
    page = DOCS / "tutorials" / "embeddings.md"
    names, printed = follow(page)
    lines = [*"\n".join(printed).splitlines(), *capsys.readouterr().out.splitlines()]
    for _, content in blocks(page, "text"):
        for shown in content.splitlines():
            assert any(is_nearly(line, shown) for line in lines), shown
    _, searched, searched_new, *_ = printed
    assert len(re.findall(r"^digit-39\t", searched, re.MULTILINE)) == 5
    assert len(re.findall(r"\tdigit-\d+\t", searched_new)) == 5
    assert names["codes"].shape == (1797, 4)


def is_nearly(line: str, shown: str) -> bool:
    """Whether two lines agree in all but the last digits of measures, which differ between kinds of processors."""
    measure = re.compile(r"\b[01]\.\d{4}\b")
    if measure.sub("", line) != measure.sub("", shown):
        return False
    numbers = zip(measure.findall(line), measure.findall(shown), strict=True)
    return all(abs(float(one) - float(other)) <= 0.02 for one, other in numbers)


def documented(page: str) -> str:
    return (DOCS / "api" / f"{page}.md").read_text(encoding="utf-8")


def test_every_name_of_the_core_is_in_the_reference() -> None:
    shown = set(re.findall(r"auto\w+:: (\w+)$", documented("dshc_fast"), re.MULTILINE))
    assert shown == set(dshc_fast.__all__) - {"reference"}, "the twins are a section of their own"
    assert "automodule:: dshc_fast.reference" in documented("dshc_fast")


def test_every_name_of_the_core_is_in_its_contracts() -> None:
    text = (DOCS / "contracts.md").read_text(encoding="utf-8")
    missing = [name for name in dshc_fast.__all__ if not re.search(rf"`{name}\b", text)]
    assert missing in ([], ["reference"])


def test_every_name_of_the_program_is_in_the_reference() -> None:
    shown = set(re.findall(r"auto\w+:: (\w+)$", documented("dshc"), re.MULTILINE))
    assert shown == set(dshc.__all__) - {"methods", "cluster", "codebooks", "exchange"}, "these are layers"


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layers_page_leaves_out_what_the_public_face_shows(layer: str) -> None:
    left_out = re.findall(r":exclude-members: (.+)$", documented(layer), re.MULTILINE)
    names = {name.strip() for line in left_out for name in line.split(",")}
    module = importlib.import_module(layer)
    face = {"load_data": "load"}
    there = {
        face.get(name, name)
        for name in dshc.__all__
        if getattr(dshc, name) in map(module.__dict__.get, module.__all__)
    }
    assert names == there


def test_every_layer_has_a_page() -> None:
    package = Path(dshc.__file__).parent
    layers = {f"dshc.{path.parent.name}" for path in package.glob("*/__init__.py")} - {"dshc.cli"}
    assert set(LAYERS) == layers
