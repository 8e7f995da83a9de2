"""Times of all cells on both branches of their genes' curves."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxvelo.dynamics._phase_curve import curve_at, tangents_at, time_grid

N_ON, N_OFF = 48, 80
# Cells and genes that go through the compiled program at a time: its shape is the same for all data sets.
N_CELLS, N_GENES = 1024, 32


class OnBranch(NamedTuple):
    """Nearest points of cells on one branch of the curve.

    Attributes
    ----------
    time
        Since the last switch, in units of 1/beta.
    distance
        Squared distance.
    spliced_residual
        Spliced of the cell less that of the curve.
    """

    time: Float[np.ndarray, "cells genes"]
    distance: Float[np.ndarray, "cells genes"]
    spliced_residual: Float[np.ndarray, "cells genes"]


def nearest_times(
    log_curve: Float[np.ndarray, "genes 4"],
    unspliced: Float[np.ndarray, "cells genes"],
    spliced: Float[np.ndarray, "cells genes"],
) -> tuple[OnBranch, OnBranch]:
    """Find the nearest points on both branches, gene on and gene off, of every cell and gene.

    Cells and genes go through one compiled program in blocks of fixed shape, so that neither memory nor compilation
    depends on their number.
    """
    n_cells, n_genes = unspliced.shape
    results = [[np.empty((n_cells, n_genes), dtype=unspliced.dtype) for _ in OnBranch._fields] for _ in range(2)]
    for first_gene in range(0, n_genes, N_GENES):
        genes = slice(first_gene, first_gene + N_GENES)
        curves = _padded(log_curve[genes], N_GENES, 0)
        for first_cell in range(0, n_cells, N_CELLS):
            block = (slice(first_cell, first_cell + N_CELLS), genes)
            places = [_padded(_padded(x[block], N_CELLS, 0), N_GENES, 1) for x in (unspliced, spliced)]
            found = _nearest_block(curves, *places)
            for result, branch in zip(results, found, strict=True):
                for target, values in zip(result, branch, strict=True):
                    view = target[block]
                    view[...] = np.asarray(values)[: view.shape[0], : view.shape[1]]
    on, off = (OnBranch(*result) for result in results)
    return on, off


def _padded(array: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Repeat the last entries along an axis up to a size."""
    missing = size - array.shape[axis]
    if not missing:
        return array
    return np.pad(array, [(0, missing if i == axis else 0) for i in range(array.ndim)], mode="edge")


@jax.jit
def _nearest_block(
    log_curve: Float[Array, "genes 4"], unspliced: Float[Array, "cells genes"], spliced: Float[Array, "cells genes"]
) -> tuple[OnBranch, OnBranch]:
    def gene(values: tuple[Array, Array, Array]) -> tuple[tuple[Array, ...], ...]:
        return _nearest(*values)

    found = jax.lax.map(gene, (log_curve, unspliced.T, spliced.T))
    on, off = (OnBranch(*(values.T for values in branch)) for branch in found)
    return on, off


def _nearest(
    log_curve: Float[Array, "4"], unspliced: Float[Array, " cells"], spliced: Float[Array, " cells"]
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    grid = time_grid(log_curve, N_ON, N_OFF)
    squared = jnp.square(unspliced[:, None] - grid.places[0][None])
    squared += jnp.square(spliced[:, None] - grid.places[1][None])
    return (
        _on_branch(log_curve, unspliced, spliced, squared[:, :N_ON], grid.times[:N_ON], on=True),
        _on_branch(log_curve, unspliced, spliced, squared[:, N_ON:], grid.times[N_ON:], on=False),
    )


def _on_branch(
    log_curve: Float[Array, "4"],
    unspliced: Float[Array, " cells"],
    spliced: Float[Array, " cells"],
    squared: Float[Array, "cells grid"],
    times: Float[Array, " grid"],
    on: bool,
) -> tuple[Float[Array, " cells"], Float[Array, " cells"], Float[Array, " cells"]]:
    """Nearest point of one branch: the nearest of the grid, then one step along its tangent."""
    least = jnp.min(squared, axis=1)
    # The index of a minimum is slow on CPUs; the largest of the times that attain it is not.
    time = jnp.max(jnp.where(squared == least[:, None], times[None], 0.0), axis=1)
    where: Bool[Array, " cells"] = jnp.full(time.shape, on)

    def residual(time: Float[Array, " cells"]) -> tuple[Float[Array, "2 cells"], Float[Array, "2 cells"]]:
        places = curve_at(log_curve, time, where)
        return jnp.stack([unspliced, spliced]) - places, tangents_at(log_curve, places, where)

    away, tangent = residual(time)
    length = jnp.sum(jnp.square(tangent), axis=0)
    step = jnp.sum(away * tangent, axis=0) / jnp.where(length > 0, length, 1.0)
    refined = jnp.clip(time + jnp.where(length > 0, step, 0.0), 0.0, jnp.max(times))
    away_refined, _ = residual(refined)
    squared_refined = jnp.sum(jnp.square(away_refined), axis=0)
    # The step overshoots where the curve bends away from its tangent.
    better = squared_refined < least
    return (
        jnp.where(better, refined, time),
        jnp.where(better, squared_refined, least),
        jnp.where(better, away_refined[1], away[1]),
    )
