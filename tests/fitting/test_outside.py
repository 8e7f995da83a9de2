"""Cells of which the items tell nothing: which these are, and that what is predicted of them stays."""

import jax
import numpy as np
import pytest
import scipy.sparse as sp

from jaxvelo import objectives, tl
from jaxvelo.fitting._kernel_problem import KernelProblem
from jaxvelo.fitting._outside import VISITED, cells_outside
from jaxvelo.fitting._scores import item_losses
from jaxvelo.markov import absorption_probabilities
from tests.bent_line import N_CELLS
from tests.fitting.fits import CLOSE, QUICK, dense

TERMINAL = {"halfway": [28, 29], "end": np.arange(N_CELLS - 4, N_CELLS)}
FUTURE = sp.csr_matrix((np.ones(2), ([10, 12], [11, 14])), shape=(N_CELLS, N_CELLS))


@pytest.fixture(scope="module")
def before_a_fork(mixed):
    """Some cells in front of the first end are known to go past it; chains from there visit few of the cells before."""
    return objectives.FateLikelihood(mixed.adata, {"end": np.arange(23, 28)}, TERMINAL)


def fates_of(kernel, objective):
    return np.asarray(absorption_probabilities(kernel.transitions, objective.terminal, 2).probabilities, float)


class TestWhichTheyAre:
    def test_fates(self, mixed, before_a_fork):
        """By the fundamental matrix."""
        terminal = np.asarray(before_a_fork.terminal)
        free, starts = terminal < 0, np.zeros(N_CELLS)
        starts[np.asarray(before_a_fork.cell)] = 1
        visits = np.ones(N_CELLS)
        visits[free] = starts[free] @ np.linalg.inv(np.eye(free.sum()) - dense(mixed)[np.ix_(free, free)])
        found = cells_outside(mixed, before_a_fork)
        np.testing.assert_array_equal(found, visits < VISITED)
        assert 5 < found.sum() < 25

    def test_futures(self, mixed):
        later = objectives.FutureLikelihood(mixed.adata, future=FUTURE, steps=2)
        starts = np.zeros(N_CELLS)
        starts[[10, 12]] = 1
        np.testing.assert_array_equal(cells_outside(mixed, later), starts + starts @ dense(mixed) < VISITED)

    def test_none_where_single_steps_speak_for_all(self, mixed, before_a_fork):
        time = objectives.TimeGain(mixed.adata, "pseudotime")
        assert not cells_outside(mixed, time).any()
        assert not cells_outside(mixed, before_a_fork + time).any()


class TestWhatStays:
    def test_fates_change_less(self, mixed, before_a_fork):
        settings = {"validation": None, **QUICK}
        outside = cells_outside(mixed, before_a_fork)
        first = fates_of(mixed, before_a_fork)

        def change(result):
            return np.sqrt(np.mean((fates_of(result.kernel, before_a_fork) - first)[outside] ** 2))

        held, free = tl.fit_kernel(mixed, before_a_fork, **settings), tl.fit_kernel(
            mixed, before_a_fork, outside=0, **settings
        )  # fmt: skip
        assert held.levels == {"softmax_scale": ["known", "other"], "weights": ["known", "other"]}
        assert held.parameters["softmax_scale"].shape == (2,)
        assert free.parameters["softmax_scale"].shape == ()
        assert held.scores["training"] < held.scores["training_convention"]
        assert 0 < change(held) < 0.5 * change(free)
        # The scale of each cell is that of its level.
        scale = held.kernel.kernels[0].params["softmax_scale"]
        np.testing.assert_allclose(scale, held.parameters["softmax_scale"][outside.astype(int)], rtol=1e-6)

    def test_penalty(self, mixed, before_a_fork):
        problem = KernelProblem.of(mixed, before_a_fork, {"scale": True}, 0, keeps_outside=True)
        _, first = item_losses(problem.problem, problem.start)
        kept = problem.keeping(first)
        assert float(kept.problem.change_outside(first)) == 0
        moved = jax.tree.map(lambda leaf: leaf + 0.5, problem.start)
        _, after = item_losses(kept.problem, moved)
        difference = np.asarray(after[0], float) - np.asarray(first[0], float)
        expected = np.mean(np.sum(difference[problem.outside] ** 2, axis=1))
        assert np.isclose(float(kept.problem.change_outside(after)), expected, **CLOSE)

    @pytest.mark.parametrize("outside", [-1, np.nan, "all"])
    def test_bad_input(self, mixed, before_a_fork, outside):
        with pytest.raises(ValueError, match="Expected `outside` to be finite and not negative"):
            tl.fit_kernel(mixed, before_a_fork, outside=outside, **QUICK)


def test_names_of_fates_compile_nothing_anew(mixed, before_a_fork):
    """Programs know numbers of fates only."""
    renamed = objectives.FateLikelihood(
        mixed.adata, {"far": np.arange(23, 28)}, {"near": TERMINAL["halfway"], "far": TERMINAL["end"]}
    )
    assert renamed.outlook_names == ("near", "far")
    first, second = (jax.tree.structure(KernelProblem.of(mixed, o, None, 0).problem) for o in (before_a_fork, renamed))
    assert first == second


def test_apart_but_not_held(mixed, before_a_fork, logged):
    result = tl.fit_kernel(mixed, before_a_fork, train={"scale": "apart"}, outside=0, validation=None, **QUICK)
    assert result.levels == {"softmax_scale": ["known", "other"]}
    assert result.outside == 0
    logged()
    time = objectives.TimeGain(mixed.adata, "pseudotime")
    one = tl.fit_kernel(mixed, time, train={"scale": "apart"}, validation=None, **QUICK)
    assert one.parameters["softmax_scale"].shape == ()
    assert "tell something of all cells: `train` = 'apart' fits one value for all" in logged()


def test_fates_are_compared_wherever_they_stand_in_a_sum(mixed, before_a_fork):
    later = objectives.FutureLikelihood(mixed.adata, future=FUTURE, steps=2)
    result = tl.fit_kernel(mixed, later + before_a_fork, steps=2, progress=False, prior=np.inf, validation=None)
    assert result.changed == "fate probabilities"
    assert result.fate_names == ["halfway", "end"]
