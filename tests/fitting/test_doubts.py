"""What a fit says against itself, and how it changes cells without labels."""

import dataclasses
import logging

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

from jaxvelo import fit, objectives, tl
from jaxvelo.fitting._change import Change, change_by_fit
from jaxvelo.fitting._descent import best_of
from jaxvelo.fitting._doubts import doubtful_labels, doubts
from jaxvelo.fitting._kernel_problem import KernelProblem
from jaxvelo.fitting._scores import parts_of_mean, standard_error
from jaxvelo.fitting._split import Groups, Split
from jaxvelo.markov import absorption_probabilities
from tests.bent_line import N_CELLS
from tests.fitting.fits import QUICK, dense, same

pytestmark = pytest.mark.any_precision
NUMBER = np.arange(N_CELLS)
FINE = {
    "parameters": {"softmax_scale": np.array(2.0), "weights": np.array([0.7, 0.3])},
    "convention": {"softmax_scale": np.array(1.0), "weights": np.array([0.8, 0.2])},
}
UNCHANGED = Change("fate probabilities", np.zeros(N_CELLS), {"convention": np.zeros((N_CELLS, 2))}, ["a", "b"])
CELLS, NOBODY = Groups("cells", np.arange(N_CELLS)), np.zeros(N_CELLS, bool)


@pytest.fixture(scope="module")
def problem(mixed, fates):
    return KernelProblem.of(mixed, fates, ["weights"], 0)


@pytest.fixture
def said(problem):
    """What is said of a fit with some gain on each item, and an even one if not told otherwise."""
    known = problem.item_cells()
    split = Split(known & (NUMBER % 3 > 0), known & (NUMBER % 3 == 0))
    cell = np.asarray(problem.objective.cell)

    def say(gain=None, groups=CELLS, change=UNCHANGED, doubtful=NOBODY, split=split, **changed):
        gain = 1 + 0.1 * (NUMBER % 2) if gain is None else gain
        gains = [gain[cell]]
        scores = {
            "validation_gain": float(np.mean(gain[split.held_out])) if split.is_validated else np.nan,
            "validation_gain_se": standard_error(problem.objective, gains, split.held_out, groups),
        }
        parameters = {name: {**values, **changed.get(name, {})} for name, values in FINE.items()}
        return doubts(
            problem, split, groups, **parameters, gains=gains, scores=scores, change=change, doubtful=doubtful
        )

    return say


def test_nothing_to_say(said, problem):
    assert said() == []
    assert said(split=Split(problem.item_cells(), NOBODY)) == []


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"softmax_scale": np.array(11.0)}, "`softmax_scale` has run to 11 times the automatic one"),
        ({"softmax_scale": np.array(0.09)}, "`softmax_scale` has run to 0.09 of the automatic one"),
        ({"softmax_scale": np.array([1.0, 30.0])}, "30 times"),
        ({"weights": np.array([0.995, 0.005])}, "`weights` has run to 0.995 for term 1"),
        ({"weights": np.array([[0.5, 0.5], [0.003, 0.997]])}, "0.997 for term 2"),
    ],
)
def test_parameters_at_an_edge(said, parameters, words):
    (doubt,) = said(parameters=parameters)
    assert words in doubt


def test_weights_that_were_there_before(said):
    edge = {"weights": np.array([0.995, 0.005])}
    assert said(parameters=edge, convention=edge) == []


def test_gain_within_its_error(said):
    gain = np.where(NUMBER % 2, 1.0, -0.9)
    assert "within its standard error" in said(gain)[0]
    (doubt,) = said(-np.ones(N_CELLS) - 0.1 * (NUMBER % 2))
    assert "worse than the convention" in doubt


