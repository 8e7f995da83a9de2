"""Gradients through a kernel to all that follows from it, against finite differences in double precision."""

import anndata
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

from jaxvelo.kernels import ConnectivityKernel, VelocityKernel
from jaxvelo.markov import absorption_probabilities, absorption_times, coarse_grain, schur, stationary_distribution
from jaxvelo.transitions import Features
from tests.finite_differences import check_gradient

N_CELLS, N_GENES, N_STATES = 70, 8, 3

pytestmark = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="finite differences need float64")


@pytest.fixture(scope="module")
def kernel():
    """Velocities along a trunk and two branches, with noise, and connectivities: weights, scale and gene weights."""
    rng = np.random.default_rng(0)
    time = np.sort(rng.uniform(0, 1, N_CELLS))
    branch = rng.choice([-1.0, 1.0], N_CELLS)
    place = np.stack([time, branch * np.maximum(time - 0.4, 0)], axis=1)
    ahead = np.stack([np.ones(N_CELLS), branch * (time > 0.4)], axis=1)
    ways = rng.normal(size=(2, N_GENES))
    x = place @ ways + 0.05 * rng.normal(size=(N_CELLS, N_GENES))
    v = ahead @ ways + 0.5 * rng.normal(size=(N_CELLS, N_GENES))
    distance = np.linalg.norm(x[:, None] - x[None], axis=2) + np.diag(np.full(N_CELLS, np.inf))
    near = distance.argsort(axis=1).argsort(axis=1) < 10
    weights = np.where(near | near.T, np.exp(-distance), 0)
    adata = anndata.AnnData(x, layers={"Ms": x, "velocity": v}, obsp={"connectivities": sp.csr_matrix(weights)})
    velocity = VelocityKernel(adata).compute_transition_matrix(gene_weights=rng.uniform(0.5, 1.5, N_GENES))
    return 0.8 * velocity + 0.2 * ConnectivityKernel(adata).compute_transition_matrix()


@pytest.fixture(scope="module")
def terminal():
    """The last cells are terminal, of two classes."""
    classes = np.full(N_CELLS, -1)
    classes[-6:] = [0, 1, 0, 1, 0, 1]
    return jnp.asarray(classes)


@pytest.fixture(scope="module")
def mix():
    """Coefficients of random linear functions."""
    return jnp.asarray(np.random.default_rng(1).normal(size=(N_CELLS, N_STATES)))


def transitions(argument, graph, features):
    """The transition matrix of parameters and velocities, which are the leaves to differentiate by."""
    transition_function, v = argument
    return transition_function(graph, {name: Features(part.x, v, part.n_genes) for name, part in features.items()})


def fates(argument, graph, features, terminal, mix):
    found = absorption_probabilities(transitions(argument, graph, features), terminal, 2)
    return jnp.sum(mix[:, :2] * found.probabilities) + jnp.sum(mix[:, 2] * found.times) / 100


def times(argument, graph, features, terminal, mix):
    found = absorption_times(transitions(argument, graph, features), terminal, 2)
    known = found.variance > 0
    mean, deviation = (jnp.where(known, x, 1) for x in (found.mean, jnp.sqrt(jnp.where(known, found.variance, 1))))
    return jnp.sum(mix[:, :2] * mean + mix[:, 1:] * deviation) / 100


def long_run(argument, graph, features, terminal, mix):
    return jnp.sum(mix[:, 0] * stationary_distribution(transitions(argument, graph, features))) * N_CELLS


def macrostates(argument, graph, features, terminal, mix):
    matrix = transitions(argument, graph, features)
    found = coarse_grain(schur(matrix, N_STATES + 1), N_STATES)
    of_cells = jnp.sum(mix * found.memberships) / jnp.sqrt(N_CELLS)
    of_states = jnp.sum(mix[0] * found.stationary) + jnp.sum(mix[1] * found.initial) + found.crispness
    return of_cells + of_states + jnp.sum(mix[2:5] * found.transition_matrix)


@pytest.mark.parametrize("function", [fates, times, long_run, macrostates])
def test_gradients_in_scale_weights_gene_weights_and_velocities(kernel, terminal, mix, function):
    transition_function = kernel.transition_function
    (features,) = kernel.features.values()
    assert transition_function.children[0].gene_weights is not None
    argument = (transition_function, features.v)
    assert len(jax.tree.leaves(argument)) == 4
    gradient = check_gradient(
        function, argument, arguments=(kernel.graph, kernel.features, terminal, mix), directions=1
    )
    assert all(np.any(np.asarray(leaf) != 0) for leaf in jax.tree.leaves(gradient))
