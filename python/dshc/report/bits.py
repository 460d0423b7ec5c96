"""What a report tells of single bits: how balanced each is, which classes switch it on, and its nearest double."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..evaluation import CodeStatistics
from ..storage import describe_label

__all__ = ["MAX_ROWS", "BitRow", "BitTable", "bit_table"]

MAX_ROWS = 64
"""Most bits that are told one by one; of longer codes the least balanced."""
_OPEN_ROWS = 32


@dataclass(frozen=True)
class BitRow:
    """The texts of one bit, as they are printed; ``width`` is its share of ones as a CSS length."""

    bit: int
    share: str
    width: str
    entropy: str
    n_classes: str
    classes: str
    partner: str


@dataclass(frozen=True)
class BitTable:
    """Rows of bits; the flags say which columns are known, ``is_long`` whether the rows are folded away."""

    rows: tuple[BitRow, ...]
    caption: str
    summary: str
    has_classes: bool
    has_partners: bool

    @property
    def is_long(self) -> bool:
        """Whether the table should be folded."""
        return len(self.rows) > _OPEN_ROWS


def bit_table(codes: CodeStatistics, class_names: Sequence[str] = ()) -> BitTable:
    """A row per bit, in order; of more than 64 bits the 64 least balanced, those first."""
    everything = codes.n_bits <= MAX_ROWS
    least_balanced = np.argsort(codes.entropies, kind="stable")[:MAX_ROWS]
    shown = range(codes.n_bits) if everything else least_balanced.tolist()
    bits = (
        f"All {codes.n_bits:,} bits"
        if everything
        else f"The {MAX_ROWS} least balanced of {codes.n_bits:,} bits"
    )
    parts = [f"Of the {codes.n_codes:,} database codes. {bits}, numbered from 0."]
    parts.append("Entropy is 1 for a bit that is 1 in half of the codes, and 0 for one that never changes.")
    if codes.bit_classes is not None:
        parts.append("A class switches a bit on if more than half of its items have a 1 there.")
    if codes.bit_partner is not None:
        parts.append(
            f"The bit most like it: that of the largest |correlation| ({codes.correlation_rows:,} codes)."
        )
    return BitTable(
        rows=tuple(_row(codes, bit, class_names) for bit in shown),
        caption=" ".join(parts),
        summary=f"{bits}, one by one",
        has_classes=codes.bit_classes is not None,
        has_partners=codes.bit_partner is not None,
    )


def _row(codes: CodeStatistics, bit: int, class_names: Sequence[str]) -> BitRow:
    share = float(codes.bit_mean[bit])
    n_classes, classes = _classes(codes, bit, class_names)
    return BitRow(
        bit=bit,
        share=f"{share:.1%}",
        width=f"{share:.2%}",
        entropy=f"{codes.entropies[bit]:.3f}",
        n_classes=n_classes,
        classes=classes,
        partner=_partner(codes, bit),
    )


def _classes(codes: CodeStatistics, bit: int, class_names: Sequence[str]) -> tuple[str, str]:
    if codes.bit_classes is None:
        return "", ""
    count = int(codes.bit_n_classes[bit])
    best = [
        (int(label), float(share))
        for label, share in zip(codes.bit_classes[bit], codes.bit_class_share[bit], strict=True)
    ]
    on = [pair for pair in best if pair[1] > 0.5]
    told = ", ".join(f"{_name(label, class_names)} {share:.0%}" for label, share in on or best[:1])
    if not on:
        told = f"none; at most {told}" if best and best[0][1] > 0 else "none"
    elif count > len(on):
        told += f" and {count - len(on)} more"
    return f"{count} of {len(class_names)}" if class_names else f"{count}", told


def _name(label: int, class_names: Sequence[str]) -> str:
    return class_names[label] if 0 <= label < len(class_names) else describe_label(np.int64(label))


def _partner(codes: CodeStatistics, bit: int) -> str:
    if codes.bit_partner is None or codes.bit_partner[bit] < 0:
        return "none"
    correlation = float(codes.bit_partner_correlation[bit])
    return "none" if math.isnan(correlation) else f"{int(codes.bit_partner[bit])} ({correlation:+.2f})"
