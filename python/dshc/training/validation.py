"""Measuring a model on the validation split while it trains."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import dshc_fast

from ..data import Split
from ..data.batches import Batches
from ..hasher import Hasher
from .passes import outputs_of
from .processes import Processes

__all__ = ["Validation"]


class Validation:
    """mAP and quality on the validation split, by which the epoch is chosen; the queries never enter.

    The queries of this mAP are the validation items, its database a fixed sample of the training items, as many as
    the queries and at least 1000: all of a large training set would cost as much as a third of an epoch.
    """

    def __init__(self, split: Split, labels: Tensor | None, seed: int) -> None:
        size = max(1000, len(split.validation))
        order = torch.randperm(len(split.train), generator=torch.Generator().manual_seed(seed))
        self.queries = torch.from_numpy(split.validation)
        self.database = torch.from_numpy(split.train)[order[:size].sort().values]
        self.labels = labels

    def measure(self, hasher: Hasher, batches: Batches, processes: Processes) -> dict[str, Any]:
        """The validation part of a row of metrics; empty where there is no validation split."""
        if self.labels is None or not len(self.queries):
            return {}
        method, device = hasher.method, self.labels.device
        labels, database_labels = self.labels[self.queries.to(device)], self.labels[self.database.to(device)]
        outputs = outputs_of(hasher, batches, self.queries, processes)
        database_codes = method.encode(outputs_of(hasher, batches, self.database, processes))
        precisions = dshc_fast.average_precision(
            method.encode(outputs),
            database_codes,
            labels,
            database_labels,
            ties="expected",
            denominator="retrieved",
            score=method.score,
            n_bits=method.n_bits,
        )
        known = precisions[~precisions.isnan()]  # of queries with something relevant in the database
        row: dict[str, Any] = {}
        if method.quality is not None:
            numerator, denominator = method.tally(method.predict(outputs), labels).tolist()
            row[f"validation_{method.quality}"] = numerator / max(denominator, 1)
        return row | {
            "validation_map": known.mean().item() if len(known) else None,
            "validation_map_error": known.std().item() / len(known) ** 0.5 if len(known) > 1 else None,
            "validation_conventions": (
                f"mAP@all, ties=expected, denominator=retrieved, empty=skip, score={method.score}, "
                f"{len(self.queries)} queries (validation), {len(self.database)} database (training)"
            ),
        }

    @staticmethod
    def selects(row: dict[str, Any], best: float | None) -> bool:
        """Whether to take the row's epoch, ``best`` being the highest mAP before: the one-standard-error rule.

        Of the epochs within one standard error of the highest mAP the latest is taken. The highest alone is chance
        where it is measured on few images, and the learning rate has come down only at the end.
        """
        found = row.get("validation_map")
        if found is None:
            return False
        return best is None or found >= best - (row["validation_map_error"] or 0.0)
