"""A number that tells arrays apart, to know them again."""

import zlib

import numpy as np


def checksum(*arrays: np.ndarray) -> int:
    """CRC-32 of the bytes of arrays, one after the other; of 32 bits, whatever the machine."""
    total = 0
    for array in arrays:
        total = zlib.crc32(np.ascontiguousarray(array).tobytes(), total)
    return total
