"""Strict numerics for every test, our own warnings as errors, and access to the reference results.

The suite runs at float32 and, with ``JAX_ENABLE_X64=1``, at float64.
"""

import atexit
import gc
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

# The suite compiles hundreds of small programs once each: optimising them takes ten times longer than running them.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if "XLA_FLAGS" not in os.environ:
    # Saves another third of the compilation. Later versions of XLA do not know the flag, and an unknown flag ends the
    # process: so a child process tries it first, once for all processes that inherit the environment.
    flag = "--xla_cpu_use_fusion_emitters=false"
    child = {**os.environ, "XLA_FLAGS": flag, "JAX_PLATFORMS": "cpu"}
    accepted = subprocess.run([sys.executable, "-c", "import jax; jax.devices()"], env=child, capture_output=True)
    # On a GPU, sums come out the same each time by the second one.
    known = [flag] if accepted.returncode == 0 else []
    os.environ["XLA_FLAGS"] = " ".join([*known, "--xla_gpu_deterministic_ops=true"])
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    # What one process has compiled, the others read: workers, command lines and notebooks, until the first one ends.
    compiled = tempfile.mkdtemp(prefix="compiled-programs-")
    atexit.register(shutil.rmtree, compiled, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import jax
import matplotlib
import pytest

from jaxvelo import configuration
from jaxvelo.computing_device import described
from tests.compilations import compilations  # noqa: F401

matplotlib.use("Agg")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run at float32 alone what does not depend on the precision, and on a CPU alone what does on the device."""
    if jax.config.jax_enable_x64:
        once = [item for item in items if item.get_closest_marker("any_precision")]
        config.hook.pytest_deselected(items=once)
        items[:] = [item for item in items if not item.get_closest_marker("any_precision")]
    if jax.default_backend() != "cpu":
        for item in items:
            marker = item.get_closest_marker("cpu_only")
            if marker is not None:
                item.add_marker(pytest.mark.skip(reason=f"for CPUs alone: {marker.kwargs['reason']}"))


DISABLE_MOST = "jax_disable_most_optimizations"


@pytest.fixture(scope="module")
def optimized() -> Iterator[None]:
    """Optimise programs after all, for tests whose programs run longer than they compile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(DISABLE_MOST.upper(), "0")  # of child processes
        before = jax.config.values.get(DISABLE_MOST)
        if before is not None:
            jax.config.update(DISABLE_MOST, False)
        yield
        if before is not None:
            jax.config.update(DISABLE_MOST, before)


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


ROOT = Path(__file__).parents[1]
OURS = ("jaxvelo", "tests")


def package_of(frame: types.FrameType) -> str:
    """Name of the package that a frame's code belongs to."""
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def caused_by_us(message: Warning | str, category: type[Warning], filename: str) -> bool:
    """Whether a warning that is just being given is about a line of ours, or directly caused by one.

    The package that warns speaks about a line of its own, which one of our lines has called: numpy about the mean of
    nothing that we asked for. It is not ours when it speaks about a line of another package (that one's deprecated
    call), or when compiled code, which no frame shows, tells the innermost line that it is deprecated.
    """
    if any(Path(filename).is_relative_to(ROOT / package) for package in OURS):
        return True
    frames = [
        frame
        for frame, _ in traceback.walk_stack(sys._getframe())
        if package_of(frame) not in sys.stdlib_module_names and frame.f_code.co_filename != __file__
    ]
    if not frames:
        return False
    warns = package_of(frames[0])
    if filename not in {frame.f_code.co_filename for frame in frames if package_of(frame) == warns}:
        return False
    deprecates = issubclass(category, (DeprecationWarning, PendingDeprecationWarning, FutureWarning))
    if deprecates and "warn" not in frames[0].f_code.co_names:
        return False
    return next((package_of(frame) in OURS for frame in frames if package_of(frame) != warns), False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Iterator[None]:
    """Make errors of the warnings that our lines cause; those about our lines are errors by ``filterwarnings`` too."""
    show = warnings.showwarning

    def show_or_raise(message, category, filename, lineno, file=None, line=None):
        if caused_by_us(message, category, filename):
            raise message
        show(message, category, filename, lineno, file, line)

    warnings.showwarning = show_or_raise
    try:
        return (yield)
    finally:
        warnings.showwarning = show


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In continuous integration, fail if a test was skipped for want of data or of a package."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("JAXVELO_NO_SKIPS") or reporter is None:
        return
    reasons = [str(report.longrepr) for report in reporter.stats.get("skipped", [])]
    if any(want in reason for reason in reasons for want in ("JAXVELO_SHARED", "could not import", "pip install")):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session", autouse=True)
def device_is_said() -> None:
    """What is logged once in a process does not stand among what a test expects."""
    configuration._said.add(f"Computing on {described(jax.devices()[:1])}")


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """Return what was logged since the last call, as text."""

    def messages() -> str:
        text = "\n".join(f"{r.levelname}: {r.getMessage()}" for r in caplog.records)
        caplog.clear()
        return text

    caplog.set_level("DEBUG", logger="jaxvelo")
    return messages


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Close the figures that a test opened."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
