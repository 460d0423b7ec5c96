"""evaluate(): numbers worked by hand, conventions on every line, the JSON as documented."""

from __future__ import annotations

import doctest
import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import dshc_fast
from dshc.evaluation import SCHEMA, Evaluation, class_accuracy, evaluate
from dshc.statistics import code_statistics, tie_group_size

# Distances 0, 1, 1, 2, 2, 2 from the query, relevance 1, 0, 1, 1, 0, 0; AP for each convention worked by
# hand.
QUERY = np.array([[0b00]], np.uint8)
DATABASE = np.array([[0b00], [0b01], [0b10], [0b11], [0b11], [0b11]], np.uint8)
QUERY_LABELS, DATABASE_LABELS = np.array([1]), np.array([1, 0, 1, 1, 0, 0])


def hand(**options: object) -> Evaluation:
    return evaluate(QUERY, DATABASE, QUERY_LABELS, DATABASE_LABELS, n_bits=2, **options)


def random_sets(
    n_query: int = 20, n_db: int = 70, n_bits: int = 11, *, multilabel: bool = False, seed: int = 0
):
    rng = np.random.default_rng(seed)
    codes = [dshc_fast.pack_codes(rng.standard_normal((n, n_bits))) for n in (n_query, n_db)]
    shape = (lambda n: (n, 6)) if multilabel else (lambda n: (n,))
    high = 2 if multilabel else 5
    labels = [rng.integers(0, high, shape(n)) for n in (n_query, n_db)]
    if multilabel:
        labels = [(part * rng.integers(0, 2, part.shape)).astype(np.uint8) for part in labels]
    return (*codes, *labels)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 49 / 60),
        ({"ties": "best"}, 11 / 12),
        ({"ties": "worst"}, 13 / 18),
        ({"ties": "index"}, 29 / 36),
        ({"k": 4}, 97 / 108),
        ({"k": 4, "denominator": "min"}, 25 / 36),
        ({"k": 4, "denominator": "relevant"}, 25 / 36),
        ({"k": 2}, 1.0),
        ({"k": 2, "denominator": "min"}, 0.75),
        ({"k": 2, "denominator": "relevant"}, 0.5),
        ({"k": 100}, 49 / 60),
    ],
)
def test_values_worked_by_hand(options: dict[str, object], expected: float) -> None:
    evaluation = hand(**options)
    assert evaluation.mean_ap == pytest.approx(expected, rel=1e-12)
    assert evaluation.per_query.tolist() == pytest.approx([expected], rel=1e-12)


def test_further_cuts_keep_the_conventions() -> None:
    evaluation = hand(ks=(2, 4), denominator="min")
    assert evaluation.at_k == pytest.approx({2: 0.75, 4: 25 / 36})
    assert evaluation.mean_ap == pytest.approx(49 / 60)
    names = [name for name, _, _ in evaluation.rows()]
    assert {"mAP@all", "mAP@2", "mAP@4"} <= set(names)


def test_the_line_carries_its_conventions() -> None:
    assert hand().line() == "mAP@all 0.8167 (ties=expected, denominator=retrieved, 1 queries, 6 database)"
    assert hand(k=4, ties="worst", denominator="min", score="overlap").line().startswith("mAP@4 ")
    assert "score=overlap" in hand(score="overlap").line()
    assert "empty=skip" in hand(empty="skip").line()


def test_every_row_of_the_table_has_a_convention() -> None:
    for name, value, note in hand(accuracy=0.5, ks=(2,)).rows():
        assert name and value and note


def test_tie_rules_are_ordered_where_they_bound() -> None:
    evaluation = evaluate(*random_sets(), n_bits=11)
    bounds = evaluation.by_ties
    assert bounds["worst"] <= bounds["expected"] <= bounds["best"]
    assert evaluation.bounds_hold and not hand(k=4).bounds_hold and hand(k=4, denominator="min").bounds_hold
    assert "no bounds" in dict((row[0], row[2]) for row in hand(k=4).rows())["mAP@4, worst / best ties"]


