"""Small fits: all objectives on the example graphs, whose programs have the same shapes and are compiled once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxvelo.fit import (
    CrossBoundary,
    FateLikelihood,
    FunctionOf,
    FutureLikelihood,
    HeldOutVelocity,
    Parametrization,
    Problem,
    TimeGain,
    velocity_terms,
    with_scales,
)
from jaxvelo.graph import NeighborGraph
from jaxvelo.markov import cannot_reach
from jaxvelo.transitions import Connectivity, Features, Velocity
from tests.transitions.examples import N_CELLS, N_GENES, default, example

N_ITEMS, N_FATES, N_SPLITS, N_STEPS = 30, 3, 2, 3
GENE_WEIGHTS = np.array([1.0, 0.5, 0.75, 2.0, 1.5, 0.25])
OBJECTIVES = ["cross_boundary", "fate", "future", "time_gain", "held_out", "function", "total"]
KEY = 5


def usual(scale=2.0, similarity="correlation", weighted=True):
    """Velocity and connectivities."""
    gene_weights = GENE_WEIGHTS if weighted else None
    return 0.75 * Velocity(scale, gene_weights, similarity=similarity) + 0.25 * Connectivity()


@functools.cache
def dataset(kind="asymmetric"):
    """Scipy graph, graph and features."""
    matrix, x, v = example(kind)
    return matrix, NeighborGraph.from_csr(matrix), {"velocity": Features(default(x), default(v))}


def terminal_cells(matrix):
    """Three classes of terminal cells that all cells can reach."""
    terminal = np.full(N_CELLS, -1)
    terminal[[2, 14, 36]] = [0, 1, 2]
    support = matrix.copy()
    # An explicit zero is an edge that a velocity may use, but connectivities do not.
    support.eliminate_zeros()
    lost = np.flatnonzero(cannot_reach(support, terminal))
    terminal[lost] = lost % N_FATES
    return terminal


def squares(transitions):
    """One loss for each cell: the sum of squares of its probabilities."""
    return transitions.row_dot(transitions.values)


def objective_of(name, matrix, seed=0, n_items=N_ITEMS):
    """The objective, with random items: some cells have none, others several, and weights differ."""
    rng = np.random.default_rng(seed)
    cell = jnp.asarray(rng.integers(0, N_CELLS, n_items))
    weight = default(rng.random(n_items))
    if name == "cross_boundary":
        x = rng.normal(size=(N_CELLS, 4))
        return CrossBoundary(default(x), default(rng.normal(size=(n_items, 4))), cell, weight)
    if name == "fate":
        terminal = jnp.asarray(terminal_cells(matrix))
        return FateLikelihood(terminal, N_FATES, jnp.asarray(rng.integers(0, N_FATES, n_items)), cell, weight)
    if name == "future":
        future = default(rng.random((N_CELLS, 4)) < 0.4)
        return FutureLikelihood(future, N_STEPS, jnp.asarray(rng.integers(0, 4, n_items)), cell, weight)
    if name == "time_gain":
        return TimeGain(default(rng.random(N_CELLS)), cell, weight)
    if name == "held_out":
        return HeldOutVelocity("velocity", N_SPLITS, cell, weight)
    if name == "function":
        return FunctionOf(squares, N_CELLS)
    assert name == "total"
    parts = [objective_of(part, matrix, seed + i, n_items) for i, part in enumerate(("fate", "held_out", "time_gain"))]
    return 2.0 * parts[0] + 0.5 * parts[1] + parts[2]


def levels(n_levels=3):
    """A level for each cell."""
    return jnp.asarray(np.arange(N_CELLS) % n_levels)


def functions(n_functions=3):
    """Functions of the cells, the first constant."""
    waves = np.cos(np.arange(N_CELLS)[:, None] * np.arange(n_functions) * 0.2)
    return default(waves)


def parametrization_of(
    transition_function,
    train=("scale", "weights"),
    scale_cells=None,
    weight_cells=None,
    sharing=None,
    penalty="near_one",
):
    """A parametrization with one parameter for each velocity term, if not told otherwise."""
    n_terms = len(velocity_terms(transition_function))

    def count(cells):
        if cells is None:
            return 1
        return cells.shape[1] if cells.ndim == 2 else int(np.max(np.asarray(cells))) + 1

    return Parametrization(
        transition_function,
        scale_cells,
        weight_cells,
        n_genes=(N_GENES,) * n_terms,
        train=train,
        scale_coefficients=count(scale_cells),
        weight_coefficients=count(weight_cells),
        sharing=tuple(range(n_terms)) if sharing is None else sharing,
        penalty=penalty,
    )


def problem_of(name, kind="asymmetric", transition_function=None, seed=0, n_items=N_ITEMS, **options):
    """A whole problem."""
    matrix, graph, features = dataset(kind)
    transition_function = with_scales(usual() if transition_function is None else transition_function, graph, features)
    objective = objective_of(name, matrix, seed, n_items)
    return Problem.prepare(
        parametrization_of(transition_function, **options), objective, graph, features, jax.random.key(KEY)
    )


def moved(parameters, size=0.3, seed=0):
    """Parameters somewhere near, so that those of different levels and functions differ."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: leaf + default(size * rng.normal(size=leaf.shape)).astype(leaf.dtype), parameters)


def loss(parameters, problem, cells):
    """Loss on one set of cells."""
    return problem.on_cells(parameters, cells[None])[0]
