"""What a comparison refuses before it trains anything."""

import pytest

import dshc
from dshc.evaluation import Conventions
from dshc.experiment import Grid
from dshc.runs import RunSettings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": ()}, "bits must be at least one length"),
        ({"bits": (8, 8)}, "bits must differ, got 8, 8"),
        ({"seeds": 0}, "seeds must be at least 1, got 0"),
        ({"jobs": 0}, "jobs must be at least 1, got 0"),
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
