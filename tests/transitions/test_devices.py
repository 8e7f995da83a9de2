"""Rows of a graph on four devices: the same matrices, products and gradients, and nothing is gathered."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from jaxvelo.graph import NeighborGraph
from jaxvelo.markov import project
from jaxvelo.transitions import Connectivity, Velocity

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
mesh = jax.make_mesh((4,), ("rows",))
rng = np.random.default_rng(0)
n_cells, n_genes = 531, 12
near = rng.integers(0, n_cells, (n_cells, 9))
ends = np.arange(0, near.size + 1, 9)
matrix = sp.csr_matrix((rng.random(near.size), near.ravel(), ends), shape=(n_cells, n_cells))
matrix = sp.csr_matrix(matrix.maximum(matrix.T))
x, v = (jnp.asarray(rng.normal(size=(n_cells, n_genes)), dtype=float) for _ in range(2))
# Many blocks on each device.
one, four = (NeighborGraph.from_csr(matrix, mesh=m, block_bytes=1 << 12) for m in (None, mesh))
assert all(len(rows) % 4 == 0 and len(rows.sharding.device_set) == 4 for rows in four.rows)
key = jax.random.key(0)
mixed = 0.8 * Velocity(4.0, jnp.ones(n_genes)) + 0.2 * Connectivity()


def close(a, b):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=0, atol=1e-4 * np.abs(np.asarray(b)).max())


for transition_function in (mixed, Velocity(model="stochastic"), Velocity(4.0, model="monte_carlo", n_samples=3)):
    expected, found = (transition_function(graph, x, v, key=key) for graph in (one, four))
    assert all(len(values.sharding.device_set) == 4 for values in found.values)
    close(found.to_csr().toarray(), expected.to_csr().toarray())
    close(found @ x, expected @ x)
    close(x.T @ found, x.T @ expected)
    close(project(found, x), project(expected, x))


def loss(transition_function, graph, x, v):
    return jnp.sum((transition_function(graph, x, v) @ x) ** 2)


gradient = eqx.filter_jit(eqx.filter_grad(loss))
for a, b in zip(*(jax.tree.leaves(gradient(mixed, graph, x, v)) for graph in (four, one)), strict=True):
    close(a, b)


def assert_nothing_is_gathered(text):
    for gathered in ("all-gather", "all-to-all", "collective-permute"):
        assert gathered not in text, gathered


for velocity in (Velocity(), Velocity(4.0, backward_mode="transpose")):
    program = jax.jit(lambda pattern, edges, x, v: velocity(NeighborGraph(pattern, four.position, edges), x, v).values)
    text = program.lower(four.pattern, four.edges, x, v).compile().as_text()
    assert "while" in text
    assert "all-reduce" in text or velocity.log_scale is not None
    assert_nothing_is_gathered(text)

# (What belongs to the rows must change places to be in the order of the cells, as in `found @ x`.)
text = jax.jit(lambda t, y: y @ t).lower(found, x.T).compile().as_text()
assert "while" in text
assert "all-reduce" in text
assert_nothing_is_gathered(text)
"""


@pytest.mark.any_precision
def test_four_devices():
    """In a process of its own: the number of devices of a CPU is fixed when JAX starts."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
