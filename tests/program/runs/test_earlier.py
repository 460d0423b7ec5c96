"""What a training takes over of the settings of the hasher that it starts from."""

from __future__ import annotations

import pytest
import torch
from small_hashers import a_hasher
from training_runs import train

import dshc
from dshc.errors import InputError
from dshc.runs import RunSettings, load_run
from dshc.runs.earlier import with_earlier, with_network

NETWORK = ("backbone", "width", "input_size", "finetune")


def an_earlier():
    """A hasher on features, whose backbone was trained as a whole."""
    hasher = a_hasher("dshc", bits=15, construction="cpbc")
    hasher.encoder_settings = hasher.encoder_settings.replaced(finetune="all")
    return hasher


def network(settings):
    return {name: value for name in NETWORK if (value := settings.encoder.values()[name]) is not None}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, {"backbone": "mlp", "width": 16, "finetune": "all"}),
        ({"width": 7}, {"backbone": "mlp", "width": 7, "finetune": "all"}),
        ({"backbone": "mlp"}, {"backbone": "mlp", "width": 16, "finetune": "all"}),
        ({"backbone": "small_net"}, {"backbone": "small_net"}),
    ],
)
def test_the_network_is_the_earlier_ones_where_it_is_open(asked, expected):
    settings = RunSettings.of(source="x.npz", **asked)
    assert network(with_earlier(settings, an_earlier())) == expected
    assert with_earlier(settings, None) is settings


def test_the_method_is_the_earlier_ones_where_it_is_the_same():
    earlier = an_earlier()
    found = with_earlier(RunSettings.of(source="x.npz"), earlier).method
    assert (found.bits, found.construction) == (15, "cpbc")
    assert with_earlier(RunSettings.of(source="x.npz", bits=20), earlier).method.bits == 20
    assert with_earlier(RunSettings.of(source="x.npz", method="hashnet"), earlier).method.bits is None
    assert with_network(RunSettings.of(source="x.npz"), earlier).method.bits is None


@pytest.mark.deep
def test_a_comparison_goes_on_from_a_run(features, tmp_path):
    """Each of its trainings with the run's network, the grid around the rate of that network."""
    before = train(
        tmp_path / "before", {"source": str(features), "width": 6, "epochs": 1, "threads": 1, "bits": 8}
    )
    settings = RunSettings.of(
        source=str(features), epochs=1, threads=1, start_from=str(before.folder), lr=1e-9
    )
    table = dshc.compare(settings, ["hashnet", "dshc"], bits=(8,), out=tmp_path / "compared")
    for result in table.results:
        run = load_run(tmp_path / "compared" / result.run)
        assert run.settings.encoder.width == 6
        for name, weight in run.hasher.backbone.named_parameters():
            torch.testing.assert_close(weight, before.hasher.backbone.get_parameter(name), atol=1e-6, rtol=0)
    with pytest.raises(InputError, match="start_from must name a hasher with the same backbone"):
        train(tmp_path / "other", {"source": str(features), "width": 7, "start_from": str(before.folder)})
