"""Types of numbers: how many bytes one takes, and which go together."""

from __future__ import annotations

from collections.abc import Mapping

from estimators.errors import EstimatorError

#: Bytes of one number, scales included where they are many. ``fp8`` has one scale for a tensor or a channel,
#: ``fp8_block`` one for 128 x 128 weights, which are next to nothing. ``nvfp4`` has one of 8 bits for 16 numbers,
#: ``mxfp4`` one of 8 bits for 32. ``int4`` has one of 16 bits for 32 (Kimi-K2's checkpoints): an ASSUMPTION for others,
#: whose groups are up to four times as large.
DTYPE_BYTES: Mapping[str, float] = {
    "fp32": 4,
    "bf16": 2,
    "fp16": 2,
    "fp8": 1,
    "fp8_block": 1,
    "nvfp4": 0.5625,
    "mxfp4": 0.53125,
    "int4": 0.5625,
}
#: What the matrix units multiply in, by the type of the weights of a model's layers. int4 and mxfp4 are of the weights
#: only: kernels widen them to the activations' bf16 on the way. fp32 is what CPUs multiply in; GPUs here have no peak
#: of it, and refuse it.
MATRIX_TYPES: Mapping[str, str] = {
    "bf16": "bf16",
    "fp8": "fp8",
    "fp8_block": "fp8",
    "nvfp4": "fp4",
    "mxfp4": "bf16",
    "int4": "bf16",
    "fp32": "fp32",
}
_UNQUANTISED = ("bf16", "fp16", "fp32")
_KV_DTYPES = ("bf16", "fp16", "fp32", "fp8")


def weight_dtype_bytes(dtype: str) -> float:
    """Bytes of one weight of type ``dtype`` in the matrices of the layers.

    Raises:
        EstimatorError: when ``dtype`` is not a type of weights.
    """
    if dtype not in DTYPE_BYTES:
        mend = f"choose auto or one of {', '.join(DTYPE_BYTES)}"
        raise EstimatorError("dtype", dtype, "is not a known type of weights", mend)
    return DTYPE_BYTES[dtype]


def activation_dtype(dtype: str) -> str:
    """Type of activations, norms, embedding and LM head where the matrices of the layers are of type ``dtype``.

    That of the matrices, but for quantised ones: their checkpoints leave all else in bf16, and their products return
    bf16.

    Raises:
        EstimatorError: when ``dtype`` is not a type of weights.
    """
    weight_dtype_bytes(dtype)
    return dtype if dtype in _UNQUANTISED else "bf16"


def kv_dtype_bytes(kv_dtype: str) -> int:
    """Bytes of one number of a KV cache of type ``kv_dtype``.

    Raises:
        EstimatorError: when ``kv_dtype`` is not a type of KV caches.
    """
    if kv_dtype not in _KV_DTYPES:
        raise EstimatorError("kv_dtype", kv_dtype, "is not known", f"choose one of {', '.join(_KV_DTYPES)}")
    return int(DTYPE_BYTES[kv_dtype])
