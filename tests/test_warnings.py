"""Which warnings fail a test: those about our lines, and those that our lines cause in other packages, no others."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.any_precision
ROOT = Path(__file__).parents[1]

LIBRARY = """
import warnings


class Odd:
    def __int__(self):
        return True


def deprecated():
    warnings.warn("Call something else.", DeprecationWarning, stacklevel=2)


def mean_of_nothing():
    warnings.warn("There is nothing.", RuntimeWarning)


def uses_what_python_deprecates():
    return int(Odd())  # the interpreter itself gives the warning: no frame shows where
"""

WRAPPER = """
import library


def calls_deprecated():
    library.deprecated()


def calls_mean_of_nothing():
    library.mean_of_nothing()
"""

OURS = """
import warnings


def noisy():
    warnings.warn("Ours.", UserWarning)
"""

TESTS = """
import functools
import threading
import warnings

import jaxvelo
import library
import numpy as np
import pytest
import wrapper


def test_fails_own_line():
    warnings.warn("Mine.", UserWarning)


def test_fails_line_of_the_package():
    jaxvelo.noisy()


def test_fails_deprecated_call():
    library.deprecated()


def test_fails_warning_caused_in_a_library():
    library.mean_of_nothing()


def test_fails_warning_caused_in_numpy():
    np.mean([])


def test_fails_warning_beside_an_expected_one():
    with pytest.warns(UserWarning, match="Mine"):
        warnings.warn("Mine.", UserWarning)
        jaxvelo.noisy()


@pytest.fixture
def noise():
    jaxvelo.noisy()


def test_fails_in_a_fixture(noise):
    pass


def test_fails_in_a_thread():
    thread = threading.Thread(target=jaxvelo.noisy)
    thread.start()
    thread.join()


def test_passes_library_that_calls_what_another_deprecates():
    wrapper.calls_deprecated()


def test_passes_library_warned_by_another():
    wrapper.calls_mean_of_nothing()


def test_passes_library_that_uses_what_python_deprecates():
    library.uses_what_python_deprecates()


def test_passes_expected_warning():
    with pytest.warns(UserWarning, match="Ours"):
        jaxvelo.noisy()
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, str]:
    """Name of each of the tests above, and how it ended under this suite's own settings, in a process of its own."""
    folder = tmp_path_factory.mktemp("suite")
    (folder / "tests").mkdir()
    (folder / "jaxvelo").mkdir()
    shutil.copy(ROOT / "pyproject.toml", folder)
    for name in ("conftest.py", "compilations.py"):
        shutil.copy(ROOT / "tests" / name, folder / "tests")
    (folder / "tests" / "test_noise.py").write_text(TESTS)
    (folder / "jaxvelo" / "__init__.py").write_text(OURS)
    for name, content in NEEDED.items():
        (folder / "jaxvelo" / name).write_text(content)
    (folder / "library.py").write_text(LIBRARY)
    (folder / "wrapper.py").write_text(WRAPPER)
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    found = re.findall(r"^(PASSED|FAILED|ERROR) \S+::test_(\w+)", done.stdout, re.MULTILINE)
    assert found, done.stdout + done.stderr
    return {name: outcome for outcome, name in found}


NEEDED = {"configuration.py": "_said = set()\n", "computing_device.py": "def described(devices): return ''\n"}
"""What `conftest.py` takes from the package."""
NAMES = re.findall(r"def test_(\w+)", TESTS)


@pytest.mark.parametrize("name", NAMES)
def test_warning(outcomes, name):
    assert (outcomes[name] == "PASSED") == name.startswith("passes")


def test_all_were_run(outcomes):
    assert set(outcomes) == set(NAMES)
