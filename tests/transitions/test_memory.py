"""The memory bound: no array of (cells, neighbours, genes), in values and gradients."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

from jaxvelo.graph import NeighborGraph, TransitionMatrix
from jaxvelo.graph._blocks import BLOCK_BYTES
from jaxvelo.transitions import MODELS, Connectivity, Features, Velocity

pytestmark = pytest.mark.cpu_only(reason="the bound is that of programs for a CPU")
N_CELLS, N_GENES, N_NEIGHBORS = 8000, 300, 30


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    near = rng.integers(0, N_CELLS, (N_CELLS, N_NEIGHBORS))
    indptr = np.arange(0, near.size + 1, N_NEIGHBORS)
    matrix = sp.csr_matrix((np.ones(near.size), near.ravel(), indptr), shape=(N_CELLS, N_CELLS))
    # As on a CPU: elsewhere, data of this size are one block.
    graph = NeighborGraph.from_csr(matrix, block_bytes=BLOCK_BYTES)
    x = jnp.asarray(rng.random((N_CELLS, N_GENES)), dtype=float)
    v = jnp.asarray(rng.normal(size=(N_CELLS, N_GENES)), dtype=float)
    return graph, x, v


def bound(graph, x, copies):
    """The stated bound: 16 blocks, copies of the features, and 32 numbers for each slot."""
    slots = sum(columns.size for columns in graph.columns)
    return 16 * BLOCK_BYTES + copies * x.nbytes + 32 * slots * x.dtype.itemsize


def temporary_bytes(function, *arguments):
    return jax.jit(function).lower(*arguments).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("model", MODELS)
def test_value(problem, model):
    graph, x, v = problem
    velocity = Velocity(4.0, model=model, n_samples=50)
    used = temporary_bytes(
        lambda g, x, v, k: velocity(g, {"velocity": Features(x, v)}, key=k).values, graph, x, v, jax.random.key(0)
    )
    assert used <= bound(graph, x, copies=6)
    assert used < 0.5 * N_CELLS * N_NEIGHBORS * N_GENES * x.dtype.itemsize


@pytest.mark.parametrize("similarity", ["correlation", "cosine", "dot_product"])
def test_the_deterministic_model_copies_neither_expression_nor_velocity(problem, similarity):
    """Not even to centre them: a kernel needs what it gets, what it gives, and some numbers for each slot."""
    graph, x, v = problem
    graph = NeighborGraph(dataclasses.replace(graph.pattern, block_bytes=1 << 18), graph.position, graph.edges)
    velocity = Velocity(similarity=similarity)
    used = temporary_bytes(lambda g, x, v: velocity(g, {"velocity": Features(x, v)}).values, graph, x, v)
    assert used < 0.5 * x.nbytes


@pytest.mark.parametrize("model", ["deterministic", "stochastic"])
def test_gradient(problem, model):
    graph, x, v = problem
    transition_function = 0.8 * Velocity(4.0, jnp.ones(N_GENES), model=model) + 0.2 * Connectivity()
    arrays, static = eqx.partition(transition_function, eqx.is_array)
    target = jnp.linspace(0, 1, N_CELLS)

    def loss(arrays, x, v, graph):
        return jnp.sum((eqx.combine(arrays, static)(graph, x, v) @ target) ** 2)

    used = temporary_bytes(jax.grad(loss, argnums=(0, 2)), arrays, x, v, graph)
    assert used <= bound(graph, x, copies=16)
    assert used < 0.5 * N_CELLS * N_NEIGHBORS * N_GENES * x.dtype.itemsize


def test_the_bound_would_notice_such_an_array(problem):
    graph, x, v = problem

    def careless(x, v, graph):
        return [
            jnp.einsum("rkg,rg->rk", jax.lax.optimization_barrier(x[columns] - x[rows][:, None]), v[rows])
            for rows, columns in zip(graph.rows, graph.columns, strict=True)
        ]

    assert temporary_bytes(careless, x, v, graph) > bound(graph, x, copies=16)


def sizes(jaxpr):
    """Sizes of all arrays that a program makes, those of its loops and branches included."""
    for equation in jaxpr.eqns:
        yield from (variable.aval.size for variable in equation.outvars if hasattr(variable.aval, "size"))
        for parameter in jax.tree.leaves(equation.params, is_leaf=lambda p: hasattr(p, "eqns") or hasattr(p, "jaxpr")):
            inner = getattr(parameter, "jaxpr", parameter)
            if hasattr(inner, "eqns"):
                yield from sizes(inner)


@pytest.mark.parametrize("model", MODELS)
def test_no_array_comes_near_cells_times_neighbors_times_genes(problem, model):
    """Not in the value, and not in the gradient by scale, gene weights, expression and velocity."""
    graph, x, v = problem
    velocity = Velocity(4.0, jnp.ones(N_GENES), model=model, n_samples=50)
    arrays, static = eqx.partition(velocity, eqx.is_array)

    def loss(arrays, x, v, graph, key):
        return jnp.sum(eqx.combine(arrays, static)(graph, x, v, key=key).values[0] ** 2)

    program = jax.make_jaxpr(jax.value_and_grad(loss, argnums=(0, 1, 2)))(arrays, x, v, graph, jax.random.key(0))
    found = list(sizes(program.jaxpr))
    assert len(found) > 200
    assert N_CELLS * N_GENES <= max(found) <= 2 * N_CELLS * N_GENES


@pytest.mark.parametrize("product", [lambda t, y: t @ y, lambda t, y: y.T @ t], ids=["T @ y", "y @ T"])
def test_products_with_all_genes(problem, product):
    graph, x, _ = problem
    transitions = TransitionMatrix(graph, graph.edges["connectivities"].values)
    assert temporary_bytes(product, transitions, x) <= bound(graph, x, copies=6)
