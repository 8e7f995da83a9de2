"""An objective of one's own is a class by itself: nothing else knows the list of objectives."""

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float, Int

from jaxvelo import fit, tl
from tests.bent_line import N_CELLS
from tests.fitting.fits import QUICK, check_scores


class Concentration(fit.Objective):
    """Minus the sum of squares of each row."""

    cell: Int[Array, " items"]
    weight: Float[Array, " items"]
    is_likelihood = False

    def item_losses(self, transitions, features, key):
        (matrix,) = transitions
        return -matrix.row_dot(matrix.values)[self.cell]


class OnNineCells(Concentration):
    @property
    def n_cells(self):
        return 9


class OnProteins(Concentration):
    @property
    def feature_names(self):
        return ("velocity", "proteins")


class OfNamedCells(Concentration):
    def check(self, transitions, cells):
        assert transitions.to_csr().shape == (N_CELLS, N_CELLS)
        raise ValueError(f"not with {cells[2]}")


EVERYONE = np.arange(N_CELLS)


def of(kind, cells=EVERYONE):
    return kind(cell=jnp.asarray(cells), weight=jnp.ones(len(cells)))


def test_it_is_fitted(mixed):
    objective = of(Concentration, np.arange(5, 40))
    result = tl.fit_kernel(mixed, objective, **QUICK)
    check_scores(result, objective, mixed)
    assert result.objective == "Concentration"
    assert (result.training | result.validation)[5:40].all()
    assert not (result.training | result.validation)[40:].any()


def test_it_is_added_to_others(mixed, fates):
    result = tl.fit_kernel(mixed, fates + 0.5 * of(Concentration), **QUICK)
    assert result.objective == "FateLikelihood + 0.5 * Concentration"
    assert result.scores["training"] < result.scores["training_convention"]


@pytest.mark.parametrize(
    ("kind", "cells", "message"),
    [
        (Concentration, [3, N_CELLS], f"the kernel's {N_CELLS} cells, found one on more"),
        (OnNineCells, [0], f"the kernel's {N_CELLS} cells, found one on 9"),
        (OnProteins, [0], r"features 'proteins' of the objective, found \['velocity'\]"),
        (OfNamedCells, [0], "not with cell_2"),
    ],
)
def test_it_says_what_it_needs(mixed, fates, kind, cells, message):
    for objective in (of(kind, np.array(cells)), fates + of(kind, np.array(cells))):
        with pytest.raises(ValueError, match=message):
            tl.fit_kernel(mixed, objective, **QUICK)
        with pytest.raises(ValueError, match=message):
            tl.sweep_kernel(mixed, objective)
