"""``dshc experiment``: the list, an experiment from its start to its page, and what is refused."""

import signal

import pytest
from cli_runs import dshc, dshc_fails, dshc_ok

from dshc import paper
from dshc.paper import Experiment, Page, Table
from dshc.storage import folder_lock
from dshc.training import Interrupted


def tiny(bench):
    found = bench.step("thinking", {"n": 1}, lambda: {"value": 0.5})
    return Page("Tiny", "About it.", [Table("Figures", ["ours"], [[f"{found['value']}"]])], found)


def stopped(bench):
    bench.step("thinking", {"n": 1}, lambda: {"value": 0.5})
    raise Interrupted("stopped", "SIGTERM")


@pytest.fixture(autouse=True)
def experiments(monkeypatch):
    known = {e.name: e for e in (
        Experiment("tiny", "a tiny one", "table 0", (), "no time", tiny),
        Experiment("photos", "with photos", "figure 0", ("shapes",), "no time", tiny),
        Experiment("stopped", "never ends", "figure 1", (), "for ever", stopped),
    )}  # fmt: skip
    monkeypatch.setattr(paper, "_EXPERIMENTS", known)


def test_the_list():
    assert "photos\twith photos\tfigure 0\tshapes\tno time" in dshc_ok("experiment", "list")


def test_a_page(tmp_path):
    output = dshc_ok("experiment", "tiny", "--out", tmp_path)
    page = (tmp_path / "paper-tiny.md").read_text()
    assert page.rstrip() in output and f"page:    {tmp_path / 'paper-tiny.md'}" in output
    assert "`dshc experiment tiny`; " in page and "| 0.5 |" in page and "thinking: " in output
    assert "thinking: " not in dshc_ok("experiment", "tiny", "--out", tmp_path)


def test_folders_do_not_stand_on_the_page(tmp_path):
    output = dshc_ok("experiment", "photos", "--out", tmp_path, "--data", "shapes=/my photos")
    page = (tmp_path / "paper-photos.md").read_text()
    assert "`dshc experiment photos --data shapes=FOLDER`" in page and "/my photos" not in page
    assert f"dshc experiment photos --data 'shapes=/my photos' --out {tmp_path}" in output


def test_stopped_it_says_how_to_go_on(tmp_path):
    code, output = dshc("experiment", "stopped", "--out", tmp_path)
    assert code == 128 + signal.SIGTERM and "nothing is lost: the same command goes on" in output
    assert not (tmp_path / "paper-stopped.md").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tinny"], "experiment must be one of tiny, photos, stopped, got 'tinny'; did you mean 'tiny'?"),
        (["photos"], "data must say where the images of shapes are: --data shapes=FOLDER"),
        (["photos", "--data", "shapes"], "data must be NAME=FOLDER, got 'shapes'"),
        (["photos", "--data", "shape=x"], "data must be of shapes, got 'shape'; did you mean 'shapes'?"),
    ],
)
def test_what_is_refused(arguments, message, tmp_path):
    assert message in dshc_fails("experiment", *arguments, "--out", tmp_path)
    assert not list(tmp_path.iterdir())


def test_one_at_a_time_in_a_folder(tmp_path):
    with folder_lock(tmp_path):
        assert "another process" in dshc_fails("experiment", "tiny", "--out", tmp_path)
