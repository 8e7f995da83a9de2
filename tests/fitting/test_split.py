"""Which cells are held out: whole groups, whole stretches of the graph, and never the last of a fate."""

from typing import ClassVar

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from jaxvelo import objectives
from jaxvelo.fitting._cell_blocks import cell_blocks
from jaxvelo.fitting._folds import inner_folds
from jaxvelo.fitting._kernel_problem import KernelProblem
from jaxvelo.fitting._split import Groups, split_cells
from tests.bent_line import N_CELLS

pytestmark = pytest.mark.any_precision
NUMBER = np.arange(N_CELLS)


@pytest.fixture(scope="module")
def problem(mixed, fates):
    mixed.adata.obs["donor"] = [f"donor {i}" for i in NUMBER // 6]
    mixed.adata.obs["alone"] = np.where(NUMBER < 20, "first", np.where(NUMBER < 30, "second", "third"))
    mixed.adata.obs["same"] = "all"
    mixed.adata.obs["some"] = np.where(NUMBER < 10, None, "late")
    yield KernelProblem.of(mixed, fates, ["weights"], 0)
    for key in ("donor", "alone", "same", "some"):
        del mixed.adata.obs[key]


def line(n_cells, breaks=()):
    """A path graph, without the edges at ``breaks``."""
    weights = np.ones(n_cells - 1)
    weights[list(breaks)] = 0
    path = sp.diags_array([weights, weights], offsets=[1, -1], format="csr")
    path.eliminate_zeros()
    return sp.csr_matrix(path)


def test_blocks_of_a_line_are_stretches_of_it():
    blocks = cell_blocks(line(100), np.ones(100, bool), 5)
    assert blocks[0] != blocks[-1]
    assert len(np.unique(blocks)) == 5 == 1 + np.count_nonzero(np.diff(blocks))
    assert np.bincount(blocks).min() >= 5


def test_blocks_of_some_cells():
    cells = np.zeros(60, bool)
    cells[20:50:2] = True
    blocks = cell_blocks(line(60), cells, 3)
    np.testing.assert_array_equal(blocks < 0, ~cells)
    assert set(blocks[cells]) == {0, 1, 2}
    assert np.count_nonzero(np.diff(blocks[cells])) == 2
    np.testing.assert_array_equal(cell_blocks(line(60), np.arange(60) == 7, 3)[[7, 8]], [0, -1])


def test_blocks_do_not_join_what_no_edge_joins():
    graph = line(60, breaks=[19, 39])
    blocks = cell_blocks(graph, np.ones(60, bool), 4)
    _, parts = connected_components(graph)
    assert all(len(np.unique(parts[blocks == block])) == 1 for block in np.unique(blocks))


def test_whole_groups_are_held_out(problem):
    split, groups = split_cells(problem, 0.3, "donor")
    known = problem.item_cells()
    donor = NUMBER // 6
    np.testing.assert_array_equal(split.training | split.held_out, known)
    assert not set(donor[split.training]) & set(donor[split.held_out])
    assert len(set(donor[split.held_out])) == round(0.3 * len(set(donor[known])))
    assert groups.name == "donor"
    assert groups.count(known) == len(set(donor[known]))
    assert (groups.number[~known] == -1).all()
    again, _ = split_cells(problem, 0.3, "donor")
    np.testing.assert_array_equal(split.held_out, again.held_out)


def test_whole_stretches_are_held_out(problem):
    split, groups = split_cells(problem, "blocks")
    assert groups.name == "blocks"
    assert groups.count(split.held_out) == 2
    assert not np.intersect1d(groups.number[split.held_out], groups.number[split.training]).size


@pytest.mark.parametrize("seed", range(4))
def test_a_group_that_alone_has_a_fate_is_not_held_out(mixed, fates, problem, seed):
    other = KernelProblem(**{**vars(problem), "seed": seed})
    split, _ = split_cells(other, 0.4, "alone")
    assert set(mixed.adata.obs["alone"][split.held_out]) <= {"second", "third"}
    assert split.is_validated


def test_folds_leave_out_each_group_once(problem):
    training = problem.item_cells() & (NUMBER >= 8)
    donor = NUMBER // 4
    folds = inner_folds(problem, training, Groups("donor", donor), 3)
    assert len(folds) == 3
    np.testing.assert_array_equal(np.sum([fold.held_out for fold in folds], axis=0), training)
    for fold in folds:
        np.testing.assert_array_equal(fold.training, training & ~fold.held_out)
        assert not set(donor[fold.training]) & set(donor[fold.held_out])
        # Three groups have the first fate, more the second: each fold leaves out some of both, and all of neither.
        assert {number < 20 for number in NUMBER[fold.training]} == {True, False}
        assert {number < 20 for number in NUMBER[fold.held_out]} == {True, False}


def test_no_more_folds_than_the_rarest_class_has_groups(problem):
    """Left out alone, a group of a class would be judged by fits that have seen too little of that class."""
    training = problem.item_cells() & (NUMBER >= 12)
    donor = np.where(NUMBER < 20, NUMBER // 16, NUMBER // 6)
    folds = inner_folds(problem, training, Groups("donor", donor), 5)
    assert len(folds) == 2
    for fold in folds:
        assert {number < 20 for number in NUMBER[fold.held_out]} == {True, False}


def test_folds_of_few_groups_leave_one_out(problem):
    folds = inner_folds(problem, problem.item_cells(), Groups("half", NUMBER // 30), 5)
    assert [sorted(set(NUMBER[fold.held_out] // 30)) for fold in folds] in ([[0], [1]], [[1], [0]])


def test_folds_of_cells_are_stretches(problem):
    training = problem.item_cells()
    folds = inner_folds(problem, training, Groups("cells", NUMBER), 3)
    assert len(folds) == 3
    np.testing.assert_array_equal(np.sum([fold.held_out for fold in folds], axis=0), training)
    # Cells drawn one by one would have most of their neighbours on the other side.
    for fold in folds:
        sides = fold.held_out[training]
        assert np.count_nonzero(np.diff(sides)) <= 0.5 * 2 * sides.sum()


def test_what_cannot_be_split(problem, caplog):
    for groups, message in (("same", "at least two groups.*'all'"), ("some", "for each cell.*without")):
        with pytest.raises(ValueError, match=message):
            split_cells(problem, 0.2, groups)
    with pytest.raises(KeyError, match="no donor"):
        split_cells(problem, 0.2, "no donor")
    with pytest.raises(ValueError, match="either `validation='blocks'` or `groups`"):
        split_cells(problem, "blocks", "donor")
    problem.kernel.adata.obs["donor"] = np.where(NUMBER < 20, "a", "b")
    with pytest.raises(ValueError, match="each of the 2 alone holds a fate"):
        split_cells(problem, 0.5, "donor")
    assert inner_folds(problem, problem.item_cells(), Groups("donor", np.zeros(N_CELLS, int))) == []
    for name in ("cells", "blocks"):
        problem.kernel.adata.obs[name] = "one"
        with pytest.raises(ValueError, match=r"another column of `adata.obs`.*Rename the column"):
            split_cells(problem, 0.5, name)
    split_cells(problem, NUMBER < 10, "alone")
    assert "1 groups" in caplog.text


def test_objectives_without_classes_are_split_too(mixed):
    adata = mixed.adata
    adata.obs["batch"] = NUMBER // 30
    problem = KernelProblem.of(mixed, objectives.TimeGain(adata, "pseudotime"), ["weights"], 0)
    split, _ = split_cells(problem, 0.5, "batch")
    assert set(NUMBER[split.held_out] // 30) in ({0}, {1})
    del adata.obs["batch"]


class TestSetsOfCells:
    """Items of several cells are fitted on or held out as a whole."""

    ENDS: ClassVar = {"begin": np.arange(4), "end": np.arange(N_CELLS - 4, N_CELLS)}

    def problem(self, mixed, n_sets, scale=1.0):
        counts = {f"set {k}": {"begin": 3.0 * scale, "end": 7.0 * scale} for k in range(n_sets)}
        cells = {f"set {k}": np.arange(5 + 10 * k, 15 + 10 * k) for k in range(n_sets)}
        shares = objectives.FateProportions(mixed.adata, counts, cells, self.ENDS)
        return KernelProblem.of(mixed, shares, None, 0)

    def test_split(self, mixed):
        problem = self.problem(mixed, 4)
        split, groups = split_cells(problem, 0.25)
        assert groups.name == "cells"
        assert split.held_out.sum() == 10
        assert len(np.unique(problem.units[split.held_out])) == 1
        folds = inner_folds(problem, split.training, groups)
        assert len(folds) == 3
        assert sorted(fold.held_out.sum() for fold in folds) == [10, 10, 10]

    def test_a_single_set_is_not_held_out(self, mixed, logged):
        split, _ = split_cells(self.problem(mixed, 1), 0.2)
        assert not split.is_validated
        assert "WARNING: All items of the objective are of the same cells" in logged()

    def test_the_prior_counts_observations(self, mixed):
        few, many = (self.problem(mixed, 2, scale) for scale in (1.0, 100.0))
        everyone = np.ones(N_CELLS, dtype=bool)
        assert few.count_observations(everyone) == pytest.approx(20)
        assert many.count_observations(everyone) == pytest.approx(2000)
