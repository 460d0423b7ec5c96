"""Pages of experiments: every cell in its place, the command and machine above, all numbers beside."""

import json

import pytest

from dshc import machine
from dshc.machine import made_on
from dshc.paper import Page, Table
from dshc.paper.page import against


def test_a_page_and_its_numbers(tmp_path):
    table = Table(
        "mAP", ["bits", "paper", "ours", "difference"], [["30", *against(0.9431, 0.95)]], "Of queries."
    )
    page = Page("Headline", "What was done.", [table], {"mean_ap": 0.95})
    other = {**made_on(), "gpu": "NVIDIA H200", "commit": "", "version": "1.0"}
    on = {**made_on(), "commit": "abc"}
    path = page.write(
        tmp_path, "headline", command="dshc experiment headline", seconds=300, machines=[on, other, on]
    )
    text = path.read_text()
    head, rest = text.split("\n\n", 1)
    assert head == "# Headline" and rest.startswith("`dshc experiment headline`; ")
    line = rest.split("\n\n")[0]
    for part in (on["processor"], f"{on['cores']} cores", on["date"], "commit abc; NVIDIA H200, ", "version 1.0",
                 "5 minutes in all."):  # fmt: skip
        assert line.count(part) == (2 if part in other.values() or "cores" in part else 1), part
    assert text.endswith("Of queries.\n\n| bits | paper | ours | difference |\n| --- | --- | --- | --- |\n"
                         "| 30 | 0.9431 | 0.9500 | +0.0069 |\n")  # fmt: skip
    content = json.loads((tmp_path / "headline.json").read_text())
    assert (
        content["numbers"] == {"mean_ap": 0.95}
        and content["machines"] == [on, other, on]
        and content["seconds"] == 300
    )


def test_pictures_lie_beside_the_page(tmp_path):
    page = Page("T", "About.", [], {}, {"curve": ("What it shows.", b"picture")})
    path = page.write(tmp_path, "one", command="c", seconds=1, machines=[made_on()])
    assert "![What it shows.](one-curve.png)\n\nWhat it shows.\n" in path.read_text()
    assert (tmp_path / "one-curve.png").read_bytes() == b"picture"


def test_figures_that_are_missing():
    assert against(None, 0.5) == ["", "0.5000", ""] and against(0.5, None) == ["0.5000", "", ""]
    assert against(0.9, 0.8)[2] == "-0.1000"


def test_a_row_of_another_width_is_refused():
    with pytest.raises(ValueError, match="a row must have 2 cells, got 1"):
        Table("", ["a", "b"], [["1"]]).to_markdown()


def test_a_commit_is_of_a_checkout_alone(monkeypatch, tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "a" / "b" / "machine.py"))
    assert made_on()["commit"] == "" and machine.commit(tmp_path) == ""
