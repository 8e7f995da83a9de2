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
    """In continuous integration, fail if a test was skipped for want of data or of a package."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("JAXVELO_NO_SKIPS") or reporter is None:
        return
    reasons = [str(report.longrepr) for report in reporter.stats.get("skipped", [])]
    if any(want in reason for reason in reasons for want in ("JAXVELO_SHARED", "could not import", "pip install")):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
