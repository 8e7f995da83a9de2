"""What `jv.logging` tells about an installation, and that it stands in nobody's way."""

import importlib.metadata
import io
import logging
import platform
import re
import subprocess
import sys

import jax
import pytest

import jaxvelo as jv

pytestmark = pytest.mark.any_precision


def printed(capsys) -> dict[str, str]:
    jv.logging.print_versions()
    return dict(re.split(r"\s{2,}", line, maxsplit=1) for line in capsys.readouterr().out.splitlines())


def test_versions(capsys):
    found = printed(capsys)
    assert list(found)[:3] == ["jaxvelo", "Python", "jax"]
    assert found["jaxvelo"] == jv.__version__ == importlib.metadata.version("jaxvelo")
    assert found["Python"].startswith(platform.python_version())
    for package in ("jax", "jaxlib", "numpy", "scipy", "pandas", "anndata"):
        assert found[package] == importlib.metadata.version(package)


def test_absent_packages_are_left_out(capsys, monkeypatch):
    monkeypatch.setattr(jv.logging, "PACKAGES", ("numpy", "no-such-package"))
    assert list(printed(capsys)) == ["jaxvelo", "Python", "numpy", "JAX computes"]


def test_what_jax_computes(capsys):
    device = jax.devices()[0]
    precision = "float64" if jax.config.jax_enable_x64 else "float32"
    assert printed(capsys)["JAX computes"] == f"in {precision} on {device.platform}:{device.id} ({device.device_kind})"


def test_a_broken_accelerator_is_told(capsys, monkeypatch):
    def fail():
        raise RuntimeError("Unable to initialize backend 'cuda':\nno driver")

    monkeypatch.setattr(jax, "devices", fail)
    assert printed(capsys)["JAX computes"] == "nowhere: Unable to initialize backend 'cuda': no driver"


def test_into_a_file(capsys):
    file = io.StringIO()
    jv.logging.print_versions(file=file)
    assert file.getvalue().startswith("jaxvelo ")
    assert not capsys.readouterr().out


def test_shadows_nothing():
    assert jv.logging is not logging
    assert jv.settings.verbosity == "info"
    assert logging.getLogger("jaxvelo").handlers


def test_version_of_the_command_is_one_line():
    command = [sys.executable, "-m", "jaxvelo", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"jaxvelo {jv.__version__}\n"


def test_version_of_the_command_is_quick():
    """It loads none of the libraries."""
    program = (
        "import sys, jaxvelo.cli\n"
        "try:\n"
        "    jaxvelo.cli.main(['--version'])\n"
        "except SystemExit:\n"
        "    print(*sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"jax", "anndata", "numpy", "pandas", "scipy"} & set(done.stdout.split())
