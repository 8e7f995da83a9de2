"""From unconstrained numbers to transition functions and back, and what smooth functions are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

from jaxvelo.fit import Parameters, smooth_functions, velocity_terms, weighted_sums, with_scales
from jaxvelo.transitions import Connectivity, FixedLogits, Product, Sum, TransitionFunction, Velocity
from tests.fit.problems import N_CELLS, dataset, functions, levels, moved, parametrization_of, problem_of, usual
from tests.transitions.examples import GENE_WEIGHTS, N_GENES, default

ALL = ("scale", "weights", "gene_weights")
TOLERANCE = 1e-12 if jax.config.jax_enable_x64 else 1e-5
WAYS = {
    "one": {},
    "levels": {"scale_cells": levels(), "weight_cells": levels()},
    "functions": {"scale_cells": functions(), "weight_cells": functions()},
}


def nested():
    a, b = Velocity(2.0, GENE_WEIGHTS + 0.5), Velocity(0.5, similarity="cosine")
    return (0.3 * a + 0.7 * Connectivity()) * b + 2.0 * (0.25 * b + 0.5 * Connectivity()) + 4.0 * a


TRANSITION_FUNCTIONS = {
    "velocity": lambda: Velocity(3.0),
    "usual": usual,
    "three": lambda: 2.0 * Velocity(2.0) + 1.0 * Connectivity() + 5.0 * Connectivity(False),
    "product": lambda: Velocity(2.0) * Connectivity(),
    "bare": lambda: Sum(
        default(np.array([0.5, 1, 2.0])),
        (Velocity(2.0), Product((Velocity(1.5), Connectivity()), normalized=False), Connectivity()),
    ),
    "nested": nested,
}


def dense(transition_function):
    _, graph, features = dataset("isolated")
    return transition_function(graph, features).to_csr().toarray()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", TRANSITION_FUNCTIONS)
def test_the_start_is_the_template(name, way):
    template = TRANSITION_FUNCTIONS[name]()
    parametrization = parametrization_of(template, ALL, **WAYS[way])
    start = parametrization.start()
    n_coefficients = 1 if way == "one" else 3
    terms, sums = velocity_terms(template), weighted_sums(template)
    assert [s.shape for s in start.log_scales] == [(n_coefficients,)] * len(terms)
    assert all(w.shape[0] == n_coefficients for w in start.weight_logits)
    assert [w.shape for w in start.log_gene_weights] == [(N_GENES,)] * len(terms)
    np.testing.assert_allclose(
        dense(parametrization.transition_function(start)), dense(template), rtol=0, atol=TOLERANCE
    )
    for term, scales in zip(terms, parametrization.scales(start), strict=True):
        np.testing.assert_allclose(np.asarray(scales), float(term.softmax_scale), rtol=1e-5)
    assert len(sums) == len(parametrization.weights(start)) == len(start.weight_logits)
    for weights in parametrization.weights(start):
        np.testing.assert_allclose(np.asarray(weights).sum(axis=-1), 1, rtol=1e-6)


def test_readable_scales_and_weights():
    parametrization = parametrization_of(TRANSITION_FUNCTIONS["three"]())
    (scales,), (weights,) = (f(parametrization.start()) for f in (parametrization.scales, parametrization.weights))
    np.testing.assert_allclose(np.asarray(scales), 2, rtol=1e-6)
    assert scales.shape == ()
    np.testing.assert_allclose(np.asarray(weights), [0.25, 0.125, 0.625], rtol=1e-6)
    # A product without a weight has none to be read.
    bare = parametrization_of(TRANSITION_FUNCTIONS["bare"]())
    (weights,) = bare.weights(bare.start())
    np.testing.assert_allclose(np.asarray(weights), [0.2, 0.8], rtol=1e-6)
    (node,) = weighted_sums(bare.transition_function(moved(bare.start())))
    assert len(node.children) == 3


def test_shapes_of_what_can_be_read():
    for way, shape in (("levels", (3,)), ("functions", (N_CELLS,))):
        parametrization = parametrization_of(TRANSITION_FUNCTIONS["three"](), **WAYS[way])
        parameters = moved(parametrization.start())
        assert [s.shape for s in parametrization.scales(parameters)] == [shape]
        assert [w.shape for w in parametrization.weights(parameters)] == [(*shape, 3)]


@pytest.mark.parametrize("name", ["usual", "bare", "nested"])
@pytest.mark.parametrize("way", ["levels", "functions"])
def test_each_cell_has_its_own(way, name):
    template = TRANSITION_FUNCTIONS[name]()
    parametrization = parametrization_of(template, **WAYS[way])
    parameters = moved(parametrization.start(), 0.5)
    found = dense(parametrization.transition_function(parameters))
    cells = WAYS[way]["scale_cells"]
    single = parametrization_of(template)
    for i in (0, 1, 2, 5, 17, 20, 30, 38):
        row = np.asarray(cells)[i]
        coefficients = np.eye(3)[row] if way == "levels" else row
        of_cell = jax.tree.map(
            lambda leaf, c=coefficients: default(np.tensordot(c, np.asarray(leaf, float), axes=1)[None]), parameters
        )
        np.testing.assert_allclose(found[i], dense(single.transition_function(of_cell))[i], rtol=0, atol=TOLERANCE)


def test_scales_of_levels_and_functions():
    parameters = Parameters((default(np.array([0.1, 0.2, 0.7])),))
    of_levels = parametrization_of(usual(), ("scale",), scale_cells=levels())
    np.testing.assert_allclose(np.asarray(of_levels.scales(parameters)[0]), np.exp([0.1, 0.2, 0.7]), rtol=1e-6)
    (term,) = velocity_terms(of_levels.transition_function(parameters))
    expected = np.array([0.1, 0.2, 0.7])[np.arange(N_CELLS) % 3]
    np.testing.assert_allclose(np.asarray(term.log_scale), expected, rtol=1e-6)
    of_functions = parametrization_of(usual(), ("scale",), scale_cells=functions())
    expected = np.exp(np.asarray(functions()) @ [0.1, 0.2, 0.7])
    np.testing.assert_allclose(np.asarray(of_functions.scales(parameters)[0]), expected, rtol=1e-5)


def test_a_template_that_differs_among_cells_starts_from_its_mean():
    scales = np.exp(np.linspace(-1, 2, N_CELLS))
    weight = np.linspace(0.2, 0.8, N_CELLS)
    template = weight * Velocity(scales) + (1 - weight) * Connectivity()
    parametrization = parametrization_of(template)
    start = parametrization.start()
    np.testing.assert_allclose(np.asarray(parametrization.scales(start)[0]), np.exp(0.5), rtol=1e-5)
    np.testing.assert_allclose(np.asarray(parametrization.weights(start)[0]), [0.5, 0.5], rtol=1e-5)


def test_what_is_not_trained_stays():
    template = nested()
    for train in (("scale",), ("weights",), ("gene_weights",), ("scale", "gene_weights")):
        parametrization = parametrization_of(template, train)
        parameters = parametrization.start()
        lengths = [len(part) for part in (parameters.log_scales, parameters.weight_logits, parameters.log_gene_weights)]
        assert lengths == [n if part in train else 0 for n, part in zip((4, 3, 4), ALL, strict=True)]
        transition_function = parametrization.transition_function(moved(parameters))
        pairs = list(zip(velocity_terms(transition_function), velocity_terms(template), strict=True))
        if "scale" not in train:
            assert all(new.log_scale is old.log_scale for new, old in pairs)
        if "gene_weights" not in train:
            assert all(new.gene_weights is old.gene_weights for new, old in pairs)
        if "weights" not in train:
            sums = zip(weighted_sums(transition_function), weighted_sums(template), strict=True)
            assert all(new.weights is old.weights for new, old in sums)


def test_sharing():
    a, b = Velocity(2.0, GENE_WEIGHTS + 1), Velocity(3.0, similarity="cosine")
    template = 0.5 * a + 0.25 * b + 0.25 * Velocity(5.0, GENE_WEIGHTS + 2, similarity="dot_product")
    parametrization = parametrization_of(template, ALL, sharing=(0, 1, 0))
    start = parametrization.start()
    np.testing.assert_allclose(np.exp(np.asarray(start.log_scales)[:, 0]), [2, 3], rtol=1e-6)
    parameters = moved(start)
    first, second, third = velocity_terms(parametrization.transition_function(parameters))
    for shared in ("log_scale", "gene_weights"):
        np.testing.assert_array_equal(np.asarray(getattr(first, shared)), np.asarray(getattr(third, shared)))
    np.testing.assert_allclose(np.asarray(second.log_scale), np.asarray(parameters.log_scales[1][0]))
    np.testing.assert_allclose(np.asarray(second.gene_weights), np.exp(np.asarray(parameters.log_gene_weights[1])))
    assert [s.shape for s in parametrization.scales(parameters)] == [(), ()]


def test_gene_weights_of_zero_start_near_zero():
    parametrization = parametrization_of(Velocity(2.0, GENE_WEIGHTS), ALL)
    start = parametrization.start()
    assert np.all(np.isfinite(np.asarray(start.log_gene_weights[0])))
    (term,) = velocity_terms(parametrization.transition_function(start))
    np.testing.assert_allclose(np.asarray(term.gene_weights), GENE_WEIGHTS, rtol=1e-6, atol=1e-30)


class Own(TransitionFunction):
    """A term of one's own that leaves logits behind."""

    def probabilities(self, pattern, edges, data, key):
        return self._fixed("connectivities").probabilities(pattern, edges, data, key)

    def fix(self, graph, data, name):
        return self._fixed(name), graph.edges["connectivities"]

    def _fixed(self, name):
        return FixedLogits(default(0.5), name)


