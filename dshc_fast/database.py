"""`HammingDatabase`: a database prepared once for many calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from . import _checks as checks
from . import _tables
from ._arguments import (
    EqualRows,
    code_clusters,
    distinct_codes,
    largest_last_byte,
    partition_rows,
    refuse_without_memory,
    widen_rows,
)
from ._arrays import Array, as_tensor
from ._cuda_ops import unusable
from ._label_arguments import as_int32, label_words
from ._prepared import ROWS_PER_PART, Group, Prepared, as_bytes, padded_bytes, tables_of
from ._torch_threads import torch_steps


class HammingDatabase:
    """Codes, and labels if given, prepared once for many calls: pass it as `database` to any ranking op or metric.

    It keeps what a call with plain arrays works out anew: codes padded to whole words, labels in the form that kernels
    compare, and which codes and which labels are equal. Learned codes repeat: a database coded by DSHC holds no
    more distinct codes than sub-classes, so that searching each distinct code once is exact and costs their number plus
    the answer instead of the number of items; where they lie around few centers, as DSHC's do, only these and the codes
    around the near ones are compared. The paper's closing sentence asks for a search built on this (Luo et al.,
    *Deep Supervised Hashing by Classification*). Answers equal those for plain arrays to the bit. A database of hardly
    any equal codes is kept without parts, and no call is the worse for it.

    Codes and labels are copied: the arrays given may be changed or freed afterwards. What `codes` and `labels` return
    is the copy, which must not be changed (that of numpy arrays is read-only). On CUDA all stays on the device, nothing
    is looked at, and no parts are made.

    With `tables` the database also keeps *substring tables* for multi-index hashing (Norouzi, Punjani, Fleet, CVPR
    2012, TPAMI 2014): the items by the values of parts of their codes. `hamming_topk` and `hamming_radius` then look up
    what is near instead of comparing all, where the lengths of the lists say that this is faster: in a large database
    with a small radius, or where the nearest are near (clustered codes). Else they scan, as without tables; score
    "overlap" and a mask of each query are always scanned. Answers are the same to the bit. A code of b bits costs about
    4 * b / log2(n) bytes more.

    With `clusters` it also keeps the codes once more, put to centers that a sample of them shows, where they do lie
    around few: learned codes of a class are near each other, and far from those of other classes. `hamming_topk` and
    `hamming_radius` then compare a query with the centers, and by the triangle inequality only with the items that may
    be near enough; where these are too many they scan. Answers are the same to the bit; score "overlap" and a mask of
    each query are always scanned. Other codes are kept without, and so are those that repeat, which need no clusters. A
    code of b bytes costs about b + 4 bytes more, a center some 33 * b.

    Args:
        codes: uint8 (n, bytes), 1 to 512 bytes, at least one row; numpy or torch, on the CPU or on CUDA.
        labels: class ids (n,), any integers; or multi-hot rows (n, n_labels) of 0 and 1, which are checked here on the
            CPU, and on CUDA by metrics with `check=True`. None: the database has no labels.
        tables: True makes substring tables. Or those of another HammingDatabase of equal codes (its `tables`, saved
            and loaded, or memory-mapped): every entry is looked at once, and they are used where they lie, not copied.
            On the CPU only.
        clusters: True looks for clusters. On the CPU only.

    Raises:
        TypeError, ValueError: naming the argument that does not fit. An op reports the codes as `database` and the
            labels as `database_labels`, with the shapes given here. ValueError: tensors without values (meta or fake
            ones, those inside torch.func transforms): a database is prepared outside of what is traced.

    Example:
        >>> import numpy as np, dshc_fast
        >>> codes, labels = np.array([[0], [1], [3], [1]] * 4, dtype=np.uint8), np.array([5, 5, 7, 5] * 4)
        >>> database = dshc_fast.HammingDatabase(codes, labels)
        >>> database
        HammingDatabase(16 codes of 1 byte, 3 distinct; class ids)
        >>> dshc_fast.hamming_topk(codes[:1], database, 3).indices
        array([[0, 4, 8]])
        >>> round(dshc_fast.mean_average_precision(codes[:2], database, labels[:2]), 12)
        0.97578388873
    """

    def __init__(
        self,
        codes: Array,
        labels: Array | None = None,
        *,
        tables: bool | Mapping[str, Array] = False,
        clusters: bool = False,
    ) -> None:
        given, given_labels = as_tensor(codes, "codes"), None
        checks.check_same_device(codes=given)
        if given.is_meta:
            raise ValueError("codes must be on cpu or cuda, got meta")
        if given.is_cuda and (why := unusable()):
            raise RuntimeError(why)
        checks.check_codes(given, "codes", at_least=1)
        refuse_without_memory(given, "codes")
        refuse_without_memory(given.new_empty((1,)), "what torch makes here of codes")  # under a fake mode
        given = given.resolve_neg()  # whose memory holds other values
        if labels is not None:
            given_labels = as_tensor(labels, "labels")
            checks.check_same_device(codes=given, labels=given_labels)
            checks.check_label_rows(given_labels, "labels", given.shape[0], "codes")
            refuse_without_memory(given_labels, "labels")
        if not isinstance(tables, (bool, Mapping)):
            raise TypeError(f"tables must be True, False or a mapping of arrays, got {type(tables).__name__}")
        if tables is not False and given.is_cuda:
            raise ValueError("tables must be False for codes on cuda, which are always scanned")
        checks.check_bool(clusters, "clusters")
        if clusters and given.is_cuda:
            raise ValueError("clusters must be False for codes on cuda, which are always scanned")
        self._clusters = clusters
        self._numpy_codes, self._numpy_labels = (isinstance(array, np.ndarray) for array in (codes, labels))
        self._labels: Tensor | None = None
        with torch.inference_mode(False), torch.no_grad():  # inference tensors have no version counter
            self._codes, prepared = _prepare_codes(given)
            self._prepared = Prepared.of(self._codes, prepared)
            if given_labels is not None:
                # Where codes are grouped, the labels of a group are counted by label, however many there are.
                max_parts = len(self) // (1 if self.n_distinct else ROWS_PER_PART)
                self._labels, more = _prepare_labels(given_labels, max_parts)
                prepared = [*prepared, *more]
            if tables is not False:
                equal = EqualRows(prepared[1], prepared[2])
                if isinstance(tables, Mapping):
                    prepared += _tables.adopt(tables, self._codes, prepared, equal)
                else:
                    prepared += _tables.make(prepared, self._codes.shape[1], equal)
            self._prepared = Prepared.of(self._codes, prepared)
            if self.n_distinct:
                self._prepared.distinct = distinct_codes(*prepared[:3])  # once, not at every call
            elif clusters:
                self._prepared.clusters = code_clusters(prepared[0])

        self._tensors = list(self._prepared)

    def __len__(self) -> int:
        return self._codes.shape[0]

    @property
    def codes(self) -> Array:
        """The codes, uint8 (n, bytes), in the kind they were given; not to be changed."""
        return _read_only(self._codes) if self._numpy_codes else self._codes

    @property
    def labels(self) -> Array | None:
        """The labels as they were given, or None; not to be changed."""
        if self._labels is None:
            return None
        return _read_only(self._labels) if self._numpy_labels else self._labels

    @property
    def n_distinct(self) -> int | None:
        """How many distinct codes there are, where codes repeat enough to be kept in parts (four items per code or
        more on average); else None."""
        return self._prepared[2].shape[0] - 1 if self._prepared[2].shape[0] else None

    @property
    def tables(self) -> dict[str, Array] | None:
        """The substring tables as arrays by name, to be saved and given to a HammingDatabase of the same codes:
        `offsets` uint32 (n_offsets,) and `items` uint32 (n_tables, n_codes), in the kind of the codes; not to be
        changed. None: there are none."""
        return _tables.as_mapping(self._prepared, _read_only if self._numpy_codes else lambda tensor: tensor)

    @property
    def n_clusters(self) -> int | None:
        """How many centers the codes are put to, where `clusters` were asked for and there are any; else None."""
        found = self._prepared.clusters
        return None if found is None else found.n_centers

    @property
    def nbytes(self) -> int:
        """The bytes of all that is kept."""
        kept = [*self._prepared, *([] if self._labels is None else [self._labels])]
        native = (self._prepared.distinct, self._prepared.clusters)
        return sum(found.nbytes for found in native if found is not None) + sum(
            {id(tensor): tensor.nbytes for tensor in kept}.values()
        )  # int32 ids are their own label rows

    def __reduce__(self) -> tuple[Callable[..., HammingDatabase], tuple[object, ...]]:
        """Copies and pickles are prepared anew."""
        labels, dtype = self.labels, None
        if isinstance(labels, Tensor) and labels.dtype in checks.SIGNED:  # of others torch can load no pickle
            labels, dtype = labels.view(checks.SIGNED[labels.dtype]), labels.dtype
        return _prepared_anew, (self.codes, labels, bool(tables_of(self._prepared)), self._clusters, dtype)

    def __repr__(self) -> str:
        n, n_bytes = self._codes.shape
        text = f"{n} code{'s' * (n > 1)} of {n_bytes} byte{'s' * (n_bytes > 1)}"
        if self.n_distinct is not None:
            text += f", {self.n_distinct} distinct"
        if self._labels is not None:
            text += (
                "; class ids"
                if self._labels.dim() == 1
                else f"; multi-hot rows of {self._labels.shape[1]} labels"
            )
        if tables := tables_of(self._prepared):
            text += f"; {tables[1].shape[0]} substring table{'s' * (tables[1].shape[0] > 1)}"
        if self.n_clusters is not None:
            text += f"; {self.n_clusters} cluster{'s' * (self.n_clusters > 1)}"
        return f"HammingDatabase({text}{f'; on {self._codes.device}' if self._codes.is_cuda else ''})"


def _prepared_anew(
    codes: Array,
    labels: Array | None,
    tables: bool,
    clusters: bool = False,
    labels_dtype: torch.dtype | None = None,
) -> HammingDatabase:
    if labels_dtype is not None and isinstance(labels, Tensor):
        labels = labels.view(labels_dtype)
    return HammingDatabase(codes, labels, tables=tables, clusters=clusters)


def _read_only(tensor: Tensor) -> np.ndarray:
    array = tensor.numpy()
    array.flags.writeable = False  # of this view, which torch makes anew at each call
    return array


def _prepare_codes(codes: Tensor) -> tuple[Tensor, list[Tensor]]:
    n, n_bytes = codes.shape
    rows = widen_rows(codes, n_bytes if codes.is_cuda else padded_bytes(n_bytes))
    tensors = [rows[:, :n_bytes], rows, *partition_rows(rows, n // ROWS_PER_PART)]
    # Padding bits of a code length are a question about the last byte, which calls need not ask of every code.
    Group(tensors, last_byte=None if codes.is_cuda else largest_last_byte(codes))
    return tensors[0], tensors[1:]


def _prepare_labels(labels: Tensor, max_parts: int) -> tuple[Tensor, list[Tensor]]:
    with torch_steps():
        labels = labels.detach().clone(memory_format=torch.contiguous_format)
    if labels.dim() == 2:
        rows = label_words(labels, "labels", None)
    else:
        ids = None if labels.is_cuda else as_int32(labels)
        rows = labels.new_empty((0,), dtype=torch.int32) if ids is None else ids
    members, offsets = partition_rows(as_bytes(rows if rows.shape[0] else labels), max_parts)
    tensors = [labels, rows, members, offsets]
    Group(tensors)
    return labels, tensors[1:]


def as_database(database: Array | HammingDatabase) -> tuple[Tensor, Sequence[Tensor] | None]:
    """The codes of a database, and what is kept beside them."""
    if isinstance(database, HammingDatabase):
        # A compiler knows a list of tensors, and no tuple of a class of its own.
        return database._codes, database._tensors if torch.compiler.is_compiling() else database._prepared
    return as_tensor(database, "database"), None


def as_labelled_database(
    database: Array | HammingDatabase, labels: Array | None
) -> tuple[Tensor, Tensor, Sequence[Tensor] | None]:
    """Codes and labels of a database, and what is kept beside them."""
    codes, prepared = as_database(database)
    if not isinstance(database, HammingDatabase):
        return codes, as_tensor(labels, "database_labels"), prepared
    if (labels is None) == (database._labels is None):
        found = "none" if labels is None else "both"
        raise ValueError(f"database_labels must be given here or be in the HammingDatabase, got {found}")
    return codes, as_tensor(database._labels if labels is None else labels, "database_labels"), prepared
