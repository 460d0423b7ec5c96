"""A run made ready for others: no path of this machine in it, and the same numbers again."""

import json

import pytest
from cli_runs import dshc_ok, train_embeddings
from publish_model import publish

from dshc.errors import InputError


def test_a_published_run_repeats_its_numbers(tmp_path):
    run, out = tmp_path / "trained here", tmp_path / "digits-10"
    settings = ("--bits", 10, "--epochs", 2, "--average-flips", "--validation", 0, "--threads", 1)
    dshc_ok("train", "digits", "--root", tmp_path, "--out", run, *settings, "--no-report")
    publish(run, out, "Digits, 10 bits", "nowhere, free")
    names = {path.name for path in out.iterdir()}
    assert names == {"config.toml", "split.json", "metrics.jsonl", "last.safetensors", "README.md"}
    for path in out.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes(), path.name
    before = json.loads((run / "evaluation.json").read_text())
    dshc_ok("evaluate", out, "digits", "--out", tmp_path / "again", "--no-report")
    after = json.loads((tmp_path / "again" / "evaluation.json").read_text())
    assert after["mean_average_precision"] == before["mean_average_precision"]
    text = (out / "README.md").read_text()
    for part in ("# Digits, 10 bits", f"{before['mean_average_precision']['value']:.4f} (", "ties=expected",
                 "360 queries, a database of 1,437", "nowhere, free", "2 epochs",
                 "dshc evaluate models/digits-10 digits", "| network | `small_net`, images 8 x 8 x 1 |"):  # fmt: skip
        assert part in text, part


@pytest.mark.deep
def test_what_is_not_ready_is_refused_and_leaves_nothing(tmp_path):
    run, out = tmp_path / "run", tmp_path / "models" / "digits"
    dshc_ok("train", "digits", "--out", run, "--bits", 10, "--epochs", 1, "--no-report", "--threads", 1)
    (run / "evaluation.json").rename(tmp_path / "evaluation.json")
    with pytest.raises(InputError, match="RUN must have been measured .*, got no evaluation.json"):
        publish(run, out, "Digits")
    assert not out.parent.exists()
    (tmp_path / "evaluation.json").rename(run / "evaluation.json")
    publish(run, out, "Digits")
    assert [path.name for path in out.parent.iterdir()] == ["digits"]
    with pytest.raises(InputError, match="OUT must be a new folder"):
        publish(run, out, "Digits")
    second = tmp_path / "second"
    dshc_ok(
        "train", "digits", "--out", second, "--start-from", run, "--epochs", 1, "--no-report", "--threads", 1
    )
    with pytest.raises(InputError, match="RUN must depend on no file of this machine, got start_from"):
        publish(second, tmp_path / "third", "Digits")


@pytest.mark.deep
def test_only_what_others_have_can_be_measured_again(tmp_path):
    run = train_embeddings(tmp_path)
    with pytest.raises(InputError, match="RUN must be of a named set, which others have too, got .*npz"):
        publish(run, tmp_path / "out", "Mine")
    assert not (tmp_path / "out").exists()
