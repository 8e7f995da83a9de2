"""From velocities to fates with kernels on several devices: the same fates, copies and files."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import copy, pickle, sys
from pathlib import Path

import jax
import numpy as np

import jaxvelo as jv
from tests.fitting.known_fates import make_known
from tests.layers_on_disk import written

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jv.settings.verbosity = "error"
folder, adata = Path(sys.argv[1]), make_known()
known = adata.obs["terminal"]
ends = {name: list(adata.obs_names[known == name]) for name in known.cat.categories}


def answers(adata):
    velocity = jv.kernels.VelocityKernel(adata).compute_transition_matrix(memory_limit="15 kB")
    connected = jv.kernels.ConnectivityKernel(adata).compute_transition_matrix()
    kernel = (0.8 * velocity + 0.2 * connected).compute_transition_matrix()
    fates = jv.estimators.GPCCA(kernel).set_terminal_states(ends)
    fates.compute_fate_probabilities().compute_absorption_times()
    return kernel, (kernel.transition_matrix.toarray(), fates.fate_probabilities.X, fates.absorption_times)


def on(n_devices, shard_features=False):
    jv.settings.mesh = jax.make_mesh((n_devices,), ("cells",), devices=jax.devices()[:n_devices])
    jv.settings.shard_features = shard_features


def same(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


_, expected = answers(adata)
on(1)
same(answers(adata)[1], expected)
on(2, shard_features=True)
same(answers(adata)[1], expected)
on(8)
same(answers(jv.read(written(adata, folder / "line.h5ad"), backed=True))[1], expected)
on(4)
kernel, found = answers(adata)
same(found, expected)
kernel.write(folder / "kernel.npz")
ones = np.ones(adata.n_obs, dtype=kernel.transitions.values[0].dtype)
for other in (copy.deepcopy(kernel), kernel.copy(deep=True), jv.kernels.read(folder / "kernel.npz")):
    assert other.adata is not adata
    assert np.array_equal(other.transition_matrix.toarray(), kernel.transition_matrix.toarray())
    assert len(other.transitions.values[0].sharding.device_set) == 4
    np.testing.assert_allclose(other.transitions @ ones, ones, rtol=1e-6)
jv.settings.mesh = None
assert len(jv.kernels.read(folder / "kernel.npz").transitions.values[0].sharding.device_set) == 1
try:
    pickle.dumps(kernel)
except TypeError as error:
    assert "found one on a mesh of 4. Write it by `kernel.write(fname)`" in str(error)
else:
    raise AssertionError("pickled")
"""


@pytest.mark.any_precision
def test_as_on_one(tmp_path):
    """In a process of its own: the number of devices of a CPU is fixed when JAX starts."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
