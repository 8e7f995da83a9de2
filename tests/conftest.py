"""Strict numerics for every test, and access to the reference results.

The suite runs at float32 and, with ``JAX_ENABLE_X64=1``, at float64.
"""

import os
from pathlib import Path

import jax
import matplotlib
import pytest

matplotlib.use("Agg")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with real data and the reference results; tests that need it skip without it."""
    folder = os.environ.get("JAXVELO_SHARED")
    if folder is None:
        pytest.skip("JAXVELO_SHARED is not set")
    return Path(folder)