@pytest.mark.parametrize("multilabel", [False, True], ids=["ids", "multi-hot"])
@pytest.mark.parametrize("score", ["hamming", "overlap"])
@pytest.mark.parametrize("empty", ["zero", "skip"])
def test_agrees_with_the_core(multilabel: bool, score: str, empty: str) -> None:
    operands = random_sets(multilabel=multilabel)
    evaluation = evaluate(*operands, n_bits=11, score=score, empty=empty, k=30, ks=(7,))
    options = {"score": score, "n_bits": 11, "empty": empty}
    for rule, value in evaluation.by_ties.items():
        expected = dshc_fast.mean_average_precision(*operands, k=30, ties=rule, **options)
        assert value == pytest.approx(expected, rel=1e-12)
    assert evaluation.at_k[7] == pytest.approx(dshc_fast.mean_average_precision(*operands, k=7, **options))
    curves = dshc_fast.retrieval_curves(*operands, ranks=[1, 5, 7, 10, 30, 50], **options)
    for name, values in curves._asdict().items():
        np.testing.assert_allclose(getattr(evaluation.curves, name), values, err_msg=name)
    assert evaluation.pairs.sum() == 20 * 70
    assert evaluation.multilabel is multilabel


def test_the_example_of_the_docstring_runs() -> None:
    found = doctest.testmod(sys.modules["dshc.evaluation"])
    assert found.failed == 0 < found.attempted


def test_queries_with_nothing_relevant() -> None:
    queries, database, query_labels, database_labels = random_sets()
    query_labels[:4] = 99
    operands = (queries, database, query_labels, database_labels)
    zero, skip = (evaluate(*operands, n_bits=11, empty=empty) for empty in ("zero", "skip"))
    assert zero.n_empty == skip.n_empty == 4
    assert zero.mean_ap == pytest.approx(skip.mean_ap * 16 / 20)
    assert "empty=zero" in zero.line() and "4 queries with nothing relevant" in zero.line()
    with pytest.raises(ValueError, match="4 of 20 queries have nothing relevant"):
        evaluate(*operands, n_bits=11, empty="error")


def test_nothing_relevant_at_all_is_undefined_not_a_crash() -> None:
    evaluation = evaluate(QUERY, DATABASE, np.array([9]), DATABASE_LABELS, n_bits=2, empty="skip")
    assert math.isnan(evaluation.mean_ap)
    assert evaluation.line().startswith("mAP@all undefined")
    assert json.loads(evaluation.to_json())["mean_average_precision"]["value"] is None


