"""All objectives once more, slowly: plain NumPy in float64, dense, one item at a time."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

from jaxvelo.fit import FutureLikelihood, HeldOutVelocity, TimeGain, coefficients_of, terms_of
from jaxvelo.graph import TransitionMatrix
from jaxvelo.transitions import Features
from tests.fit.problems import (
    GENE_WEIGHTS,
    KEY,
    N_CELLS,
    N_FATES,
    N_STEPS,
    OBJECTIVES,
    dataset,
    objective_of,
    squares,
    usual,
)
from tests.transitions import plain
from tests.transitions.examples import N_GENES, default, example

SCALE = 2.0
TOLERANCE = 1e-10 if jax.config.jax_enable_x64 else 2e-5
# Compiled once for each kind of objective and shapes of its data.
loss_of = eqx.filter_jit(
    lambda objective, transition_function, graph, features, key, cells=None: objective(
        transition_function, graph, features, key, cells
    )
)
KINDS = ["asymmetric", "isolated", "zero_velocities", "duplicates", "disconnected"]


def plain_transitions(kind, gene_weights, similarity="correlation"):
    """The dense transition matrix of ``usual``."""
    matrix, x, v = example(kind)
    pattern, values = plain.dense(matrix)
    velocity = plain.deterministic(pattern, x, v, similarity, SCALE, gene_weights)[0]
    return 0.75 * velocity + 0.25 * plain.connectivity(pattern, values, True)


def correlation(a, b):
    a, b = a - a.mean(), b - b.mean()
    norms = np.sqrt((a @ a) * (b @ b))
    return a @ b / norms if norms > 1e-12 else 0.0


def step_of(transitions, x, i):
    return sum(transitions[i, j] * (x[j] - x[i]) for j in range(N_CELLS))


def absorbed(transitions, terminal):
    """Dense solve of the absorption probabilities."""
    free = terminal < 0
    result = np.zeros((N_CELLS, N_FATES))
    result[~free, terminal[~free]] = 1
    system = np.eye(free.sum()) - transitions[np.ix_(free, free)]
    result[free] = np.linalg.solve(system, transitions[np.ix_(free, ~free)] @ result[~free])
    return result


def plain_items(objective, transitions, kind, similarity="correlation", halves=()):
    """Losses of all items."""
    _, x, v = example(kind)
    cells = np.asarray(objective.cell)
    name = type(objective).__name__
    if name == "CrossBoundary":
        coordinates, towards = np.asarray(objective.x, float), np.asarray(objective.towards, float)
        return [1 - correlation(step_of(transitions, coordinates, c), towards[i]) for i, c in enumerate(cells)]
    if name == "FateLikelihood":
        fates = absorbed(transitions, np.asarray(objective.terminal))
        resolution = np.finfo(objective.weight.dtype).eps
        return [-np.log(max(fates[c, f], resolution)) for c, f in zip(cells, np.asarray(objective.fate), strict=True)]
    if name == "FutureLikelihood":
        power = np.linalg.matrix_power(transitions, N_STEPS)
        sets = np.asarray(objective.future, float)
        resolution = np.finfo(objective.weight.dtype).eps
        targets = np.asarray(objective.target)
        return [-np.log(max(power[c] @ sets[:, k], resolution)) for c, k in zip(cells, targets, strict=True)]
    if name == "TimeGain":
        time, losses = np.asarray(objective.time, float), []
        pattern, resolution = plain.dense(example(kind)[0])[0], np.finfo(objective.weight.dtype).eps
        for c in cells:
            later = [j for j in np.flatnonzero(pattern[c]) if time[j] > time[c]]
            total = sum(time[j] - time[c] for j in later)
            parts = [((time[j] - time[c]) / total, max(transitions[c, j], resolution)) for j in later]
            losses.append(sum(share * np.log(share / chance) for share, chance in parts))
        return losses
    if name == "HeldOutVelocity":
        losses = np.zeros(len(cells))
        for half in halves:
            weights = np.where(half, GENE_WEIGHTS, 0) * GENE_WEIGHTS.sum() / GENE_WEIGHTS[half].sum()
            of_half = plain_transitions(kind, weights, similarity)
            losses -= [correlation(step_of(of_half, x, c)[~half], v[c][~half]) / len(halves) for c in cells]
        return losses
    assert name == "FunctionOf"
    return [(transitions[c] ** 2).sum() for c in cells]


def mean_of_items(objective, items, chosen):
    """Weighted mean over the items of the chosen cells."""
    weights = np.asarray(objective.weight, float) * chosen[np.asarray(objective.cell)]
    return (weights * np.asarray(items)).sum() / weights.sum()


def halves_of(objective, features):
    """The halves of the genes that an objective takes, as its transition functions show them."""
    if not isinstance(objective, HeldOutVelocity):
        return []
    transition_functions = objective.transition_functions(usual(), features, jax.random.key(KEY))
    return [
        np.asarray(transition_function.children[0].gene_weights) > 0 for transition_function in transition_functions
    ]


CHOSEN = [np.ones(N_CELLS), (np.arange(N_CELLS) % 3 != 1) * 1.0, np.linspace(0.1, 1, N_CELLS)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_losses_of_sets_of_cells(name, kind):
    matrix, graph, features = dataset(kind)
    objective = objective_of(name, matrix)
    transitions = plain_transitions(kind, GENE_WEIGHTS)
    items = [plain_items(term, transitions, kind, halves=halves_of(term, features)) for term in terms_of(objective)]
    for chosen in CHOSEN:
        means = map(mean_of_items, terms_of(objective), items, [chosen] * len(items))
        expected = np.dot(np.asarray(coefficients_of(objective), float), list(means))
        found = loss_of(objective, usual(SCALE), graph, features, jax.random.key(KEY), default(chosen))
        np.testing.assert_allclose(float(found), expected, rtol=0, atol=TOLERANCE * max(1, abs(expected)))
    # All cells, if none are named.
    everywhere = loss_of(objective, usual(SCALE), graph, features, jax.random.key(KEY))
    everyone = loss_of(objective, usual(SCALE), graph, features, jax.random.key(KEY), default(CHOSEN[0]))
    np.testing.assert_allclose(float(everywhere), float(everyone), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("similarity", ["cosine", "dot_product"])
def test_held_out_velocity_by_other_similarities(similarity):
    matrix, graph, features = dataset("asymmetric")
    objective = objective_of("held_out", matrix)
    halves = halves_of(objective, features)
    items = plain_items(objective, None, "asymmetric", similarity=similarity, halves=halves)
    expected = mean_of_items(objective, items, CHOSEN[1])
    found = loss_of(objective, usual(SCALE, similarity), graph, features, jax.random.key(KEY), default(CHOSEN[1]))
    np.testing.assert_allclose(float(found), expected, rtol=0, atol=TOLERANCE)


def test_halves_are_random_of_equal_size_and_without_padding():
    matrix, _, features = dataset("asymmetric")
    objective = HeldOutVelocity(
        "velocity", 20, *(getattr(objective_of("held_out", matrix), n) for n in ("cell", "weight"))
    )
    halves = np.array(halves_of(objective, features))
    assert halves.shape == (20, N_GENES)
    assert np.all(halves.sum(axis=1) == N_GENES // 2)
    assert len(np.unique(halves, axis=0)) > 5
    assert np.all(halves.any(axis=0))
    chosen = features["velocity"]
    padded = Features(*(jnp.pad(a, ((0, 0), (0, 3))) for a in (chosen.x, chosen.v)), jnp.asarray(N_GENES))
    unweighted = usual(weighted=False)
    found = objective.transition_functions(unweighted, {"velocity": padded}, jax.random.key(KEY))
    for transition_function in found:
        genes = np.asarray(transition_function.children[0].gene_weights) > 0
        assert genes[:N_GENES].sum() == N_GENES // 2
        assert not genes[N_GENES:].any()
    # Padding changes nothing but the draw; an odd number of genes leaves one more to be predicted.
    odd = Features(padded.x, padded.v, jnp.asarray(N_GENES - 1))
    for transition_function in objective.transition_functions(unweighted, {"velocity": odd}, jax.random.key(KEY)):
        genes = np.asarray(transition_function.children[0].gene_weights) > 0
        assert genes[: N_GENES - 1].sum() == (N_GENES - 1) // 2
        assert not genes[N_GENES - 1 :].any()


def test_padding_of_the_genes_does_not_count():
    matrix, graph, features = dataset("asymmetric")
    objective = objective_of("held_out", matrix)
    chosen = features["velocity"]
    padded = Features(*(jnp.pad(a, ((0, 0), (0, 3))) for a in (chosen.x, chosen.v)), jnp.asarray(N_GENES))
    transition_function = usual(SCALE, weighted=False)
    key = jax.random.key(KEY)
    parts = objective.transition_functions(transition_function, {"velocity": padded}, key)
    narrow = [eqx.tree_at(lambda e: e.children[0].gene_weights, e, e.children[0].gene_weights[:N_GENES]) for e in parts]
    halves = [np.asarray(e.children[0].gene_weights) > 0 for e in narrow]
    _, x, v = example("asymmetric")
    expected = np.zeros(len(objective.cell))
    for half, e in zip(halves, narrow, strict=True):
        transitions = e(graph, chosen.x, chosen.v).to_csr().toarray()
        for i, c in enumerate(np.asarray(objective.cell)):
            expected[i] -= correlation(step_of(transitions, x, c)[~half], v[c][~half]) / len(narrow)
    weights = np.asarray(objective.weight, float)
    found = loss_of(objective, transition_function, graph, {"velocity": padded}, key)
    np.testing.assert_allclose(float(found), weights @ expected / weights.sum(), rtol=0, atol=10 * TOLERANCE)


def test_the_key_decides_the_split():
    matrix, graph, features = dataset("asymmetric")
    objective = objective_of("held_out", matrix)
    losses = [float(loss_of(objective, usual(), graph, features, jax.random.key(key))) for key in (0, 0, 1, 2)]
    assert losses[0] == losses[1]
    assert len(set(losses)) == 3


def test_a_set_without_items_has_loss_zero():
    matrix, graph, features = dataset("asymmetric")
    for name in OBJECTIVES:
        cells = jnp.zeros(N_CELLS)
        assert float(loss_of(objective_of(name, matrix), usual(), graph, features, jax.random.key(KEY), cells)) == 0


def test_known_values():
    matrix, graph, features = dataset("isolated")
    key = jax.random.key(0)
    everyone, one = jnp.arange(N_CELLS), jnp.ones(N_CELLS)
    # A time that is the same everywhere is never gained.
    assert float(loss_of(TimeGain(one, everyone, one), usual(), graph, features, key)) == 0
    # Some cell is reached for certain.
    future = FutureLikelihood(one[:, None], 4, 0 * everyone, everyone, one)
    np.testing.assert_allclose(float(loss_of(future, usual(), graph, features, key)), 0, atol=1e-6)
    # Nobody is never reached; its probability counts as the smallest that can be told from zero.
    nobody = FutureLikelihood(0 * one[:, None], 4, 0 * everyone, everyone, one)
    np.testing.assert_allclose(
        float(loss_of(nobody, usual(), graph, features, key)), -np.log(np.finfo(one.dtype).eps), rtol=1e-6
    )
    # Isolated cells stay; no step, no gain of time.
    isolated = (np.diff(sp.csr_matrix(matrix).indptr) == 0) * 1.0
    assert isolated.sum() == 5
    gain = TimeGain(default(np.arange(N_CELLS)), everyone, one)
    assert float(loss_of(gain, usual(), graph, features, key, default(isolated))) == 0


def test_time_gain_is_zero_where_steps_gain_time_in_proportion_and_nowhere_less():
    """Of a cell with one later neighbour: that is all that can be wanted, and how likely it is, is the loss."""
    _, graph, features = dataset("one_neighbor")
    time = np.zeros(N_CELLS)
    time[[30, 31, 37]] = [5.0, 3.0, 0.25]
    cells = np.isin(np.arange(N_CELLS), [11, 12, 36]) * 1.0
    gain = TimeGain(default(time), jnp.arange(N_CELLS), jnp.ones(N_CELLS))
    found = loss_of(gain, usual(), graph, features, jax.random.key(0), default(cells))
    np.testing.assert_allclose(float(found), 0, atol=1e-6)
    backwards = TimeGain(default(-time), jnp.arange(N_CELLS), jnp.ones(N_CELLS))
    found = loss_of(backwards, usual(), graph, features, jax.random.key(0), default(cells))
    assert float(found) == 0  # without later neighbours, nothing can be gained
    # The reference itself, as a transition matrix; anything else is worse, also what gains more.
    _, graph, features = dataset("asymmetric")
    time = np.random.default_rng(0).random(N_CELLS)
    gain = TimeGain(default(time), jnp.arange(N_CELLS), jnp.ones(N_CELLS))
    values = []
    for power in (1, 2, 0.5):
        reference = [
            jnp.maximum(default(time)[columns] - default(time)[rows][:, None], 0) ** power
            for rows, columns in zip(graph.rows, graph.columns, strict=True)
        ]
        totals = [jnp.sum(part, axis=1, keepdims=True) for part in reference]
        shares = tuple(part / jnp.where(total > 0, total, 1) for part, total in zip(reference, totals, strict=True))
        values.append(float(jnp.mean(gain.item_losses((TransitionMatrix(graph, shares),), features, None))))
    assert abs(values[0]) < 1e-6
    assert min(values[1:]) > 0.01


def test_sums_of_losses():
    matrix, graph, features = dataset("asymmetric")
    a, b, c = (objective_of(name, matrix) for name in ("future", "time_gain", "function"))
    key = jax.random.key(0)
    values = [float(loss_of(loss, usual(), graph, features, key)) for loss in (a, b, c)]
    total = 0.5 * (a + 2.0 * b) + c * 3.0
    assert len(terms_of(total)) == total.n_transition_functions == 3
    np.testing.assert_allclose(np.asarray(coefficients_of(total)), [0.5, 1, 3])
    found = float(loss_of(total, usual(), graph, features, key))
    np.testing.assert_allclose(found, np.dot([0.5, 1, 3], values), rtol=1e-5)
    with pytest.raises(TypeError):
        a + 1.0


def test_weights_of_items_have_no_unit():
    matrix, graph, features = dataset("asymmetric")
    objective = objective_of("cross_boundary", matrix)
    heavier = eqx.tree_at(lambda o: o.weight, objective, 7 * objective.weight)
    key = jax.random.key(0)
    found = float(loss_of(heavier, usual(), graph, features, key))
    np.testing.assert_allclose(found, float(loss_of(objective, usual(), graph, features, key)), rtol=1e-5)


def test_function_of_takes_the_transition_matrix():
    matrix, graph, features = dataset("isolated")
    objective = objective_of("function", matrix)
    transitions = usual()(graph, features)
    found = objective.item_losses((transitions,), features, None)
    np.testing.assert_allclose(np.asarray(found), np.asarray(squares(transitions)))
    np.testing.assert_allclose(np.asarray(found), (transitions.to_csr().toarray() ** 2).sum(axis=1), rtol=1e-5)
