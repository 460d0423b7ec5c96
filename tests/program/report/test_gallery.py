"""Galleries: which queries are shown, their nearest items in order, and small pictures of them."""

from __future__ import annotations

import numpy as np
import pytest
from report_cases import N_BITS, N_DB, N_QUERY, evaluation_of, gallery_of, images, operands, picture

import dshc_fast
from dshc.report.gallery import hardest_queries, spread_queries, thumbnail
from dshc.report.retrieval_report import _galleries
from dshc.storage import CodeFile


def test_the_gallery_shows_the_nearest_in_order() -> None:
    evaluation = evaluation_of()
    queries, database, query_labels, database_labels = operands()
    gallery = gallery_of(evaluation, images(), k=4)
    for position, row in zip(spread_queries(query_labels), gallery.rows, strict=True):
        distances = dshc_fast.hamming_distance(queries[[position]], database)[0]
        order = np.argsort(distances, kind="stable")[:4]
        assert [item.distance for item in row.results] == distances[order].tolist()
        assert [item.name for item in row.results] == [f"#{N_QUERY + i}" for i in order]
        assert [item.right for item in row.results] == (
            database_labels[order] == query_labels[position]
        ).tolist()
        assert row.average_precision == evaluation.per_query[position]


def test_queries_are_spread_over_the_classes_whatever_their_results() -> None:
    labels = np.repeat(np.arange(7), [1, 50, 3, 9, 9, 9, 9])
    picked = spread_queries(labels)
    assert len(picked) == 10 == len(set(picked.tolist()))
    assert set(labels[picked]) == set(range(7)) and (np.diff(labels[picked]) >= 0).all()
    assert np.array_equal(picked, spread_queries(labels))
    assert len(spread_queries(labels[:4])) == 4
    assert len(spread_queries(np.ones((30, 4), np.uint8))) == 10
    assert set(labels[spread_queries(np.arange(40))]) <= set(range(40))


def test_hardest_queries_are_in_order_and_leave_out_the_undefined() -> None:
    ap = np.array([0.5, np.nan, 0.1, 1.0, 0.1])
    assert hardest_queries(ap, 3).tolist() == [2, 4, 0]
    assert hardest_queries(np.array([np.nan]), 3).tolist() == []


@pytest.mark.parametrize("channels", [1, 3])
def test_thumbnails_keep_small_pictures_and_shrink_large_ones(channels: int) -> None:
    small = images(8, channels)[0]
    assert np.array_equal(np.asarray(picture(thumbnail(small))).reshape(small.shape), small)
    large = picture(thumbnail(images(300, channels)[0]))
    assert large.size == (192, 191) and large.format == ("JPEG" if channels == 3 else "PNG")
    photo = np.linspace(0, 255, 224 * 224 * channels).astype(np.uint8).reshape(224, 224, channels)
    assert len(thumbnail(photo)) < 30_000
    assert picture(thumbnail(images(62, channels)[0])).format == "PNG"  # 62 x 64


class OneByOne:
    """Images that are decoded when they are asked for: by a number, and no other way."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.asked = array, []

    def __getitem__(self, row: int) -> np.ndarray:
        assert type(row) is int, "one image at a time"
        self.asked.append(row)
        return self.array[row]


def test_no_image_is_decoded_but_those_shown() -> None:
    queries, database, query_labels, database_labels = operands()
    stored = OneByOne(images())
    galleries = _galleries(
        evaluation_of(),
        CodeFile(queries, N_BITS, labels=query_labels),
        CodeFile(database, N_BITS, labels=database_labels),
        images=stored,
        query_items=np.arange(N_QUERY)[::-1],
        database_items=np.arange(N_QUERY, N_QUERY + N_DB),
    )
    assert len(stored.asked) == (10 + 5) * 11
    first = galleries[0].rows[0].query
    assert np.array_equal(first.image, images()[N_QUERY - 1 - spread_queries(query_labels)[0]])
