"""The headline and the tables behind it, on small embeddings in the place of CIFAR-10."""

import numpy as np
import pytest

from dshc.paper import Bench, cifar10, cifar100, get, lengths
from dshc.runs import RunSettings, load_run


@pytest.fixture
def small(monkeypatch, features):
    own = {"method": "dshc", "construction": "cpbc", "bits": 9, "validation": 0.0, "batch_size": 32}
    recipe = {"backbone": "mlp", "width": 16, "epochs": 20}
    monkeypatch.setattr(cifar10, "ALL", own)
    monkeypatch.setattr(
        cifar10, "RECIPES", {"pretrained": ("one", recipe), "scratch": ("other", {**recipe, "lr": 0.01})}
    )
    monkeypatch.setattr(lengths, "CODEBOOKS", (("cpbc", 9), ("separated", 9), ("separated", 7)))

    def settings(self, name, **values):
        assert name == "cifar10"
        values.pop("finetune", None)  # networks of embeddings are never frozen
        return RunSettings.of(source=str(features), **{**values, "protocol": "random"})

    monkeypatch.setattr(Bench, "settings", settings)


@pytest.mark.usefixtures("small")
def test_lengths_start_from_a_network_that_is_given(tmp_path, monkeypatch):
    monkeypatch.setattr(lengths, "CODEBOOKS", (("cpbc", 9),))
    network = cifar10.headline(Bench(tmp_path / "first", threads=1)).folder.rename(tmp_path / "given")
    bench = Bench(tmp_path / "second", {"network": str(network)}, threads=1)
    page = get("lengths").run(bench)
    assert [path.name.rsplit("-", 1)[0] for path in (tmp_path / "second" / "runs").iterdir()] == [
        "lengths-cpbc-9"
    ]
    assert "The network is given, as it was given (mlp, 9 bits)" in page.about and get(
        "lengths"
    ).optional == ("network",)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("name", "title"), [("cifar10", "one"), ("cifar10-scratch", "other")])
def test_the_headline(tmp_path, name, title):
    page = get(name).run(Bench(tmp_path, threads=1))
    (row,) = page.tables[0].rows
    assert len(row) == len(page.tables[0].columns)
    ours = page.numbers["readings"]["1"]["mean_ap"]
    assert row[:4] == [title, "0.9431", f"{ours:.4f}", f"{ours - 0.9431:+.4f}"] and ours > 0.6
    assert get(name).run(Bench(tmp_path, threads=1)) == page


@pytest.mark.usefixtures("small")
def test_lengths_start_from_the_headlines_network(tmp_path):
    bench = Bench(tmp_path, threads=1)
    page = get("lengths").run(bench)
    assert [row[:2] for row in page.tables[0].rows] == [["cpbc", "9"], ["separated", "9"], ["separated", "7"]]
    runs = {path.name.rsplit("-", 1)[0]: load_run(path) for path in (tmp_path / "runs").iterdir()}
    assert set(runs) == {"cifar10-pretrained", "lengths-cpbc-9", "lengths-separated-9", "lengths-separated-7"}
    # At the headline's own length, too, the codes are those that the row names.
    assert runs["lengths-separated-9"].hasher.method.codebook().construction == "separated"
    network = runs["cifar10-pretrained"].folder
    for name, run in runs.items():
        assert (run.settings.encoder.start_from == str(network)) == name.startswith("lengths")


@pytest.mark.usefixtures("small")
def test_seeds_have_a_mean_and_a_deviation(tmp_path, monkeypatch):
    reduced = {"backbone": "mlp", "width": 16, "epochs": 5, "train_per_class": 20, "input_size": 64}
    monkeypatch.setattr(cifar10, "REDUCED", reduced)
    monkeypatch.setattr(cifar10, "N_SEEDS", 2)
    settings = Bench.settings
    monkeypatch.setattr(
        Bench, "settings", lambda self, name, input_size=0, **values: settings(self, name, **values)
    )
    page = get("cifar10-seeds").run(Bench(tmp_path, threads=1))
    (table,) = page.tables
    assert table.columns == ["", "seed 0", "seed 1", "mean and deviation"]
    values = [one["readings"]["1"]["mean_ap"] for one in page.numbers]
    assert table.rows[0] == ["K = 1", *(f"{value:.4f}" for value in values),
                             f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}"]  # fmt: skip
    assert values[0] != values[1] and [row[0] for row in table.rows][-1] == "minutes of training"


@pytest.mark.usefixtures("small")
def test_lengths_on_a_hundred_classes(tmp_path, monkeypatch, features):
    monkeypatch.setattr(cifar100, "CODEBOOKS", (("separated", 9), ("cpbc", 9)))

    def settings(self, name, **values):
        kept = ("method", "construction", "bits", "start_from", "validation")
        return RunSettings.of(source=str(features), batch_size=32, epochs=4, protocol="random",
                              **({} if "start_from" in values else {"width": 16}),
                              **{key: value for key, value in values.items() if key in kept})  # fmt: skip

    monkeypatch.setattr(Bench, "settings", settings)
    page = get("lengths-cifar100").run(Bench(tmp_path, threads=1))
    assert [row[:2] for row in page.tables[0].rows] == [["separated", "9"], ["cpbc", "9"]]
    assert not any("Table" in table.title or "paper" in table.columns for table in page.tables)
    assert "CIFAR-100" in page.title and get("lengths-cifar100").data == ("cifar100",)


def test_recipes_are_settings():
    for recipe in cifar10.RECIPES:
        settings = cifar10.settings(Bench("x"), recipe)  # type: ignore[arg-type]
        assert (settings.method.bits, settings.data.protocol, settings.data.validation) == (
            30,
            "cifar10-full",
            0.0,
        )