def test_labels_are_left_alone() -> None:
    operands = random_sets(multilabel=True)
    before = [operand.copy() for operand in operands]
    evaluate(*operands, n_bits=11)
    assert all(np.array_equal(*pair) for pair in zip(operands, before, strict=True))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"k": 0}, ValueError, "k must be at least 1, got 0"),
        ({"ks": (5, -1)}, ValueError, "k must be at least 1, got -1"),
        ({"k": 2.0}, TypeError, "k must be an int"),
        ({"k": True}, TypeError, "k must be an int"),
        ({"ties": "random"}, ValueError, "ties must be one of expected, index, best, worst, got 'random'"),
        ({"denominator": "R"}, ValueError, "denominator must be one of"),
        ({"score": "cosine"}, ValueError, "score must be one of hamming, overlap"),
        ({"empty": "drop"}, ValueError, "empty must be one of zero, skip, error"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        hand(**options)


def test_wrong_operands_are_refused() -> None:
    with pytest.raises(ValueError, match="no query"):
        evaluate(QUERY[:0], DATABASE, QUERY_LABELS[:0], DATABASE_LABELS, n_bits=2)
    with pytest.raises(ValueError):
        evaluate(QUERY, DATABASE[:0], QUERY_LABELS, DATABASE_LABELS[:0], n_bits=2)
    with pytest.raises(ValueError):
        evaluate(QUERY, DATABASE, QUERY_LABELS, DATABASE_LABELS[:-1], n_bits=2)
    with pytest.raises(ValueError):
        evaluate(QUERY, DATABASE, QUERY_LABELS, DATABASE_LABELS, n_bits=9)
    with pytest.raises(ValueError):  # padding bits are set
        evaluate(QUERY, DATABASE, QUERY_LABELS, DATABASE_LABELS, n_bits=1)


# ---- the JSON
# -------------------------------------------------------------------------------------------------


def documented_fields() -> dict[str, str]:
    """Field and type of every row of the schema table in docs/evaluation.md."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    section = text.split("## evaluation.json")[1].split("## Code files")[0]
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
        *operands, n_bits=11, ks=(3,), ties="index", accuracy={"queries": accuracy, "database": accuracy}
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
    evaluation = evaluate(*random_sets(), n_bits=11, k=30, ks=(7,), accuracy=0.25)
    document = json.loads(evaluation.save(tmp_path / "a" / "evaluation.json").read_text())
    assert document["mean_average_precision"]["value"] == evaluation.mean_ap
    assert document["mean_average_precision"]["at_k"] == [{"k": 7, "value": evaluation.at_k[7]}]
    assert document["conventions"] == {
        "k": 30,
        "ties": "expected",
        "denominator": "retrieved",
        "score": "hamming",
        "empty": "zero",
    }
    assert document["class_accuracy"] == {"queries": {"top_1": 0.25}}
    assert "average_precision" not in document
    assert len(evaluation.to_dict(per_query=True)["average_precision"]) == 20


# ---- statistics
# -----------------------------------------------------------------------------------------------


def test_code_statistics_worked_by_hand() -> None:
    bits = np.array([[0, 0, 1, 1, 0], [1, 0, 1, 0, 0], [0, 0, 1, 1, 1], [1, 0, 1, 0, 1], [1, 0, 1, 0, 1]])
    statistics = code_statistics(np.packbits(bits, axis=1, bitorder="little"), 5)
    assert (statistics.n_codes, statistics.n_distinct, statistics.constant_bits) == (5, 4, 2)
    np.testing.assert_allclose(statistics.bit_mean, [0.6, 0, 1, 0.4, 0.6])
    entropy = -(0.6 * math.log2(0.6) + 0.4 * math.log2(0.4))
    assert statistics.bit_entropy == pytest.approx(3 / 5 * entropy)
    correlations = np.corrcoef(bits[:, [0, 3, 4]].T)[np.triu_indices(3, 1)]
    assert statistics.bit_correlation == pytest.approx(np.abs(correlations).mean())


def test_code_statistics_of_many_codes_agree_with_numpy() -> None:
    bits = np.random.default_rng(3).random((25_000, 70)) < np.linspace(0.1, 0.9, 70)
    statistics = code_statistics(np.packbits(bits, axis=1, bitorder="little"), 70)
    np.testing.assert_allclose(statistics.bit_mean, bits.mean(axis=0))
    assert statistics.correlation_rows == 12_500
    expected = np.abs(np.corrcoef(bits[::2].T)[np.triu_indices(70, 1)]).mean()
    assert statistics.bit_correlation == pytest.approx(expected, rel=1e-6)


def test_code_statistics_where_no_bit_changes() -> None:
    statistics = code_statistics(np.zeros((3, 1), np.uint8), 8)
    assert statistics.n_distinct == 1 and statistics.constant_bits == 8 and statistics.bit_entropy == 0
    assert math.isnan(statistics.bit_correlation)


def test_tie_group_size() -> None:
    assert tie_group_size(np.array([[1, 1, 1, 1]])) == 1
    assert tie_group_size(np.array([[0, 4, 0]])) == 4
    assert tie_group_size(np.array([[1, 3], [2, 2]])) == pytest.approx((10 / 4 + 2) / 2)
    assert hand().mean_tie_group == pytest.approx((1 + 4 + 9) / 6)


def test_class_accuracy() -> None:
    assert class_accuracy(np.array([1, 2, 3, 3]), np.array([1, 2, 0, 3])) == {"top_1": 0.75}
    true = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0]], np.uint8)
    predicted = np.array([[1, 0, 1], [1, 0, 0], [1, 0, 0]], bool)
    accuracy = class_accuracy(predicted, true)
    assert accuracy == pytest.approx(
        {"exact_match": 1 / 3, "micro_f1": 6 / 9, "macro_f1": (4 / 5 + 0 + 1) / 3}
    )
    with pytest.raises(ValueError, match="one shape"):
        class_accuracy(np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match="at least one item"):
        class_accuracy(np.zeros(0), np.zeros(0))


def test_the_first_example_of_the_manual_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manual = (Path(__file__).resolve().parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    exec(compile(manual.split("```python")[1].split("```")[0], "evaluation.md", "exec"), {})
    assert (tmp_path / "evaluation.json").is_file()