def test_gain_of_few(said, problem):
    held_out = np.flatnonzero(problem.item_cells() & (NUMBER % 3 == 0))
    gain = np.full(N_CELLS, 0.2)
    gain[held_out[2]] = 1.0 * len(held_out)
    assert any("A single cell makes most of the gain" in doubt for doubt in said(gain))
    gain = np.where(NUMBER < 12, 9.0, 1.0) + 0.1 * (NUMBER % 2)
    donors = Groups("donor", NUMBER // 12)
    assert any("A single group of `adata.obs['donor']`" in doubt for doubt in said(gain, donors))
    (doubt,) = said(groups=Groups("donor", NUMBER // 20))
    assert "Only 3 of the groups in `adata.obs['donor']` were held out" in doubt


def test_standard_error_of_groups(problem):
    """Of groups of equal size it is that of the mean of their means."""
    donor = NUMBER // 5
    cells = problem.item_cells()
    losses = (
        np.random.default_rng(0).normal(size=len(problem.objective.cell)) + donor[np.asarray(problem.objective.cell)]
    )
    sizes = np.bincount(donor[cells], minlength=donor.max() + 1)
    cells &= sizes[donor] == 4
    groups = Groups("donor", donor)
    means = [losses[np.asarray(donor[problem.objective.cell] == d)].mean() for d in sorted(set(donor[cells]))]
    expected = np.std(means, ddof=1) / np.sqrt(len(means))
    assert np.isclose(standard_error(problem.objective, [losses], cells, groups), expected)
    assert np.isclose(parts_of_mean(problem.objective, [losses], cells, groups)[0].sum(), np.mean(means))
    assert np.isnan(standard_error(problem.objective, [losses], cells, Groups("one", 0 * donor)))


def test_standard_error_of_sets(known):
    """A set counts for the group of one of its cells, which itself may not be among those of the mean."""
    counts = {name: {"begin": 3, "end": 1} for name in "abc"}
    sets = {name: i + 1 == NUMBER // 12 for i, name in enumerate(counts)}
    objective = objectives.FateProportions(known, counts, sets, "terminal")
    cells = np.isin(NUMBER // 12, [1, 3])
    cells[np.asarray(objective.cell)] = False
    losses = np.array([1.0, 50.0, 3.0])
    assert np.isclose(standard_error(objective, [losses], cells, Groups("donor", NUMBER // 12)), 1)
    parts, groups = parts_of_mean(objective, [losses], cells, Groups("donor", NUMBER // 12))
    np.testing.assert_allclose(parts, [0.5, 1.5])
    np.testing.assert_array_equal(groups, [1, 3])


def test_labels_that_look_wrong(said):
    """Alone among its neighbours, and improbable by the convention: both are asked for."""
    path = sp.csr_matrix(sp.diags_array([np.ones(N_CELLS - k) for k in (1, 2, 1, 2)], offsets=[1, 2, -1, -2]))
    label = (NUMBER >= 30).astype(int)
    outlook = np.where(label[:, None] == [0, 1], 0.98, 0.02)
    label[[10, 45]] = 1 - label[[10, 45]]
    outlook[45] = 0.5  # the convention does not know
    outlook[50:53] = [0.99, 0.01]  # the convention is wrong
    objective = fit.FateLikelihood(
        jnp.where(NUMBER == 0, 0, jnp.where(NUMBER == N_CELLS - 1, 1, -1)), 2, jnp.asarray(label[1:-1]),
        jnp.arange(1, N_CELLS - 1), jnp.ones(N_CELLS - 2),
    )  # fmt: skip
    doubtful = doubtful_labels(objective, path, [outlook])
    np.testing.assert_array_equal(np.flatnonzero(doubtful), [10])
    assert said(doubtful=doubtful) == []  # one may be
    (doubt,) = said(doubtful=NUMBER % 10 == 1)
    assert doubt.startswith("6 of ")


def test_change_without_labels(said, problem):
    size = np.where(problem.item_cells(), 0.0, 0.5)
    (doubt,) = said(change=dataclasses.replace(UNCHANGED, size=size))
    assert "cells without labels change by 0.5" in doubt
    assert said(change=dataclasses.replace(UNCHANGED, size=0.5 - size)) == []


def test_change_of_fates(plain_fit, mixed, known):
    terminal = known.obs["terminal"].cat.codes.to_numpy()
    before, after = (
        absorption_probabilities(k.transitions, terminal, 2).probabilities for k in (mixed, plain_fit.kernel)
    )
    np.testing.assert_allclose(plain_fit.fates["convention"], before, atol=1e-5)
    np.testing.assert_allclose(plain_fit.fates["fitted"], after, atol=1e-5)
    assert plain_fit.fate_names == ["begin", "end"]
    assert plain_fit.changed == "fate probabilities"
    change = np.abs(np.asarray(after - before)).max(axis=1)
    np.testing.assert_array_equal(np.isnan(plain_fit.change), terminal >= 0)
    without = (known.obs["fate"].isna() & (terminal < 0)).to_numpy()
    assert np.isclose(plain_fit.changes["without_labels_rms"], np.sqrt(np.mean(change[without] ** 2)), atol=1e-5)
    assert np.isclose(plain_fit.changes["with_labels_max"], change[~without & (terminal < 0)].max(), atol=1e-5)


def test_change_of_transitions(unvalidated_fit, mixed):
    expected = np.abs(dense(unvalidated_fit.kernel) - dense(mixed)).sum(axis=1) / 2
    np.testing.assert_allclose(unvalidated_fit.change, expected, atol=1e-6)
    assert unvalidated_fit.changed == "transition probabilities"
    assert np.isnan(unvalidated_fit.changes["without_labels_rms"])


def test_change_of_futures(mixed, known):
    objective = objectives.FutureLikelihood(known, "day", steps=2)
    problem = KernelProblem.of(mixed, objective, ["weights"], 0)
    before, after = np.zeros((N_CELLS, 2)), np.stack([NUMBER / 100, -NUMBER / 50], axis=1)
    change = change_by_fit(problem, mixed, [before], [after])
    np.testing.assert_allclose(change.size, NUMBER / 50)
    assert change.quantity == "probabilities of later cells"
    assert change.fates == {}


def test_fit_by_groups(mixed, fates, caplog):
    """Errors, scores and what is said follow the groups; a fit goes on with the same ones."""
    mixed.adata.obs["donor"] = NUMBER // 6
    donor = NUMBER // 6
    longer = {**QUICK, "steps": 40, "train": {"weights": True}}
    with caplog.at_level(logging.WARNING):
        result = tl.fit_kernel(mixed, fates, groups="donor", validation=0.3, **longer)
    assert not set(donor[result.training]) & set(donor[result.validation])
    assert "3 groups of 'donor'" in str(result)
    assert any("Only 3 of the groups" in doubt for doubt in result.doubts)
    for doubt in result.doubts:
        assert doubt in caplog.text
        assert f"  ! {doubt}" in str(result)
    begun = tl.fit_kernel(mixed, fates, groups="donor", validation=0.3, **{**longer, "steps": 20})
    same(result, tl.fit_kernel(mixed, fates, resume=begun, **longer))
    cells = tl.fit_kernel(mixed, fates, validation=result.validation, **longer)
    np.testing.assert_array_equal(cells.parameters["weights"], result.parameters["weights"])
    assert result.scores["validation_gain_se"] != cells.scores["validation_gain_se"]
    problem = KernelProblem.of(mixed, fates, {"weights": True}, 0).problem
    best = best_of(result.state, result.start)
    covariance, _ = fit.laplace_covariance(problem, best, jnp.asarray(result.training, dtype=float))
    by_group = fit.clustered_covariance(problem, best, result.training, result.group, covariance)
    # For one number, errors of the share are in proportion to those of its logit.
    ratio = float(np.sqrt(by_group[0, 0] / covariance[0, 0]))
    expected = cells.standard_errors["weights"] * max(ratio, 1)
    np.testing.assert_allclose(result.standard_errors["weights"], expected, rtol=1e-3)
    assert np.isfinite(expected).all()
    assert ratio > 0
    del mixed.adata.obs["donor"]
