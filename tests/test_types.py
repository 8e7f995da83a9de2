"""What a user's type checker says about the public names."""

import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

import jaxvelo

pytestmark = pytest.mark.any_precision

MISTAKES = """
import jaxvelo as jv
from jaxvelo.graph import NeighborGraph
jv.kernels.VelocityKernle
jv.pl.sctater
jv.read(3)
NeighborGraph.from_csr()
jv.kernels.VelocityKernel(None).compute_transition_matrix(softmax_scale="much")
"""


def test_types_are_there_for_users():
    assert files("jaxvelo").joinpath("py.typed").is_file()


def test_users_script_has_no_error_and_mistakes_have(tmp_path):
    """Strictly, with mypy's own settings; errors within jaxvelo are not shown, as in an installed package."""
    mistakes = tmp_path / "mistakes.py"
    mistakes.write_text(MISTAKES)
    script = Path(__file__).with_name("users_script.py")
    options = ["--strict", "--follow-imports=silent", "--ignore-missing-imports", "--config-file="]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, f"--cache-dir={tmp_path / 'cache'}", script, mistakes],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(Path(jaxvelo.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert {line.split(": error: ")[0] for line in errors} == {f"mistakes.py:{line}" for line in range(4, 9)}, (
        done.stdout
    )
