"""The table of methods: what is in it, what it refuses, and how other packages enter it."""

import doctest
from importlib.metadata import EntryPoint

import pytest

from dshc import methods
from dshc.errors import InputError
from dshc.methods import DPSH


def test_the_table_of_methods():
    assert set(methods.available()) == {
        *("dshc", "dshc-multilabel", "dcwh", "vmf", "ssdh", "sdsh", "dpsh", "dsdh", "dtsh"),
        *("itq", "sh", "lsh", "pcah"),
        *(
            "dhn",
            "dsh",
            "hashnet",
            "greedyhash",
            "csq",
            "dpn",
            "orthohash",
            "mdsh",
            "relahash",
            "cross_entropy",
        ),
    }
    for name in methods.available():
        method = methods.get(name)
        assert method.name == name and issubclass(method, methods.Method)
        assert method.Settings().name == name and issubclass(method.Settings, methods.MethodSettings)
        assert (
            method.title and method.source and method.label_kinds and method.score in ("hamming", "overlap")
        )


def test_an_unknown_method_is_refused_with_the_nearest_name():
    with pytest.raises(InputError) as caught:
        methods.get("dphs")
    known = ", ".join(methods.available())
    assert str(caught.value) == f"method must be one of {known}, got 'dphs'; did you mean 'dpsh'?"


@pytest.fixture
def entries(monkeypatch):
    """Entry points of other packages, as a list to fill."""
    found = []
    monkeypatch.setattr(methods, "entry_points", lambda group: found if group == "dshc.methods" else [])
    methods._table.cache_clear()
    yield found
    methods._table.cache_clear()


def test_other_packages_add_methods_by_entry_point(entries):
    entries.append(EntryPoint("mine", "dshc.methods.dpsh:DPSH", "dshc.methods"))
    assert methods.available()[-1] == "mine" and methods.get("mine") is DPSH


def test_an_entry_point_cannot_take_a_name_that_is_there(entries):
    entries.append(EntryPoint("itq", "elsewhere.methods:ITQ", "dshc.methods"))
    with pytest.raises(
        ValueError, match="method 'itq' is there already; elsewhere.methods:ITQ must take another"
    ):
        methods.available()


def test_the_example_runs():
    found = doctest.testmod(methods)
    assert found.failed == 0 < found.attempted
