"""The README's examples run, and what the pages beside the sources link to exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from doc_pages import blocks

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
EXAMPLES = [content for _, content in blocks(README, "python")]
# Not those below docs: `make docs` checks the links of its pages.
PAGES = [
    README,
    ROOT / "CONTRIBUTING.md",
    ROOT / "python" / "dshc" / "README.md",
    ROOT / "csrc" / "README.md",
]


def run(example: str) -> dict:
    names: dict = {}
    exec(compile(example, "README.md", "exec"), names)
    return names


def test_the_programs_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    (example,) = [content for content in EXAMPLES if content.startswith("import dshc\n")]
    monkeypatch.chdir(tmp_path)
    names = run(example)
    assert "mAP@all" in capsys.readouterr().out
    assert names["codes"].shape == (5, 4) and names["ready"].n_bits == 10


def test_the_cores_example(capsys) -> None:
    """The example of HammingDatabase runs in tests/core."""
    (example,) = [content for content in EXAMPLES if "retrieval_curves(" in content]
    names = run(example)
    assert names["top"].indices.shape == (1_000, 10) and names["curves"].radius.shape == (65,)
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert len(EXAMPLES) == 3, "every example of the README is run by a test"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    addresses = re.findall(r"\]\(([^)\s]+)\)", text)
    for address in addresses:
        file, _, anchor = address.partition("#")
        if ":" in file:
            continue
        target = (page.parent / file) if file else page
        assert target.exists(), address
        assert not anchor or anchor in anchors(target), address


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as repositories' pages have them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
