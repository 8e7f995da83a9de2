"""One gradient from the rates of genes to a loss of the transition matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from jaxvelo.dynamics import SplicingKinetics
from jaxvelo.fit import FutureLikelihood
from jaxvelo.graph import NeighborGraph
from jaxvelo.transitions import Connectivity, Features, Velocity
from tests.finite_differences import check_gradient
from tests.transitions.examples import nearest

N_CELLS, N_GENES = 25, 6


def problem():
    rng = np.random.default_rng(0)
    graph = NeighborGraph.from_csr(sp.csr_matrix(nearest(rng.normal(size=(N_CELLS, 3)), 6)))
    gamma = np.r_[1.0, rng.uniform(0.2, 2, N_GENES - 1)]  # the first as fast as splicing: a limit of the solution
    rates = (
        rng.uniform(1, 5, N_GENES),
        np.ones(N_GENES),
        gamma,
        rng.uniform(2, 4, N_GENES),
        rng.uniform(0.3, 1, N_GENES),
    )
    kinetics = SplicingKinetics(*(jnp.asarray(x, dtype=float) for x in rates))
    on = jnp.asarray(rng.random((N_CELLS, N_GENES)), dtype=float)
    times = [jnp.asarray(rng.random((N_CELLS, N_GENES)) * 3, dtype=float) for _ in range(2)]
    x = jnp.asarray(rng.normal(size=(N_CELLS, N_GENES)), dtype=float)
    transition_function = 0.8 * Velocity(softmax_scale=3.0) + 0.2 * Connectivity()
    gain = jnp.asarray(rng.normal(size=N_CELLS), dtype=float)
    return kinetics, (graph, times, on, x, transition_function, gain)


def loss(kinetics, graph, times, on, x, transition_function, gain):
    """Expected gain along a step, of transitions from velocities from rates."""
    velocity, _ = kinetics.expected_velocities(*times, on)
    return jnp.mean(transition_function(graph, x, velocity) @ gain)


def test_gradient():
    kinetics, arguments = problem()
    gradient = check_gradient(loss, kinetics, rtol=1e-6, arguments=arguments)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))
    # Velocities of spliced counts know nothing of the scaling; everything else moves the loss.
    assert not np.any(gradient.scaling)
    for leaf in (gradient.alpha, gradient.beta, gradient.gamma, gradient.switching_time):
        assert np.all(leaf != 0)


def test_descent_raises_the_gain():
    kinetics, arguments = problem()
    value, gradient = jax.jit(jax.value_and_grad(loss))(kinetics, *arguments)
    moved = jax.tree.map(lambda rate, slope: rate * jnp.exp(0.05 * jnp.sign(slope)), kinetics, gradient)
    assert loss(moved, *arguments) > value


def test_gradient_of_an_objective_of_fits():
    """The likelihood of known later cells, two steps on, by the rates."""
    kinetics, (graph, times, on, x, transition_function, _) = problem()
    cells = jnp.arange(N_CELLS)
    later = (cells[:, None] // 5 == jnp.arange(5)[None]).astype(x.dtype)
    target = jnp.minimum(cells // 5 + 1, 4)
    objective = FutureLikelihood(future=later, steps=2, target=target, cell=cells, weight=jnp.ones(N_CELLS))

    def likelihood(kinetics, objective, graph, times, on, x, transition_function):
        velocity, _ = kinetics.expected_velocities(*times, on)
        features = {transition_function.children[0].features_name: Features(x, velocity)}
        return objective(transition_function, graph, features, jax.random.key(0))

    gradient = check_gradient(
        likelihood, kinetics, rtol=1e-6, arguments=(objective, graph, times, on, x, transition_function)
    )
    assert np.any(np.asarray(gradient.gamma) != 0)
