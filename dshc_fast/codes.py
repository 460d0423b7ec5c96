"""Hash codes: packing, unpacking, and reading codes off the outputs of a classifier."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from . import _checks as checks
from . import _shapes as shapes
from ._arrays import Array, Kind, answer, as_tensor
from ._device_values import on_device

_op = torch.ops.dshc_fast


def pack_codes(values: Kind, *, check: bool | None = None) -> Kind:
    """Pack real, ±1, integer or boolean values into hash codes.

    Args:
        values: (n, n_bits), any real dtype, 1 to 4096 bits. A bit is 1 where the value is > 0.
        check: whether NaN raises; None: on the CPU yes, on CUDA no.

    Returns:
        uint8 (n, ceil(n_bits / 8)). Bit j is byte j // 8, position j % 8 (``numpy.packbits(...,
        bitorder="little")``, FAISS); padding bits are 0.

    Raises:
        TypeError: `values` is complex, or no array.
        ValueError: `values` is not two-dimensional, has no bits or too many, or holds NaN.

    Example:
        >>> import numpy as np, dshc_fast
        >>> dshc_fast.pack_codes(np.array([[0.5, -1.0, 0.0, 2.0]]))
        array([[9]], dtype=uint8)
    """
    checks.check_flag(check, "check")
    return answer(_op.pack_codes(as_tensor(values, "values").detach(), check), values)


def unpack_codes(codes: Kind, n_bits: int, *, signed: bool = False) -> Kind:
    """Unpack hash codes into one value per bit.

    Args:
        codes: uint8 (n, bytes).
        n_bits: how many bits a code has; 8 * (bytes - 1) < n_bits <= 8 * bytes.
        signed: -1 / +1 instead of 0 / 1.

    Returns:
        uint8 (n, n_bits) of 0 and 1, or int8 (n, n_bits) of -1 and +1.

    Raises:
        TypeError: `codes` is not uint8.
        ValueError: `codes` has a wrong shape, or `n_bits` does not fit the code length.

    Example:
        >>> import numpy as np, dshc_fast
        >>> dshc_fast.unpack_codes(np.array([[9]], dtype=np.uint8), 4)
        array([[1, 0, 0, 1]], dtype=uint8)
    """
    if not isinstance(signed, bool):
        raise TypeError(f"signed must be True or False, got {type(signed).__name__}")
    n_bits = checks.as_int(n_bits, "n_bits")
    return answer(_op.unpack_codes(as_tensor(codes, "codes"), n_bits, signed), codes)


def reverse_bit_order(codes: Kind) -> Kind:
    """Turn codes in the other bit order into ours, or back: the bits of every byte are reversed.

    ``numpy.packbits`` puts the first bit at the top of a byte by default; this library, like FAISS, puts it
    at the bottom.

    Args:
        codes: uint8 (n, bytes).

    Returns:
        uint8 (n, bytes).

    Raises:
        TypeError: `codes` is not uint8.
        ValueError: `codes` has a wrong shape.

    Example:
        >>> import numpy as np, dshc_fast
        >>> dshc_fast.reverse_bit_order(np.packbits([[1, 0, 0, 1]], axis=1))
        array([[9]], dtype=uint8)
    """
    return answer(_op.reverse_bit_order(as_tensor(codes, "codes")), codes)


def codes_from_logits(
    logits: Kind, codebook: object, k: int, *, weighting: str = "mean", check: bool | None = None
) -> Kind:
    """Read hash codes off the predicted sub-classes (DSHC, Luo et al., section 3.2).

    The codes of the k sub-classes with the largest logits (equal logits: the lower index first) are averaged
    as ±1, and the signs are packed. A tied bit is that of the first sub-class, so that k = 2 with a plain
    mean equals k = 1.

    Args:
        logits: (n, n_subclasses) float32, float64, float16 or bfloat16. -inf and +inf rank by value.
        codebook: uint8 (n_subclasses, bytes), the code of each sub-class, or an object with such an array as
            `codes`.
        k: how many sub-classes, 1 to n_subclasses.
        weighting: "mean", or "probability" (soft-max over all sub-classes; float32, or float64 for float64
            logits).
        check: whether NaN (and +inf with "probability") raises; None: on the CPU yes, on CUDA no.

    Returns:
        uint8 (n, bytes).

    Raises:
        TypeError, ValueError: naming the argument that does not fit.

    Example:
        >>> import numpy as np, dshc_fast
        >>> codebook = np.array([[0b00], [0b01], [0b11]], dtype=np.uint8)
        >>> dshc_fast.codes_from_logits(np.array([[0.1, 2.0, 1.0]], dtype=np.float32), codebook, 1)
        array([[1]], dtype=uint8)
    """
    checks.check_flag(check, "check")
    checks.check_choice(weighting, "weighting", shapes.WEIGHTINGS)
    k = checks.as_int(k, "k")
    table = as_tensor(getattr(codebook, "codes", codebook), "codebook")
    return answer(
        _op.codes_from_logits(as_tensor(logits, "logits").detach(), table, k, weighting, check), logits
    )


def codes_from_features(
    features: Kind,
    weight: Array,
    bias: Array | None,
    codebook: object,
    k: int,
    *,
    weighting: str = "mean",
    chunk: int | None = None,
    check: bool | None = None,
) -> Kind:
    """`codes_from_logits` of the logits ``features @ weight.T + bias``, of which a part exists at a time.

    A part has a chunk of sub-classes and a block of rows, 2^22 logits on the CPU, 2^25 on CUDA. The k best sub-classes
    of each row are handed on from chunk to chunk. The answer equals that of `codes_from_logits` to the bit wherever the
    matrix product gives a logit the same bits in a part as in the whole.
    Equal logits: the lower index first, across chunks as well.

    Args:
        features: (n, n_features) float32, float64, float16 or bfloat16.
        weight: (n_subclasses, n_features), of the features' dtype. Under autocast all three are cast as
            ``torch.nn.functional.linear`` would.
        bias: (n_subclasses,), of the features' dtype, or None.
        codebook, k, weighting, check: as in `codes_from_logits`; the logits are what is checked.
        chunk: sub-classes at a time; None: 4096 on the CPU, on CUDA as many as make 2^25 logits, at least 4096.

    Returns:
        uint8 (n, bytes).

    Raises:
        TypeError, ValueError: naming the argument that does not fit, or `logits` where their values do not.

    Example:
        >>> import numpy as np, dshc_fast
        >>> codebook = np.array([[0b00], [0b01], [0b11]], dtype=np.uint8)
        >>> features, weight = np.ones((1, 1)), np.array([[1.0], [2.0], [3.0]])
        >>> dshc_fast.codes_from_features(features, weight, None, codebook, 1)
        array([[3]], dtype=uint8)
    """
    checks.check_flag(check, "check")
    checks.check_choice(weighting, "weighting", shapes.WEIGHTINGS)
    k = checks.as_int(k, "k")
    layer, chunk, dtype = as_layer(features, weight, bias, chunk)
    table = as_tensor(getattr(codebook, "codes", codebook), "codebook")
    inputs = (tensor if tensor is None else tensor.detach() for tensor in layer)
    return answer(_op.codes_from_features(*inputs, table, k, weighting, chunk, dtype, check), features)


def center_codes_from_logits(
    logits: Kind, class_offsets: object, centers: Array, *, check: bool | None = None
) -> Kind:
    """The center of the class with the largest log-sum-exp over its sub-classes, packed.

    Args:
        logits: (n, n_subclasses) float32, float64, float16 or bfloat16.
        class_offsets: (n_classes + 1,) integers, rising from 0 to n_subclasses; list, numpy or torch.
        centers: uint8 (n_classes, bytes).
        check: whether NaN raises; None: on the CPU yes, on CUDA no.

    Returns:
        uint8 (n, bytes). Equal log-sum-exp: the lower class.

    Raises:
        TypeError, ValueError: naming the argument that does not fit.

    Example:
        >>> import numpy as np, dshc_fast
        >>> logits = np.array([[1.0, 1.0, 1.5]])
        >>> dshc_fast.center_codes_from_logits(logits, [0, 2, 3], np.array([[7], [8]], dtype=np.uint8))
        array([[7]], dtype=uint8)
    """
    checks.check_flag(check, "check")
    tensor = as_tensor(logits, "logits").detach()
    offsets = as_offsets(class_offsets, tensor.device)
    return answer(_op.center_codes_from_logits(tensor, offsets, as_tensor(centers, "centers"), check), logits)


def multilabel_codes(logits: Kind, threshold: object = 0.0, *, check: bool | None = None) -> Kind:
    """Let the thresholded labels be the code (DSHC, Luo et al., section 3.3): bit c is logit c > threshold.

    Args:
        logits: (n, n_labels) float32, float64, float16 or bfloat16; 1 to 4096 labels.
        threshold: a number, or one per class, (n_labels,); list, numpy or torch. Compared in float64.
        check: whether NaN raises; None: on the CPU yes, on CUDA no.

    Returns:
        uint8 (n, ceil(n_labels / 8)).

    Raises:
        TypeError, ValueError: naming the argument that does not fit.

    Example:
        >>> import numpy as np, dshc_fast
        >>> dshc_fast.multilabel_codes(np.array([[0.3, -2.0, 0.0]]))
        array([[1]], dtype=uint8)
    """
    checks.check_flag(check, "check")
    tensor = as_tensor(logits, "logits").detach()
    if not isinstance(threshold, (Tensor, np.ndarray)):
        if isinstance(threshold, (bool, np.bool_, complex, np.complexfloating)):
            raise TypeError(f"threshold must be a number, or one per class, got {type(threshold).__name__}")
        try:
            if isinstance(threshold, (int, float, np.integer, np.floating)):
                # Filled in on the device: nothing to copy, nothing to wait for.
                threshold = torch.full((), float(threshold), dtype=torch.float64, device=tensor.device)
            else:
                threshold = on_device(threshold, torch.float64, tensor.device)
        except OverflowError:
            raise ValueError(
                "threshold must hold numbers that float64 can hold, and infinities, got a larger one"
            ) from None
        except (IndexError, TypeError, ValueError, RuntimeError):
            raise TypeError(
                f"threshold must be a number, or one per class, got {type(threshold).__name__}"
            ) from None
    return answer(_op.multilabel_codes(tensor, as_tensor(threshold, "threshold"), check), logits)


def as_offsets(class_offsets: object, device: torch.device) -> Tensor:
    """`class_offsets` as a tensor: lists and numpy arrays are moved to `device`, tensors must be there."""
    if isinstance(class_offsets, (list, tuple)):
        for offset in class_offsets:
            if not isinstance(offset, (int, np.integer)) or isinstance(offset, bool):
                raise TypeError(f"class_offsets must hold integers, got {type(offset).__name__}")
        try:
            return on_device(class_offsets, torch.int64, device)
        except (OverflowError, RuntimeError, ValueError):  # torch's choice differs between its versions
            beyond = [int(offset) for offset in class_offsets if not -(2**63) <= offset < 2**63]
            if not beyond:
                raise
            raise ValueError(
                "class_offsets must rise strictly from 0 to the number of sub-classes, got one with "
                f"{_short(beyond[0])}"
            ) from None
    tensor = as_tensor(class_offsets, "class_offsets")
    if not isinstance(class_offsets, np.ndarray) or device.type == "cpu":
        return tensor
    if tensor.dim() != 1 or class_offsets.dtype.kind not in "iu":  # the op says what is wrong
        return tensor.to(device)
    return on_device(tensor.tolist(), torch.int64, device)


def _short(number: int) -> str:
    """Python refuses to write out integers of thousands of digits."""
    return str(number) if number.bit_length() <= 256 else f"an integer of {number.bit_length()} bits"


def as_layer(
    features: object, weight: object, bias: object, chunk: object
) -> tuple[tuple[Tensor, Tensor, Tensor | None], int | None, torch.dtype | None]:
    """A linear layer and its input as tensors, checked; the chunk; what autocast wants products in, if it does."""
    layer = (
        as_tensor(features, "features"),
        as_tensor(weight, "weight"),
        None if bias is None else as_tensor(bias, "bias"),
    )
    chunk = None if chunk is None else checks.as_int(chunk, "chunk")
    kind, dtype = layer[0].device.type, None
    # Autocast leaves float64 alone.
    wide = any(tensor is not None and tensor.dtype == torch.float64 for tensor in layer)
    if kind in ("cpu", "cuda") and not wide and torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
    shapes.check_layer(*layer, chunk, dtype)
    return layer, chunk, dtype
