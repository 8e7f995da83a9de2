"""Arrays of NumPy that JAX can use as they are."""

import numpy as np

BYTES = 64
"""JAX takes an array that starts at a multiple of so many bytes without a copy, on a CPU. NumPy's large ones do not."""


def empty_aligned(shape: tuple[int, ...], dtype: np.typing.DTypeLike) -> np.ndarray:
    """Empty array that JAX takes without a copy on a CPU."""
    dtype = np.dtype(dtype)
    n_bytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    raw = np.empty(n_bytes + BYTES, dtype=np.uint8)
    start = -raw.ctypes.data % BYTES
    return raw[start : start + n_bytes].view(dtype).reshape(shape)


def is_aligned(array: np.ndarray) -> bool:
    """Whether JAX takes an array without a copy on a CPU."""
    return array.flags.c_contiguous and array.ctypes.data % BYTES == 0
