"""Strict numerics for every test, and access to the reference results.

The suite runs at float32 and, with ``JAX_ENABLE_X64=1``, at float64.
"""

import gc
import itertools
import os
from collections.abc import Iterator
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


MAPPINGS = Path("/proc/self/maps")
test_number = itertools.count(1)


@pytest.fixture(autouse=True)
def compiled_programs_are_dropped() -> Iterator[None]:
    """Drop compiled programs before there are too many: each holds several memory mappings.

    Linux allows a process 65,530 of these by default, and the compiler crashes when there are no more.
    """
    yield
    if next(test_number) % 25 or not MAPPINGS.exists():
        return
    with MAPPINGS.open("rb") as file:
        n_mappings = sum(1 for _ in file)
    if n_mappings > 30_000:
        jax.clear_caches()
        gc.collect()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In continuous integration, fail if a test was skipped for want of data or of a package."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("JAXVELO_NO_SKIPS") or reporter is None:
        return
    reasons = [str(report.longrepr) for report in reporter.stats.get("skipped", [])]
    if any(want in reason for reason in reasons for want in ("JAXVELO_SHARED", "could not import", "pip install")):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
