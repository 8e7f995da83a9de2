"""Cells of which the items tell nothing: which these are, and that what is predicted of them stays."""

import jax
import numpy as np
import pytest

from jaxvelo import objectives, tl
from jaxvelo.fitting._kernel_problem import KernelProblem
from jaxvelo.fitting._outside import VISITED, cells_outside
from jaxvelo.markov import absorption_probabilities
from tests.bent_line import N_CELLS
from tests.fitting.fits import CLOSE, QUICK, dense

TERMINAL = {"begin": np.arange(4), "end": np.arange(N_CELLS - 4, N_CELLS)}


@pytest.fixture(scope="module")
def near_the_end(mixed):
    """The fates of a few cells near one end are known; chains from there hardly visit those near the other one."""
    return objectives.FateLikelihood(mixed.adata, {"end": np.arange(N_CELLS - 8, N_CELLS - 4)}, TERMINAL)


def fates_of(kernel, objective):
    return np.asarray(absorption_probabilities(kernel.transitions, objective.terminal, 2).probabilities, float)


class TestWhichTheyAre:
    def test_fates(self, mixed, near_the_end):
        """By the fundamental matrix."""
        terminal = np.asarray(near_the_end.terminal)
        free, starts = terminal < 0, np.zeros(N_CELLS)
        starts[np.asarray(near_the_end.cell)] = 1
        visits = np.ones(N_CELLS)
        visits[free] = starts[free] @ np.linalg.inv(np.eye(free.sum()) - dense(mixed)[np.ix_(free, free)])
        found = cells_outside(mixed, near_the_end)
        np.testing.assert_array_equal(found, visits < VISITED)
        assert 5 < found.sum() < N_CELLS - 12

    def test_futures(self, mixed):
        later = objectives.FutureLikelihood(mixed.adata, {10: [11], 12: [14]}, n_steps=2)
        starts = np.zeros(N_CELLS)
        starts[[10, 12]] = 1
        np.testing.assert_array_equal(cells_outside(mixed, later), starts + starts @ dense(mixed) < VISITED)

    def test_none_where_single_steps_speak_for_all(self, mixed, near_the_end):
        time = objectives.TimeGain(mixed.adata, np.arange(N_CELLS, dtype=float))
        assert not cells_outside(mixed, time).any()
        assert not cells_outside(mixed, near_the_end + time).any()


class TestWhatStays:
    def test_fates_change_less(self, mixed, near_the_end):
        settings = {"validation": None, **QUICK}
        outside = cells_outside(mixed, near_the_end)
        first = fates_of(mixed, near_the_end)

        def change(result):
            return np.sqrt(np.mean((fates_of(result.kernel, near_the_end) - first)[outside] ** 2))

        held, free = tl.fit_kernel(mixed, near_the_end, **settings), tl.fit_kernel(
            mixed, near_the_end, outside=0, **settings
        )  # fmt: skip
        assert held.levels == {"softmax_scale": ["known", "other"], "weights": ["known", "other"]}
        assert held.parameters["softmax_scale"].shape == (2,)
        assert free.parameters["softmax_scale"].shape == ()
        assert held.scores["training"] < held.scores["training_convention"]
        assert 0 < change(held) < 0.5 * change(free)
        # The scale of each cell is that of its level.
        scale = held.kernel.kernels[0].params["softmax_scale"]
        np.testing.assert_allclose(scale, held.parameters["softmax_scale"][outside.astype(int)], rtol=1e-6)

    def test_penalty(self, mixed, near_the_end):
        problem = KernelProblem.of(mixed, near_the_end, {"scale": True}, 0, keeps_outside=True)
        _, first = jax.jit(problem.problem.item_losses)(problem.start)
        kept = problem.keeping(first)
        assert float(kept.problem.change_outside(first)) == 0
        moved = jax.tree.map(lambda leaf: leaf + 0.5, problem.start)
        _, after = jax.jit(kept.problem.item_losses)(moved)
        difference = np.asarray(after[0], float) - np.asarray(first[0], float)
        expected = np.mean(np.sum(difference[problem.outside] ** 2, axis=1))
        assert np.isclose(float(kept.problem.change_outside(after)), expected, **CLOSE)

    @pytest.mark.parametrize("outside", [-1, np.nan, "all"])
    def test_bad_input(self, mixed, near_the_end, outside):
        with pytest.raises(ValueError, match="Expected `outside` to be finite and not negative"):
            tl.fit_kernel(mixed, near_the_end, outside=outside, **QUICK)
