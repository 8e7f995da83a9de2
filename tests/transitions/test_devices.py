"""One graph on several devices: the same matrices, products, walks and gradients, even work, and little is sent."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from jaxvelo.graph import NeighborGraph
from jaxvelo.markov import absorption_probabilities, project, random_walks
from jaxvelo.transitions import Connectivity, Features, Velocity

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
rng = np.random.default_rng(0)
n_cells, n_genes = 1003, 6
# Neighbours along a ring, in an order that tells nothing of it; as many as its region is dense.
angle = np.cumsum(rng.gamma(1 + (np.arange(n_cells) > 700)))
angle = rng.permutation(2 * np.pi * angle / angle[-1])
apart = np.abs(np.exp(1j * angle[:, None]) - np.exp(1j * angle[None]))
near = np.argsort(apart, axis=1)[:, 1:8]
ends = np.arange(0, near.size + 1, 7)
matrix = sp.csr_matrix((rng.random(near.size), near.ravel(), ends), shape=(n_cells, n_cells))
matrix = sp.csr_matrix(matrix.maximum(matrix.T))
x, v = (rng.normal(size=(n_cells, n_genes)).astype(np.float32) for _ in range(2))
y = rng.random((n_cells, 3)).astype(np.float32)
terminal = np.where(angle < 0.1, 0, np.where(np.abs(angle - 3) < 0.1, 1, -1))
key = jax.random.key(0)
mixed = 0.8 * Velocity(None, jnp.ones(n_genes)) + 0.2 * Connectivity()


def close(a, b):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=0, atol=1e-6 * max(1, np.abs(np.asarray(b)).max()))


def graph_on(n_devices, halo):
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:n_devices]), ("cells",))
    # Several blocks on each device.
    return NeighborGraph.from_csr(matrix, mesh=mesh, block_bytes=1 << 12, halo=halo)


def answers(transitions):
    fates = absorption_probabilities(transitions, jnp.asarray(terminal), 2)
    walks, _ = random_walks(transitions, np.arange(16), key, 32)
    return transitions @ y, y.T @ transitions, project(transitions, y), walks, fates[0]


one = NeighborGraph.from_csr(matrix)
expected = mixed(one, x, v)
for n_devices, halo in ((2, True), (4, False), (8, True)):
    graph = graph_on(n_devices, halo)
    assert all(len(rows.sharding.device_set) == n_devices for rows in graph.rows)
    found = mixed(graph, x, v)
    assert all(len(values.sharding.device_set) == n_devices for values in found.values)
    close(found.to_csr().toarray(), expected.to_csr().toarray())
for a, b in zip(answers(found), answers(expected), strict=True):
    close(a, b)
for other in (Velocity(model="stochastic"), Velocity(4.0, backward_mode="transpose")):
    close(other(graph, x, v).to_csr().toarray(), other(one, x, v).to_csr().toarray())

# Work: as many slots on each device, and about as many edges; unused rows are dealt out too.
n_edges = np.zeros(8)
for number, bucket in enumerate(graph.mask):
    for shard in bucket.addressable_shards:
        assert shard.data.shape[0] == bucket.shape[0] // 8
        n_edges[shard.device.id] += np.asarray(shard.data).sum()
assert n_edges.sum() == matrix.nnz
assert n_edges.max() <= 1.1 * n_edges.mean(), n_edges

# What is sent: the halo, which is small, and little more.
device = np.concatenate([np.repeat(np.arange(8), len(rows) // 8) for rows in graph.rows])[np.asarray(graph.position)]
entries = matrix.tocoo()
outside = device[entries.row] != device[entries.col]
needed = len(np.unique(device[entries.row[outside]] * n_cells + entries.col[outside]))
assert needed <= graph.halo.n_sent <= 2 * needed, (needed, graph.halo.n_sent)
assert needed < 0.2 * n_cells, needed
# No device has values of cells whose rows it does not have.
features = Features.on_devices(x, v, graph.halo)
assert [shard.data.shape[0] for shard in features.x.addressable_shards] == [graph.n_rows // 8] * 8


def sent(text):
    '''Shapes that the program sends from device to device, and from how many devices.'''
    for gathered in ("all-gather(", "all-to-all("):
        assert gathered not in text, gathered
    found = re.findall(r"f32\\[([0-9,]*)\\][^=\\n]* collective-permute\\(.*source_target_pairs=\\{(.*?)\\}\\}", text)
    return [(tuple(int(n) for n in shape.split(",")), pairs.count("{")) for shape, pairs in found]


def program(pattern, edges, features):
    return Velocity().details(pattern, edges, features)[0]


text = jax.jit(program).lower(graph.pattern, graph.edges["connectivities"], features).compile().as_text()
assert "while" in text
# Expression, and the mean of each cell.
assert sum(np.prod(shape) * n_pairs for shape, n_pairs in sent(text)) == graph.halo.n_sent * (n_genes + 1)
# With all values on each device, nothing is sent but counts for the softmax scale; nor in a product with the transpose.
graph = graph_on(4, False)
features = Features(jnp.asarray(x), jnp.asarray(v))
text = jax.jit(program).lower(graph.pattern, graph.edges["connectivities"], features).compile().as_text()
assert "all-reduce" in text
assert sent(text) == []
text = jax.jit(lambda t, y: y @ t).lower(mixed(graph, x, v), y.T).compile().as_text()
assert "all-reduce" in text
assert sent(text) == []


def loss(transition_function, graph, x, v):
    return jnp.mean((transition_function(graph, x, v) @ y) ** 2)


# A step of a fit.
gradient = eqx.filter_jit(eqx.filter_value_and_grad(loss))
at = eqx.tree_at(lambda t: t.children[0].log_scale, mixed, jnp.asarray(1.0), is_leaf=lambda leaf: leaf is None)
graph = graph_on(8, True)
there = jax.device_put(at, jax.sharding.NamedSharding(graph.pattern.mesh, jax.sharding.PartitionSpec()))
found = gradient(there, graph, x, v)
for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(gradient(at, one, x, v)), strict=True):
    close(a, b)
"""


@pytest.mark.any_precision
def test_eight_devices():
    """In a process of its own: the number of devices of a CPU is fixed when JAX starts."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
