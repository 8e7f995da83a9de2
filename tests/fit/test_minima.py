"""Each objective has a minimum inside: it rises as scale and weight go to their ends, on data where it should.

Where it need not: :class:`HeldOutVelocity` looks at the direction of the expected step alone, of which similarity knows
nothing: it does not rise as the weight of the velocity goes to one, nor does :class:`CrossBoundary` at a scale where
steps average over the noise. :class:`FateProportions` of sets whose shares are those of all cells cannot tell a chain
that forgets where it began: it does not rise as scale or weight go to zero.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

from jaxvelo.fit import (
    CrossBoundary,
    FateLikelihood,
    FateProportions,
    FutureLikelihood,
    HeldOutVelocity,
    Parameters,
    Problem,
    TimeGain,
    sweep,
)
from jaxvelo.graph import NeighborGraph
from jaxvelo.transitions import Connectivity, Features, Velocity
from tests.fit.problems import KEY, N_FATES, N_STEPS, dataset, parametrization_of, terminal_cells
from tests.fit.test_objectives import absorbed
from tests.transitions.examples import N_CELLS, N_GENES, default, nearest

pytestmark = pytest.mark.any_precision
EVERYONE = np.arange(N_CELLS)
SCALE, WEIGHT = 4.0, 0.6
SCALES, WEIGHTS = (1e-3, 1.0, 2.0, SCALE, 8.0, 16.0, 1e3), (1e-3, 0.2, 0.4, WEIGHT, 0.8, 0.999)


def mixture(scale=SCALE, weight=WEIGHT):
    return weight * Velocity(scale) + (1 - weight) * Connectivity()


def losses_of(objective, graph, features, scale=SCALE, weight=WEIGHT):
    """Losses at all scales, for one weight, and at all weights, for one scale."""
    points = [(s, weight) for s in SCALES] + [(scale, w) for w in WEIGHTS]
    scales, weights = (default(values) for values in np.transpose(points))
    problem = Problem.prepare(parametrization_of(mixture()), objective, graph, features, jax.random.key(KEY))
    grid = Parameters((jnp.log(scales)[:, None],), (jnp.log(weights / (1 - weights))[:, None, None],))
    found = np.asarray(sweep(problem, grid, jnp.ones((1, N_CELLS))))[:, 0]
    return found[: len(SCALES)], found[len(SCALES) :]


def expected_objective(name, matrix, transitions):
    """What a likelihood would be of very many observations of this chain: each possible one, weighed by its chance."""
    terminal = terminal_cells(matrix)
    fates = absorbed(transitions, terminal)
    if name == "fate":
        cell, fate = (part.ravel() for part in np.indices(fates.shape))
        data = jnp.asarray(fate), jnp.asarray(cell), default(fates.ravel())
        return FateLikelihood(jnp.asarray(terminal), N_FATES, *data)
    if name == "future":
        sets = np.eye(4)[EVERYONE % 4]
        chances = np.linalg.matrix_power(transitions, N_STEPS) @ sets
        cell, target = (part.ravel() for part in np.indices(chances.shape))
        return FutureLikelihood(
            default(sets), N_STEPS, jnp.asarray(target), jnp.asarray(cell), default(chances.ravel())
        )
    assert name == "proportions"
    # Sets of cells near each of the ends.
    member_of = np.argmax(fates, axis=1)
    member = np.argsort(member_of, kind="stable")
    shares = np.stack([fates[member_of == number].mean(axis=0) for number in range(N_FATES)])
    return FateProportions(
        jnp.asarray(terminal), N_FATES, default(shares), jnp.asarray(member), jnp.asarray(member_of[member]),
        jnp.zeros(N_FATES, jnp.int32), jnp.ones(N_FATES),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["fate", "future", "proportions"])
def test_likelihoods_are_largest_at_the_truth(name):
    matrix, graph, features = dataset("asymmetric")
    transitions = np.asarray(mixture()(graph, features).to_csr().toarray(), dtype=np.float64)
    objective = expected_objective(name, matrix, transitions)
    by_scale, by_weight = losses_of(objective, graph, features)
    for losses, values, truth in ((by_scale, SCALES, SCALE), (by_weight, WEIGHTS, WEIGHT)):
        assert values[int(np.argmin(losses))] == truth
        ends = losses[[0, -1]] - losses.min()
        assert np.all(ends > 0.003), ends


@functools.cache
def drifting():
    """Cells in a plane whose velocities are, but for noise, along one direction, in which time goes on."""
    rng = np.random.default_rng(6)
    points = rng.normal(size=(N_CELLS, 2))
    genes, direction = rng.normal(size=(2, N_GENES)), np.array([0.8, 0.6])
    x = np.tanh(0.5 * points @ genes)
    v = (1 - x**2) * (direction @ genes) + 0.6 * rng.normal(size=x.shape)
    near = nearest(points, 10)
    near = np.maximum(near, near.T)
    graph = NeighborGraph.from_csr(sp.csr_matrix(near))
    return near, graph, {"velocity": Features(default(x), default(v))}, x, points @ direction


def drift_objective(name):
    near, _, _, x, time = drifting()
    if name == "held_out":
        return HeldOutVelocity("velocity", 2, jnp.asarray(EVERYONE), jnp.ones(N_CELLS))
    if name == "time_gain":
        return TimeGain(default(time), jnp.asarray(EVERYONE), jnp.ones(N_CELLS))
    assert name == "cross_boundary"
    # Towards the middle of the later neighbours.
    later = near * (time[None] > time[:, None])
    cell = np.flatnonzero(later.sum(axis=1))
    towards = later[cell] @ x / later[cell].sum(axis=1, keepdims=True) - x[cell]
    return CrossBoundary(default(x), default(towards), jnp.asarray(cell), jnp.ones(len(cell)))


@pytest.mark.parametrize("name", ["cross_boundary", "held_out", "time_gain"])
def test_scores_of_steps(name):
    _, graph, features, *_ = drifting()
    by_scale, by_weight = losses_of(drift_objective(name), graph, features, scale=64.0, weight=0.98)
    # At a scale so large that steps follow the noise of the velocity, similarity helps.
    for losses in (by_scale, by_weight):
        best = losses[1:-1].min()
        assert losses[0] > best + 0.01
        if losses is by_scale or name != "held_out":
            assert losses[-1] > best + 0.01
