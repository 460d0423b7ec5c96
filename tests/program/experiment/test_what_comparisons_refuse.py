"""What a comparison refuses before it trains anything."""

import shutil

import pytest

import dshc
from dshc.evaluation import Conventions
from dshc.experiment import Grid
from dshc.experiment.comparison_table import markdown_table
from dshc.runs import RunSettings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": ()}, "bits must be at least one length"),
        ({"bits": (8, 8)}, "bits must differ, got 8, 8"),
        ({"seeds": 0}, "seeds must be a whole number of at least 1, got 0"),
        ({"jobs": 0}, "jobs must be a whole number of at least 1, got 0"),
        ({"seeds_at": (9,)}, "seeds_at must be among bits, got 9"),
        ({"methods": ("dpsg",)}, "method must be one of .*did you mean 'dpsh'"),
        ({"methods": ()}, "methods must name at least one, got none"),
        ({"methods": ("itq", "itq")}, "methods must differ, got itq more than once"),
        (
            {"methods": ("dshc-multilabel",)},
            "must be given items with several labels per item, got one class",
        ),
        ({"methods": ("dshc:bitz=3",)}, "dshc:bitz=3: unknown setting 'bitz'"),
        ({"methods": ("dshc:bits",)}, "a method's settings must be NAME=VALUE, got 'bits'"),
        ({"methods": ("dshc:bits=6",)}, "dshc:bits=6: method.bits must be left to the comparison"),
        ({"methods": ("csq:name=itq",)}, "csq:name=itq: method.name must be left to the comparison"),
        ({"methods": ("csq:data.validation=0.3",)}, "data.validation must be the same for all methods"),
        ({"methods": ("csq:data.source=x",)}, "data.source must be the same for all methods"),
        ({"methods": ("csq:encoder.width=3",)}, "encoder.width must be the same for all methods"),
        ({"methods": ("csq:optim.batch_size=3",)}, "optim.batch_size must be the same for all methods"),
        (
            {"methods": ("csq:centers=hadamard", "csq:centers= hadamard")},
            "methods must differ, got csq:centers=hadamard and csq:centers= hadamard, which are the same settings",
        ),
        ({"jobs": 1.5}, "jobs must be a whole number of at least 1, got 1.5"),
        ({"seeds": True}, "seeds must be a whole number of at least 1, got True"),
        ({"methods": ("dshc:runtime.seed=6",)}, "runtime.seed must be left to the comparison"),
        ({"values": {"seed": 3}}, "seed must be left to a comparison, which has several, got 3"),
        ({"values": {"out": "here"}}, "out of the settings must be left to a comparison, got here"),
        (
            {"values": {"topk": 3}},
            "topk must stand with its method, as in dshc:topk=3, got it for all, hashnet among them",
        ),
        (
            {"grid": Grid(), "values": {"validation": 0.0}},
            "validation must be more than 0 where a grid is tuned by it, got 0.0",
        ),
        (
            {"postprocessing": ("itq",), "nested": True, "bits": (4, 8)},
            "postprocessing must be none with nested, whose codes share their first bits, got itq",
        ),
        ({"postprocessing": ("pca",)}, "postprocessing must be among itq, map, thresholds, got 'pca'"),
        ({"conventions": Conventions(score="overlap")}, "score must be each method's own"),
        (
            {"values": {"protocol": "official"}},
            "features: must have an official test part, got none; protocol random draws one",
        ),
    ],
)
def test_what_is_refused(features, tmp_path, options, message):
    options = dict(options)
    with pytest.raises(ValueError, match=message):
        settings = RunSettings.of(
            source=str(features), epochs=2, threads=1, width=8, **options.pop("values", {})
        )
        given = {"methods": ("hashnet", "itq"), "bits": (8,), **options}
        dshc.compare(settings, list(given.pop("methods")), out=tmp_path / "out", **given)
    assert not (tmp_path / "out" / "runs").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 8}, "bits must be a list of whole numbers, got 8"),
        ({"bits": ["8"]}, "bits must be a list of whole numbers"),
        ({"bits": 8.0}, "bits must be a list of whole numbers, got 8.0"),
        ({"bits": None}, "bits must be a list of whole numbers, got None"),
        ({"seeds_at": 8}, "seeds_at must be a list of whole numbers, got 8"),
        ({"methods": None}, "methods must be a list of names, got None"),
        ({"methods": "itq"}, "methods must be a list of names, got 'itq'"),
        ({"methods": [3]}, "methods must be a list of names"),
        ({"postprocessing": "itq"}, "postprocessing must be a list of names, got 'itq'"),
    ],
)
def test_what_is_no_list(features, tmp_path, options, message):
    given = {"methods": ["itq"], "bits": [8], **options}
    with pytest.raises(TypeError, match=message):
        dshc.compare(str(features), given.pop("methods"), out=str(tmp_path / "out"), **given)


def test_grids_that_are_none():
    for factors in (0.3, ("1",), "1"):
        with pytest.raises(TypeError, match="lr factors must be a list of numbers"):
            Grid(lr=factors)
    with pytest.raises(ValueError, match="widen must be a whole number of at least 0, got 1.5"):
        Grid(widen=1.5)


def test_damaged_files_are_named(features, tmp_path):
    out, tuned = tmp_path / "out", tmp_path / "tuned"
    options = {"methods": ["itq"], "bits": [4]}
    dshc.compare(str(features), **options, out=str(out))
    tuned.mkdir()
    for content in ("{", "{}", "[]"):
        (tuned / "table.json").write_text(content)
        with pytest.raises(ValueError, match="table.json: damaged, or not of a comparison"):
            dshc.compare(str(features), **options, out=tmp_path / "other", tuned=tuned)
    (measured,) = out.glob("runs/*/measured.json")
    for content in ("[]", "{}", '{"measuring": "x"}'):
        measured.write_text(content)
        with pytest.raises(ValueError, match="measured.json: damaged; remove it"):
            dshc.compare(str(features), **options, out=out)
    measured.unlink()
    (trained,) = out.glob("runs/*/trained.json")
    whole = trained.read_text()
    trained.write_text("{}")
    with pytest.raises(ValueError, match="trained.json: damaged; remove it"):
        dshc.compare(str(features), **options, out=out)
    trained.write_text(whole)
    measured.write_text("[]")
    with pytest.raises(ValueError, match="measured.json: damaged; remove it"):
        dshc.compare(str(features), **options, out=out)
    for content in ("{", "[]"):
        (out / "comparison.json").write_text(content)
        with pytest.raises(ValueError, match="comparison.json: damaged"):
            dshc.compare(str(features), **options, out=out)


def test_data_that_were_moved(features, tmp_path):
    """What is measured anew is read where the data lie now."""
    first, second = tmp_path / "first.npz", tmp_path / "second" / "first.npz"
    shutil.copy(features, first)
    dshc.compare(str(first), ["itq"], bits=[4], out=tmp_path / "out")
    second.parent.mkdir()
    first.rename(second)
    table = dshc.compare(
        str(second), ["itq"], bits=[4], out=tmp_path / "out", conventions=Conventions(ks=(5,))
    )
    assert table.results[0].failure is None and "5" in map(str, table.cuts)


def test_cells_of_a_table():
    lines = markdown_table(["a"], [["RuntimeError: x\ny | <i>z"]])
    assert lines == ["| a |", "| --- |", "| RuntimeError: x y \\| &lt;i>z |"]
    assert markdown_table(["r<=2"], [])[0] == "| r<=2 |"
