"""Two processes share a kernel: both get what one gets alone; when one is lost, the other ends with an error."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvelo.configuration import settings
from jaxvelo.kernels import ConnectivityKernel, VelocityKernel
from tests.fitting.known_fates import make_known

pytestmark = pytest.mark.any_precision
SECONDS = 120


def answers():
    """Kernel, product, and value and gradient in a step of a fit."""
    adata = make_known()
    velocity = VelocityKernel(adata).compute_transition_matrix()
    kernel = 0.8 * velocity + 0.2 * ConnectivityKernel(adata).compute_transition_matrix()
    y = jnp.asarray(adata.obsm["X_umap"], dtype=float)

    def loss(transition_function, graph, features, y):
        return jnp.mean((transition_function(graph, features) @ y) ** 2)

    step = eqx.filter_jit(eqx.filter_value_and_grad(loss))
    value, gradient = step(kernel.transition_function, kernel.graph, kernel.features, y)
    return {
        "matrix": kernel.transition_matrix.toarray(),
        "logits": velocity.logits.toarray(),
        "product": np.asarray(kernel.transitions @ y),
        "value": np.asarray(value),
        "scale": np.asarray(gradient.children[0].log_scale),
        "weights": np.asarray(gradient.weights),
    }, lambda: np.asarray(kernel.transitions @ y)


PROGRAM = """
import os, signal, sys
import numpy as np
import jax
from jax.experimental.multihost_utils import sync_global_devices

number, port, file = int(sys.argv[1]), sys.argv[2], sys.argv[3]
# A lost process is missed after 100 seconds by default.
jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=number, heartbeat_timeout_seconds=10)
from jaxvelo.configuration import settings
from tests.kernels.test_processes import answers

settings.mesh = jax.make_mesh((2,), ("cells",))
settings.shard_features = True
found, product = answers()
np.savez(file, **found)
sync_global_devices("saved")
if number == 1:
    os.kill(os.getpid(), signal.SIGKILL)
while True:
    product()
"""


def test_two_processes(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"}
    files = [tmp_path / f"{number}.npz" for number in range(2)]
    commands = [[sys.executable, "-W", "ignore", "-c", PROGRAM, str(i), str(port), str(f)] for i, f in enumerate(files)]
    processes = [
        subprocess.Popen(command, cwd=Path(__file__).parents[2], env=environment, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    try:
        ends = [process.communicate(timeout=SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert settings.mesh is None
    with jax.enable_x64(True):
        expected, _ = answers()
    for file, (_, errors) in zip(files, ends, strict=True):
        assert file.exists(), errors
        found = np.load(file)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-10, atol=1e-12, err_msg=name)
    # One was killed; the other does not wait for it for ever, nor does it end as if nothing were amiss.
    assert processes[1].returncode == -signal.SIGKILL
    assert processes[0].returncode not in (0, -signal.SIGKILL)
    assert "Error" in ends[0][1]
