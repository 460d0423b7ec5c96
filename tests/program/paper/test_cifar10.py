"""The headline and the tables behind it, on small embeddings in the place of CIFAR-10."""

import pytest

from dshc.paper import Bench, cifar10, get, lengths
from dshc.runs import RunSettings, load_run


@pytest.fixture
def small(monkeypatch, features):
    own = {"method": "dshc", "construction": "cpbc", "bits": 9, "validation": 0.0, "batch_size": 32}
    recipe = {"backbone": "mlp", "width": 16, "epochs": 20}
    monkeypatch.setattr(cifar10, "_ALL", own)
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


def test_recipes_are_settings():
    for recipe in cifar10.RECIPES:
        settings = cifar10.settings(Bench("x"), recipe)  # type: ignore[arg-type]
        assert (settings.method.bits, settings.data.protocol, settings.data.validation) == (
            30,
            "cifar10-full",
            0.0,
        )
