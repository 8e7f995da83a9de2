"""Strict numerics for every test, and access to the reference results.

The suite runs at float32 and, with ``JAX_ENABLE_X64=1``, at float64.
"""

import os
from pathlib import Path

# The suite compiles hundreds of small programs once each: optimising them takes ten times longer than running them.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false")

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


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail where a skipped test means that something was not tested: in continuous integration with all data there."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("JAXVELO_NO_SKIPS") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