class Twice(TransitionFunction):
    """A combination of one's own: the mean of one and itself."""

    part: TransitionFunction

    @property
    def parts(self):
        return (self.part,)

    def probabilities(self, pattern, edges, data, key):
        first, second = (self.part.probabilities(pattern, edges, data, key) for _ in range(2))
        return tuple((a + b) / 2 for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("combine", [lambda own: own, Twice], ids=["alone", "in_a_combination"])
def test_terms_and_combinations_of_ones_own(combine):
    """Only velocity terms have a scale to fit, wherever they stand and whatever others leave behind."""
    template = 0.5 * Own() + 0.3 * combine(Velocity(2.0)) + 0.2 * combine(0.25 * Velocity(3.0) + 0.75 * Own())
    problem = problem_of("future", transition_function=template)
    assert [float(term.softmax_scale) for term in velocity_terms(template)] == pytest.approx([2, 3], rel=1e-6)
    assert [len(node.children) for node in weighted_sums(template)] == [3, 2]
    parameters = moved(problem.parametrization.start())
    (function,) = problem.transition_functions(parameters)
    assert "FixedLogits" in str(function)
    assert "Velocity" not in str(function)
    found = function(problem.graph, problem.features).to_csr().toarray()
    expected = problem.parametrization.transition_function(parameters)(problem.graph, problem.features)
    np.testing.assert_allclose(found, expected.to_csr().toarray(), rtol=0, atol=TOLERANCE)
    assert not np.allclose(found, template(problem.graph, problem.features).to_csr().toarray(), rtol=0, atol=1e-3)


def test_with_scales_gives_the_automatic_ones():
    _, graph, features = dataset("asymmetric")
    template = 0.5 * Velocity() + 0.25 * Velocity(3.0) + 0.25 * Velocity(similarity="cosine", backward_mode="transpose")
    first, second, third = velocity_terms(with_scales(template, graph, features))
    for completed, term in ((first, Velocity()), (third, Velocity(similarity="cosine", backward_mode="transpose"))):
        own = graph.edges[term.edges_name]
        expected = float(term.details(graph.pattern, own, features["velocity"])[2])
        np.testing.assert_allclose(float(completed.softmax_scale), expected, rtol=1e-5)
    np.testing.assert_allclose(float(second.softmax_scale), 3, rtol=1e-6)


def penalties_of(weights, penalty):
    parametrization = parametrization_of(Velocity(2.0), ALL, penalty=penalty)
    genes, rough = parametrization.penalties(Parameters(log_gene_weights=(jnp.log(default(np.asarray(weights))),)))
    assert float(rough) == 0
    return float(genes)


def test_near_one():
    weights = np.array([0.5, 1, 2, 3, 1, 0.1])
    np.testing.assert_allclose(penalties_of(weights, "near_one"), np.mean(np.log(weights) ** 2), rtol=1e-5)
    assert penalties_of(np.ones(6), "near_one") == 0


def test_sparse():
    weights = np.array([0.5, 1, 2, 3, 1, 0.1])
    expected = np.sqrt(weights).sum() ** 2 / (6 * weights.sum())
    for scale in (1, 1e-8, 1e8, 1e30):
        np.testing.assert_allclose(penalties_of(scale * weights, "sparse"), expected, rtol=1e-5)
        np.testing.assert_allclose(penalties_of(scale * np.ones(6), "sparse"), 1, rtol=1e-6)
    np.testing.assert_allclose(penalties_of([1e30, *[1e-7] * 5], "sparse"), 1 / 6, rtol=1e-6)
    assert 1 / 6 < penalties_of(weights, "sparse") < 1


def test_the_gradient_of_sparse_is_that_of_its_formula():
    logarithms = default(np.log([0.5, 1, 2, 3, 1, 0.1]))
    parametrization = parametrization_of(Velocity(2.0), ALL, penalty="sparse")
    found = jax.grad(lambda a: parametrization.penalties(Parameters(log_gene_weights=(a,)))[0])(logarithms)
    plain = jax.grad(lambda a: jnp.sum(jnp.exp(a / 2)) ** 2 / (6 * jnp.sum(jnp.exp(a))))(logarithms)
    np.testing.assert_allclose(np.asarray(found), np.asarray(plain), rtol=1e-4, atol=1e-7)
    # What all weights have in common has no effect.
    np.testing.assert_allclose(float(jnp.sum(found)), 0, atol=1e-6)


def test_roughness_is_of_functions_alone_and_not_of_the_constant():
    rng = np.random.default_rng(0)
    for way in WAYS:
        parametrization = parametrization_of(TRANSITION_FUNCTIONS["three"](), **WAYS[way])
        parameters = jax.tree.map(lambda leaf: default(rng.normal(size=leaf.shape)), parametrization.start())
        genes, rough = parametrization.penalties(parameters)
        (scales,), (weights,) = parameters.log_scales, parameters.weight_logits
        expected = (
            np.mean(np.asarray(scales)[1:] ** 2) + np.mean(np.asarray(weights)[1:] ** 2) if len(scales) > 1 else 0
        )
        assert float(genes) == 0
        np.testing.assert_allclose(float(rough), expected if way == "functions" else 0, rtol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_distance_from_the_convention(way):
    """By plain sums; it does not matter which term of a sum stands last."""
    parametrization = parametrization_of(TRANSITION_FUNCTIONS["three"](), ("scale", "weights"), **WAYS[way])
    start = parametrization.start()
    assert float(parametrization.distance(start)) == 0
    there = moved(start)
    (scales,), (logits,) = (
        [np.asarray(b, float) - np.asarray(a, float) for a, b in zip(first, last, strict=True)]
        for first, last in ((start.log_scales, there.log_scales), (start.weight_logits, there.weight_logits))
    )
    change = np.pad(logits, ((0, 0), (0, 1)))
    expected = np.sum(scales**2) + 2 * np.sum((change - change.mean(axis=1, keepdims=True)) ** 2)
    np.testing.assert_allclose(float(parametrization.distance(there)), expected, rtol=TOLERANCE)
    # As if the first term stood last.
    other = np.roll(change, -1, axis=1) - change[:, :1]
    turned = Parameters(there.log_scales, (start.weight_logits[0] + default(other[:, :-1]),))
    np.testing.assert_allclose(float(parametrization.distance(turned)), expected, rtol=10 * TOLERANCE)


def test_distance_of_two_terms_is_that_of_one_logit():
    parametrization = parametrization_of(usual(), ("weights",))
    (logits,) = parametrization.start().weight_logits
    found = parametrization.distance(Parameters(weight_logits=(logits + 0.7,)))
    np.testing.assert_allclose(float(found), 0.49, rtol=1e-5)


def ring(n, reach=2):
    graph = sum(np.roll(np.eye(n), step, axis=1) for step in range(1, reach + 1))
    return sp.csr_matrix(graph + graph.T)


def random_weights(n=80, seed=0):
    rng = np.random.default_rng(seed)
    points = rng.random((n, 2))
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    return sp.csr_matrix(np.where((distance < 0.25) & (distance > 0), np.exp(-5 * distance), 0))


def energy(weights, functions):
    """Mean square difference along the edges, of functions of mean square one."""
    row, column = weights.nonzero()
    return np.asarray(weights[row, column]).ravel() @ (functions[row] - functions[column]) ** 2 / weights.sum()


def test_smooth_functions_on_a_ring():
    n = 40
    functions = smooth_functions(ring(n), 5)
    assert functions.shape == (n, 5)
    np.testing.assert_allclose(functions[:, 0], 1, rtol=1e-12)
    np.testing.assert_allclose(np.mean(functions**2, axis=0), 1, rtol=1e-12)
    # Cosines and sines of one wave, then of two, in whatever rotation.
    angle = 2 * np.pi * np.arange(n) / n
    for waves, columns in ((1, [1, 2]), (2, [3, 4])):
        basis = np.sqrt(2 / n) * np.stack([np.cos(waves * angle), np.sin(waves * angle)], axis=1)
        np.testing.assert_allclose(np.linalg.norm(basis.T @ functions[:, columns], axis=0), np.sqrt(n), rtol=1e-8)


def test_smooth_functions_are_smooth_and_in_order():
    weights = random_weights()
    functions = smooth_functions(weights, 6)
    energies = energy(weights, functions)
    np.testing.assert_allclose(energies[0], 0, atol=1e-20)
    assert np.all(np.diff(energies) > -0.02)
    random = np.random.default_rng(1).normal(size=functions.shape)
    assert energies.max() < 0.5 * energy(weights, random / np.sqrt(np.mean(random**2, axis=0))).min()
    # Eigenvectors of the random walk.
    walk = sp.diags_array(1 / np.asarray(weights.sum(axis=1)).ravel()) @ weights
    ratio = walk @ functions
    eigenvalues = np.sum(ratio * functions, axis=0) / np.sum(functions**2, axis=0)
    np.testing.assert_allclose(ratio, eigenvalues * functions, atol=1e-8)
    dense_eigenvalues = np.sort(np.linalg.eigvals(walk.toarray()).real)[::-1]
    np.testing.assert_allclose(eigenvalues, dense_eigenvalues[:6], atol=1e-8)


def test_smooth_functions_are_the_same_each_time():
    weights = random_weights()
    first, second = smooth_functions(weights, 4), smooth_functions(weights.copy(), 4)
    np.testing.assert_array_equal(first, second)
    largest = np.argmax(np.abs(first), axis=0)
    assert np.all(first[largest, np.arange(4)] > 0)
    # In the other order of the cells too, up to the solver's tolerance.
    reversed_functions = smooth_functions(sp.csr_matrix(weights[::-1][:, ::-1]), 4)
    np.testing.assert_allclose(reversed_functions[::-1], first, atol=1e-8)


def test_smooth_functions_symmetrise_and_spare_cells_without_neighbours():
    weights = random_weights().tolil()
    weights[5] = 0
    weights[:, 5] = 0
    weights = weights.tocsr()
    functions = smooth_functions(weights, 4)
    assert np.all(np.isfinite(functions))
    np.testing.assert_allclose(functions[5], [1, 0, 0, 0], atol=1e-12)
    directed = sp.csr_matrix(sp.triu(weights) * 2)
    np.testing.assert_allclose(smooth_functions(directed, 4), functions, atol=1e-8)


def test_smooth_functions_of_two_parts_tell_them_apart():
    weights = sp.block_diag([ring(40), ring(30)], format="csr")
    functions = smooth_functions(weights, 3)
    part = (np.arange(70) < 40) * 1.0
    span = np.stack([part, 1 - part], axis=1)
    rest = span - functions[:, :2] @ np.linalg.lstsq(functions[:, :2], span)[0]
    np.testing.assert_allclose(rest, 0, atol=1e-6)
