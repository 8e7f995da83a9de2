"""Keys and checksums by which transition matrices are known again."""

import zlib

import numpy as np
import pytest

from jaxvelo.annotated.checksums import checksum
from jaxvelo.annotated.transition_keys import DIRECTIONS, default_key

pytestmark = pytest.mark.any_precision


def test_keys_are_cellranks():
    assert [default_key(backward) for backward in (False, True, None)] == ["T_fwd", "T_bwd", "T_fwd"]
    assert all(default_key(backward) == key for key, backward in DIRECTIONS.items())


def test_checksums():
    """Files hold them: they must stay those of CRC-32."""
    values = np.arange(6, dtype=np.float64)
    assert checksum(values) == zlib.crc32(values.tobytes())
    assert checksum(values[:2], values[2:]) == checksum(values)
    assert checksum(values.reshape(2, 3).T) == checksum(np.ascontiguousarray(values.reshape(2, 3).T))
    assert checksum(values) != checksum(values[::-1])
    assert checksum(values) != checksum(values.astype(np.float32))
