"""evaluate(): numbers worked by hand, conventions on every line, and where codes and labels may come from."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
import torch
from evaluation_sets import DATABASE, DATABASE_LABELS, QUERY, QUERY_LABELS, hand, random_sets

import dshc.evaluation.measure
import dshc_fast
from dshc.evaluation import Conventions, evaluate
from dshc.storage import CodeFile


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


@pytest.mark.parametrize("multilabel", [False, True], ids=["ids", "multi-hot"])
@pytest.mark.parametrize("empty", ["zero", "skip"])
def test_further_metrics_are_means_of_the_core_s(multilabel: bool, empty: str) -> None:
    """Under the same ties and empty queries as mAP, each by its own cut; the last queries have nothing relevant."""
    operands = random_sets(multilabel=multilabel)
    operands[2][-2:] = 0 if multilabel else 99
    names = ("ndcg@7", "ndcg", "reciprocal_rank@3", "recall@5", "hit_rate@1", "r_precision", "ndcg@7")
    conventions = Conventions(metrics=names, ties="worst", empty=empty, gains="exponential")
    assert conventions.metrics == names[:-1] and "ndcg@7, ndcg, " in str(conventions)
    assert "gains=exponential" in str(conventions)
    evaluation = evaluate(*operands, n_bits=11, conventions=conventions)
    assert list(evaluation.metrics) == list(names[:-1])
    rows = {name: (value, note) for name, value, note in evaluation.rows()}
    for name, value in evaluation.metrics.items():
        metric, _, k = name.partition("@")
        of_queries = dshc_fast.retrieval_metric(
            *operands, metric, k=int(k) if k else None, ties="worst", gains="exponential", n_bits=11
        )
        assert np.isnan(of_queries[-2:]).all()
        expected = np.nanmean(of_queries) if empty == "skip" else np.nan_to_num(of_queries).mean()
        assert value == pytest.approx(expected, rel=1e-12)
        assert rows[name][0] == f"{value:.4f}" and f"ties=worst, empty={empty}" in rows[name][1]
        assert ("gains=exponential" in rows[name][1]) == (metric == "ndcg")


def test_the_line_carries_its_conventions() -> None:
    assert hand().line() == "mAP@all 0.8167 (ties=expected, denominator=retrieved, 1 queries, 6 database)"
    assert hand(k=4, ties="worst", denominator="min", score="overlap").line().startswith("mAP@4 ")
    assert "score=overlap" in hand(score="overlap").line()
    assert "empty=skip" in hand(empty="skip").line()


def test_groups_of_queries_have_an_mAP_of_their_own() -> None:
    operands = random_sets()
    members = np.arange(len(operands[0])) % 3 == 1
    for empty in ("zero", "skip"):
        conventions = Conventions(k=9, empty=empty)
        found = evaluate(
            *operands, n_bits=11, conventions=conventions, groups={"some": members, "rest": ~members}
        )
        alone = evaluate(
            operands[0][members],
            operands[1],
            operands[2][members],
            operands[3],
            n_bits=11,
            conventions=conventions,
        )
        assert (
            found.groups["some"] == (members.sum(), alone.mean_ap)
            and found.groups["rest"][0] == (~members).sum()
        )
        assert found.mean_ap == evaluate(*operands, n_bits=11, conventions=conventions).mean_ap
        assert ("mAP@9, some", f"{alone.mean_ap:.4f}") in [row[:2] for row in found.rows()]
    for wrong, message in (
        (members[1:], r"groups\['a'\] must be bool of shape \(20,\), got bool \(19,\)"),
        (np.arange(20), "must be bool of shape .*, got int64"),
        (np.zeros(20, bool), "must hold at least one query, got none"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate(*operands, n_bits=11, groups={"a": wrong})
    with pytest.raises(TypeError, match="groups must be arrays by name, such as a dict, got list"):
        evaluate(*operands, n_bits=11, groups=[members])


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
    evaluation = evaluate(
        *operands, n_bits=11, conventions=Conventions(score=score, empty=empty, k=30, ks=(7,))
    )
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
    found = doctest.testmod(dshc.evaluation.measure)
    assert found.failed == 0 < found.attempted


def test_queries_with_nothing_relevant() -> None:
    queries, database, query_labels, database_labels = random_sets()
    query_labels[:4] = 99
    operands = (queries, database, query_labels, database_labels)
    zero, skip = (
        evaluate(*operands, n_bits=11, conventions=Conventions(empty=empty)) for empty in ("zero", "skip")
    )
    assert zero.n_empty == skip.n_empty == 4
    assert zero.mean_ap == pytest.approx(skip.mean_ap * 16 / 20)
    assert "empty=zero" in zero.line() and "4 queries with nothing relevant" in zero.line()
    with pytest.raises(ValueError, match="got 4 of 20 queries with nothing"):
        evaluate(*operands, n_bits=11, conventions=Conventions(empty="error"))


def test_nothing_relevant_at_all_is_undefined_not_a_crash() -> None:
    evaluation = evaluate(
        QUERY, DATABASE, np.array([9]), DATABASE_LABELS, n_bits=2, conventions=Conventions(empty="skip")
    )
    assert math.isnan(evaluation.mean_ap)
    assert evaluation.line().startswith("mAP@all undefined")


def test_labels_are_left_alone() -> None:
    operands = random_sets(multilabel=True)
    before = [operand.copy() for operand in operands]
    evaluate(*operands, n_bits=11)
    assert all(np.array_equal(*pair) for pair in zip(operands, before, strict=True))


# ---- where codes and labels come from ----


def test_tensors_give_the_numbers_of_arrays() -> None:
    operands = random_sets()
    assert evaluate(*map(torch.from_numpy, operands), n_bits=11) == evaluate(*operands, n_bits=11)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("multilabel", [False, True], ids=["ids", "multi-hot"])
def test_codes_on_a_device_give_the_same_numbers(multilabel: bool) -> None:
    queries, database, query_labels, database_labels = random_sets(multilabel=multilabel)
    there = [torch.from_numpy(codes).cuda() for codes in (queries, database)]
    found = evaluate(*there, query_labels, database_labels, n_bits=11)
    expected = evaluate(queries, database, query_labels, database_labels, n_bits=11)
    np.testing.assert_allclose(found.per_query, expected.per_query, rtol=1e-12)
    assert found.query_codes.n_distinct == expected.query_codes.n_distinct
    assert found.database_codes.bit_correlation == pytest.approx(expected.database_codes.bit_correlation)
    assert (found.pairs == expected.pairs).all()


def test_code_files_bring_labels_length_and_score() -> None:
    queries, database, query_labels, database_labels = random_sets(multilabel=True)
    files = [
        CodeFile(codes, 11, labels, score="overlap")
        for codes, labels in ((queries, query_labels), (database, database_labels))
    ]
    asked = Conventions(score="overlap")
    expected = evaluate(queries, database, query_labels, database_labels, n_bits=11, conventions=asked)
    assert evaluate(*files) == expected
    assert evaluate(*files).score == "overlap"
    assert evaluate(*files, conventions=Conventions(score="hamming")).score == "hamming"
    assert evaluate(queries, files[1], query_labels, n_bits=11) == expected


class Signs:
    """A hasher of the signs of its items, which predicts the class of the largest value."""

    n_bits, score = 5, "hamming"

    def encode_and_predict(self, items: np.ndarray) -> tuple[torch.Tensor, torch.Tensor | None]:
        values = torch.from_numpy(items)
        return dshc_fast.pack_codes(values), values.argmax(1)


class Silent(Signs):
    """The same without a classifier."""

    score = "overlap"

    def encode_and_predict(self, items: np.ndarray) -> tuple[torch.Tensor, torch.Tensor | None]:
        return super().encode_and_predict(items)[0], None


def test_a_hasher_encodes_and_predicts() -> None:
    rng = np.random.default_rng(0)
    items, others, labels, other_labels = (
        rng.normal(size=(9, 5)),
        rng.normal(size=(30, 5)),
        rng.integers(0, 5, 9),
        rng.integers(0, 5, 30),
    )
    found = evaluate(items, others, labels, other_labels, hasher=Signs())
    right = float((items.argmax(1) == labels).mean())
    assert found.accuracy == {
        "queries": {"top_1": right},
        "database": {"top_1": float((others.argmax(1) == other_labels).mean())},
    }
    codes, other_codes = dshc_fast.pack_codes(items), dshc_fast.pack_codes(others)
    packed = evaluate(codes, other_codes, labels, other_labels, n_bits=5, accuracy=found.accuracy)
    assert found == packed
    silent = evaluate(items, others, labels, other_labels, hasher=Silent())
    assert silent.accuracy == {} and silent.score == "overlap"
    # A database that was encoded once is not encoded again.
    file = CodeFile(other_codes, 5, other_labels)
    mixed = evaluate(items, file, labels, hasher=Signs())
    assert mixed.mean_ap == found.mean_ap and mixed.accuracy == {"queries": {"top_1": right}}
    assert evaluate(items, file, labels, hasher=Signs(), accuracy=0.5).accuracy == {"queries": {"top_1": 0.5}}
    hot = (
        np.ones((9, 5), np.uint8),
        np.ones((30, 5), np.uint8),
    )  # labels of another kind than what is predicted
    assert evaluate(items, others, *hot, hasher=Signs(), accuracy={}).accuracy == {}
    with pytest.raises(ValueError, match="predictions and labels must have one shape"):
        evaluate(items, others, *hot, hasher=Signs())


def test_wrong_operands_are_refused() -> None:
    labels = (QUERY_LABELS, DATABASE_LABELS)
    for words, call in {
        "queries must hold at least one item, got none": lambda: evaluate(
            QUERY[:0], DATABASE, QUERY_LABELS[:0], DATABASE_LABELS, n_bits=2
        ),
        "database must hold at least one item, got none": lambda: evaluate(
            QUERY, DATABASE[:0], QUERY_LABELS, DATABASE_LABELS[:0], n_bits=2
        ),
        "labels": lambda: evaluate(QUERY, DATABASE, QUERY_LABELS, DATABASE_LABELS[:-1], n_bits=2),
        "n_bits": lambda: evaluate(QUERY, DATABASE, *labels, n_bits=9),
        "padding": lambda: evaluate(QUERY, DATABASE, *labels, n_bits=1),
        "n_bits must be given with packed queries": lambda: evaluate(QUERY, DATABASE, *labels),
        "query_labels must be given": lambda: evaluate(QUERY, DATABASE, n_bits=2),
        "got queries without labels": lambda: evaluate(CodeFile(QUERY, 2), DATABASE, n_bits=2),
        "n_bits must be 2 for these queries, got 3": lambda: evaluate(
            CodeFile(QUERY, 2, QUERY_LABELS), DATABASE, None, DATABASE_LABELS, n_bits=3
        ),
        "codes of one length, got 2 and 5 bits": lambda: evaluate(
            CodeFile(QUERY, 2, QUERY_LABELS), np.zeros((6, 5)), None, DATABASE_LABELS, hasher=Silent()
        ),
        "codes of one length, got 3 bits and 2 bits": lambda: evaluate(
            CodeFile(QUERY, 3, QUERY_LABELS), CodeFile(DATABASE, 2, DATABASE_LABELS)
        ),
    }.items():
        with pytest.raises(ValueError, match=words):
            call()
    with pytest.raises(TypeError, match="queries must be packed codes .* got list"):
        evaluate([[0]], DATABASE, *labels, n_bits=2)
    with pytest.raises(TypeError, match="queries must be uint8 .* got float64"):
        evaluate(QUERY.astype(float), DATABASE, *labels, n_bits=2)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"n_bits": 3.5}, TypeError, "n_bits must be a whole number, got 3.5"),
        ({"n_bits": "8"}, TypeError, "n_bits must be a whole number, got '8'"),
        ({"accuracy": "x"}, TypeError, "accuracy must be a number, .*, got 'x'"),
        ({"conventions": {"k": 3}}, TypeError, "conventions must be Conventions, got dict"),
        ({"query_labels": np.array(["a", "b"])}, TypeError, "query_labels must be integers, .*, got <U1"),
        (
            {"database_labels": np.array([0.0, 1.0])},
            TypeError,
            "database_labels must be integers, .* float64",
        ),
    ],
)
def test_arguments_of_another_type_are_named(change, error, message):
    codes = np.array([[1], [2]], np.uint8)
    given = {"query_labels": np.array([0, 1]), "database_labels": np.array([0, 1]), "n_bits": 8}
    with pytest.raises(error, match=message):
        dshc.evaluate(codes, codes, **{**given, **change})
