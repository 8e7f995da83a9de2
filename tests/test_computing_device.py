"""Which device computes is said once; a GPU that lies idle is pointed out, with what to do about it."""

import subprocess
from types import SimpleNamespace

import jax
import pytest

from jaxvelo import computing_device, configuration
from jaxvelo.computing_device import described, idle_gpu
from jaxvelo.configuration import settings, timed

pytestmark = pytest.mark.any_precision


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(configuration, "_said", set())


@pytest.fixture
def has_gpu(monkeypatch):
    monkeypatch.setattr(computing_device, "_has_gpu", lambda: True)


def device(platform, kind):
    return SimpleNamespace(platform=platform, device_kind=kind)


def test_devices_in_words():
    assert described([device("cpu", "cpu")]) == "cpu"
    assert described([device("cpu", "cpu")] * 8) == "8 × cpu"
    assert described([device("gpu", "NVIDIA H200")]) == "NVIDIA H200 (gpu)"


def test_said_once(logged, monkeypatch):
    monkeypatch.setattr(configuration, "idle_gpu", lambda *_: None)
    for _ in range(2):
        with timed("Working"):
            pass
    line = f"INFO: Computing on {described(jax.devices()[:1])}\n"
    text = logged()
    assert text.startswith(line)
    assert text.count("Computing on") == 1
    assert "WARNING" not in text
    monkeypatch.setattr(settings, "_mesh", SimpleNamespace(devices=SimpleNamespace(flat=[device("cpu", "cpu")] * 3)))
    with timed("Working"):
        pass
    assert logged().startswith("INFO: Computing on 3 × cpu\n")


@pytest.mark.usefixtures("has_gpu")
def test_an_idle_gpu(logged, monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda *_: [device("cpu", "cpu")])
    monkeypatch.setattr(computing_device.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(configuration, "idle_gpu", lambda platform, wanted: idle_gpu(platform, None))
    with timed("Working"):
        pass
    assert 'WARNING: There is a GPU that is not used. Install JAX for it as `pip install "jaxvelo[cuda]"`' in logged()


@pytest.mark.usefixtures("has_gpu")
def test_what_to_do_about_it(monkeypatch):
    assert idle_gpu("gpu", None) is None
    assert idle_gpu("cpu", "cpu").startswith("Leave out `JAX_PLATFORMS=cpu`")
    monkeypatch.setattr(computing_device.importlib.util, "find_spec", lambda name: None)
    assert 'pip install "jaxvelo[cuda]"' in idle_gpu("cpu", None)
    assert 'pip install "jaxvelo[cuda]"' in idle_gpu("cpu", "cuda,cpu")
    monkeypatch.setattr(computing_device.importlib.util, "find_spec", lambda name: name == "jax_cuda12_plugin")
    assert "jax.devices" in idle_gpu("cpu", None)


@pytest.mark.parametrize(("code", "listed", "found"), [(0, "GPU 0: NVIDIA H200", True), (0, "", False), (9, "", False)])
def test_how_a_gpu_is_found(code, listed, found, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(computing_device.Path, "glob", lambda *_: iter(()))
    monkeypatch.setattr(computing_device.shutil, "which", lambda name: name)
    done = subprocess.CompletedProcess([], code, listed, "")
    monkeypatch.setattr(computing_device.subprocess, "run", lambda *_, **__: done)
    assert computing_device._has_gpu() == found
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not computing_device._has_gpu()


def test_no_gpu(monkeypatch):
    monkeypatch.setattr(computing_device, "_has_gpu", lambda: False)
    assert idle_gpu("cpu", None) is None


@pytest.mark.parametrize("value", [8, "cpu", [1, 2]])
def test_a_mesh_that_is_none(value):
    with pytest.raises(TypeError, match=r"`mesh` to be a mesh of devices or None, found .*jax.make_mesh"):
        settings.mesh = value
    assert settings.mesh is None


def test_whether_features_are_shared_is_a_truth_value():
    with pytest.raises(TypeError, match="`shard_features` to be `bool`, found `1`"):
        settings.shard_features = 1
