"""evaluation.json: as documented, and read back as it was."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from effort import examples
from evaluation_sets import hand, random_sets
from hypothesis import given, settings
from hypothesis import strategies as st

from dshc.evaluation import SCHEMA, Conventions, Evaluation, class_accuracy, evaluate

MANUAL = Path(__file__).resolve().parents[3] / "docs" / "evaluation.md"


def documented_fields() -> dict[str, str]:
    """Field and type of every row of the schema table in docs/evaluation.md."""
    section = MANUAL.read_text(encoding="utf-8").split("## evaluation.json")[1].split("## Code files")[0]
    return dict(re.findall(r"^\| `([^`]+)` \| ([^|]+?) \|", section, flags=re.MULTILINE))


def leaves(value: object, path: str = "") -> list[tuple[str, object]]:
    if isinstance(value, dict):
        return [
            leaf for key, part in value.items() for leaf in leaves(part, f"{path}.{key}" if path else key)
        ]
    if isinstance(value, list):
        return [leaf for part in value for leaf in leaves(part, f"{path}[]")]
    return [(path, value)]


def has_type(value: object, description: str) -> bool:
    if value is None:
        return "null" in description
    if isinstance(value, bool):
        return "boolean" in description
    if isinstance(value, int):
        return "integer" in description or "number" in description
    return ("number" if isinstance(value, float) else "string") in description


@pytest.mark.parametrize("multilabel", [False, True], ids=["ids", "multi-hot"])
def test_the_json_is_what_the_documentation_says(multilabel: bool) -> None:
    fields = documented_fields()
    operands = random_sets(multilabel=multilabel)
    accuracy = class_accuracy(operands[2], operands[2])
    evaluation = evaluate(
        *operands,
        n_bits=11,
        conventions=Conventions(ks=(3,), ties="index", metrics=("ndcg@3", "r_precision")),
        accuracy={"queries": accuracy, "database": accuracy},
        groups={"half": np.arange(len(operands[0])) % 2 == 0},
    )
    document = json.loads(evaluation.to_json(per_query=True))
    assert document["schema"] == SCHEMA == "dshc.evaluation/1"
    seen = set()
    for path, value in leaves(document):
        for part, like in (
            ("codes.queries.", "codes.database."),
            ("class_accuracy.database.", "class_accuracy.queries."),
        ):
            path = path.replace(part, like)
        assert path in fields, f"docs/evaluation.md does not describe {path}"
        assert has_type(value, fields[path]), f"{path} is {value!r}, documented as {fields[path]}"
        seen.add(path)
    optional = {"codes.queries", "class_accuracy.database"} | {
        f"class_accuracy.queries.{name}" for name in ("top_1", "exact_match", "micro_f1", "macro_f1")
    }
    assert fields.keys() - seen <= optional


def test_the_json_agrees_with_the_numbers(tmp_path: Path) -> None:
    evaluation = evaluate(*random_sets(), n_bits=11, conventions=Conventions(k=30, ks=(7,)), accuracy=0.25)
    document = json.loads(evaluation.save(tmp_path / "a" / "evaluation.json").read_text())
    assert document["mean_average_precision"]["value"] == evaluation.mean_ap
    assert document["mean_average_precision"]["at_k"] == [{"k": 7, "value": evaluation.at_k[7]}]
    assert document["conventions"] == {
        "k": 30,
        "ties": "expected",
        "denominator": "retrieved",
        "score": "hamming",
        "empty": "zero",
        "gains": "linear",
    }
    assert document["class_accuracy"] == {"queries": {"top_1": 0.25}}
    assert "average_precision" not in document
    assert len(evaluation.to_dict(per_query=True)["average_precision"]) == 20


def evaluations() -> st.SearchStrategy[Evaluation]:
    """Of all sizes, conventions and kinds of labels; some queries, or all, with nothing relevant."""
    return st.builds(
        random_evaluation,
        st.integers(0, 2**32 - 1),
        st.tuples(st.integers(1, 9), st.integers(1, 40), st.integers(1, 20)),
        st.booleans(),
        st.integers(0, 9),
        st.builds(
            Conventions,
            k=st.none() | st.integers(1, 50),
            ks=st.lists(st.integers(1, 2**40), max_size=3),
            ties=st.sampled_from(["expected", "index", "best", "worst"]),
            denominator=st.sampled_from(["retrieved", "min", "relevant"]),
            score=st.none() | st.sampled_from(["hamming", "overlap"]),
            empty=st.sampled_from(["zero", "skip"]),
            metrics=st.lists(
                st.sampled_from(["ndcg", "ndcg@7", "recall@3", "hit_rate@1", "average_precision_at_r"]),
                max_size=3,
            ),
            gains=st.sampled_from(["linear", "exponential"]),
        ),
        st.none() | st.floats(0, 1),
    )


def random_evaluation(
    seed: int,
    sizes: tuple[int, int, int],
    multilabel: bool,
    n_empty: int,
    conventions: Conventions,
    accuracy: float | None,
) -> Evaluation:
    n_query, n_db, n_bits = sizes
    codes = random_sets(n_query, n_db, n_bits, multilabel=multilabel, seed=seed)
    codes[2][:n_empty] = 0 if multilabel else 99
    groups = {"first": np.arange(n_query) == 0, "all": np.ones(n_query, bool)} if seed % 2 else None
    return evaluate(*codes, n_bits=n_bits, conventions=conventions, accuracy=accuracy, groups=groups)


@settings(max_examples=examples(100))
@given(evaluation=evaluations())
def test_what_is_saved_is_loaded_again(evaluation: Evaluation, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("saved") / "evaluation.json"
    evaluation.save(path, per_query=True)
    loaded = Evaluation.load(path)
    assert loaded == evaluation
    for field in dataclasses.fields(Evaluation):  # to the type, and with NaN where it was
        same(getattr(loaded, field.name), getattr(evaluation, field.name), field.name)
    assert loaded.line() == evaluation.line() and loaded.rows() == evaluation.rows()
    loaded.save(path, per_query=True)
    assert path.read_text() == evaluation.to_json(per_query=True)
    evaluation.save(path)
    short = Evaluation.load(path)
    assert short.per_query is None and short.n_empty == evaluation.n_empty
    assert short == dataclasses.replace(evaluation, per_query=None) != evaluation


def same(found: object, expected: object, name: str) -> None:
    assert type(found) is type(expected), name
    if dataclasses.is_dataclass(expected):
        for field in dataclasses.fields(expected):
            same(getattr(found, field.name), getattr(expected, field.name), f"{name}.{field.name}")
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype and np.array_equal(
            found, expected, equal_nan=found.dtype.kind == "f"
        )
    elif isinstance(expected, tuple | list):
        assert len(found) == len(expected), name
        for a, b in zip(found, expected, strict=True):
            same(a, b, name)
    elif isinstance(expected, dict):
        assert list(found) == list(expected), name
        for key in expected:
            same(found[key], expected[key], f"{name}.{key}")
    else:
        assert found == expected or (found != found and expected != expected), name


def test_other_evaluations_differ() -> None:
    evaluation = hand()
    assert evaluation == hand() != hand(ties="best")
    assert evaluation != "evaluation"
    with pytest.raises(TypeError, match="unhashable"):
        hash(evaluation)


def test_unknown_fields_are_passed_over(tmp_path: Path) -> None:
    document = {**hand().to_dict(per_query=True), "later": {"x": 1}}
    document["counts"]["more"] = 3
    path = tmp_path / "e.json"
    path.write_text(json.dumps(document))
    assert Evaluation.load(path) == hand()


LATER_FIELDS = (
    "n_most_frequent",
    "bit_partner",
    "bit_partner_correlation",
    "bit_n_classes",
    "bit_classes",
    "bit_class_share",
)


def test_files_of_earlier_versions_are_read(tmp_path: Path) -> None:
    document = hand().to_dict(per_query=True)
    del document["ties"]
    for part in document["codes"].values():
        for name in LATER_FIELDS:
            part.pop(name, None)
    path = tmp_path / "e.json"
    path.write_text(json.dumps(document))
    old = Evaluation.load(path)
    assert old.tie_statistics is None and old.database_codes.bit_partner is None
    assert old.to_dict(per_query=True) == document, "saved again, it is the same file"
    assert old != hand() and old.line() == hand().line()
    names = [name for name, _, _ in old.rows()]
    assert "mean tie" in names and "distinct codes" in names
    assert not {"items per distance", "most frequent code"} & set(names)
    assert {"items per distance", "most frequent code"} < {name for name, _, _ in hand().rows()}


def test_the_version_that_computed_it_stays(tmp_path: Path) -> None:
    document = {**hand().to_dict(), "software": {"dshc_fast": "0.0.9"}}
    path = tmp_path / "e.json"
    path.write_text(json.dumps(document))
    assert Evaluation.load(path).to_dict()["software"] == {"dshc_fast": "0.0.9"}


DAMAGES = {
    "codes.queries.n_codes must count 1, got 2": ("codes.queries.n_codes", 2),
    "codes.database.bit_mean must count 2, got 1": ("codes.database.bit_mean", [0.5]),
    "codes.database.bit_partner must count 2, got 1": ("codes.database.bit_partner", [1]),
    "codes.database.bit_classes must count 2, got 1": ("codes.database.bit_classes", [[0, 1]]),
    "codes.database.bit_classes[] must count 1, got 2": ("codes.database.bit_classes", [[0], [0, 1]]),
    "codes.database must hold all of bit_n_classes": ("codes.database.bit_n_classes", None),
    "codes.database.bit_partner_correlation": ("codes.database.bit_partner_correlation", [1.5, 0.0]),
    "ties must hold every rank of curves.ranks": ("ties.at_rank", []),
    "codes.database.n_bits must count 2, got 3": ("codes.database.n_bits", 3),
    "distances.pairs must count 3, got 2": ("distances.pairs", [3, 3]),
    "the sum of distances.pairs must count 6, got 7": ("distances.pairs", [1, 3, 3]),
    "curves.precision must count 3, got 0": ("curves.precision", []),
    "curves.recall_at_rank must count 2, got 1": ("curves.recall_at_rank", [0.5]),
    "average_precision must count 1, got 2": ("average_precision", [0.5, 0.5]),
    "null in average_precision must count 0, got 1": ("average_precision", [None]),
    "counts.n_query: ": ("counts.n_query", "1"),
    "counts.multilabel: ": ("counts.multilabel", 0),
    "counts: ": ("counts", None),
    "mean_average_precision.value: ": ("mean_average_precision.value", 1.5),
    "mean_average_precision.by_ties": ("mean_average_precision.by_ties", {"middle": 0.5}),
    "by_ties must hold expected, best and worst, lacks worst": (
        "mean_average_precision.by_ties",
        {"expected": 0.5, "best": 0.5},
    ),
    "distances.relevant_pairs.1: ": ("distances.relevant_pairs", [0, 2**63, 0]),
    "codes.database.bit_n_classes.0: ": ("codes.database.bit_n_classes", [2**63, 1]),
    "codes.database.bit_classes.0.0: ": ("codes.database.bit_classes", [[2**63], [0]]),
    "codes.database.bit_classes must count 2, got 0": ("codes.database.bit_classes", []),
    "ties must be one of expected, index, best, worst, got 'some'": ("conventions.ties", "some"),
    "k must be at least 1, got 0": ("conventions.k", 0),
    "class_accuracy.queries: ": ("class_accuracy", {"queries": 0.5}),
}


@pytest.mark.parametrize("words", DAMAGES)
def test_damaged_files_are_refused_by_name(words: str, tmp_path: Path) -> None:
    where, value = DAMAGES[words]
    document = hand().to_dict(per_query=True)
    *parents, last = where.split(".")
    part = document
    for name in parents:
        part = part[name]
    assert last in part
    part[last] = value
    path = tmp_path / "e.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError) as raised:
        Evaluation.load(path)
    assert str(raised.value).startswith(f"{path} is damaged: ") and words in str(raised.value)


def test_every_field_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "e.json"
    whole = hand().to_dict()
    for name in whole.keys() - {"schema", "ties"}:
        path.write_text(json.dumps({key: value for key, value in whole.items() if key != name}))
        with pytest.raises(ValueError, match=f"is damaged: {name}: Field required"):
            Evaluation.load(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "must be an evaluation in JSON"),
        (b"\xff\xfe\x00", "must be an evaluation in JSON"),
        (b"[" * 100_000, "must be an evaluation in JSON"),
        (b"[]", "of schema 'dshc.evaluation/1', got None"),
        (b'{"schema": "dshc.evaluation/2"}', "of schema 'dshc.evaluation/1', got 'dshc.evaluation/2'"),
    ],
    ids=["empty", "bytes", "deep", "list", "later"],
)
def test_other_files_are_refused_by_name(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words) as raised:
        Evaluation.load(path)
    assert str(raised.value).startswith(str(path))


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = hand().save(tmp_path / "e.json")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="must be an evaluation in JSON"):
        Evaluation.load(path)
    with pytest.raises(FileNotFoundError):
        Evaluation.load(tmp_path / "none.json")


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_the_examples_of_the_manual_run(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples_ = MANUAL.read_text(encoding="utf-8").split("## evaluation.json")[0].split("```python")[1:]
    monkeypatch.chdir(tmp_path)
    assert len(examples_) == 4
    names: dict[str, object] = {}
    for text in examples_[: number + 1]:  # each goes on from those before
        exec(compile(text.split("```")[0], "docs/evaluation.md", "exec"), names)
    assert (tmp_path / "evaluation.json").is_file()
