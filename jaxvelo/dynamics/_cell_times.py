"""Times of all cells on both branches of their genes' curves."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxvelo.dynamics._blocks import in_blocks
from jaxvelo.dynamics._phase_curve import curve_at, nearest_places, tangents_at, time_grid

N_ON, N_OFF = 48, 80


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

    Parameters
    ----------
    log_curve
        Parameters of the curves, of shape (genes, 4).
    unspliced, spliced
        Cells, of shape (cells, genes), in the units of the curves.
    """
    found = in_blocks(_nearest_block, log_curve.astype(unspliced.dtype), unspliced, spliced, n_results=6)
    return OnBranch(*found[:3]), OnBranch(*found[3:])


@jax.jit
def _nearest_block(
    log_curve: Float[Array, "genes 4"], unspliced: Float[Array, "cells genes"], spliced: Float[Array, "cells genes"]
) -> list[Float[Array, "cells genes"]]:
    def gene(values: tuple[Array, Array, Array]) -> tuple[Array, ...]:
        on, off = _nearest(*values)
        return *on, *off

    return [values.T for values in jax.lax.map(gene, (log_curve, unspliced.T, spliced.T))]


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
    time = times[nearest_places(squared)]
    where: Bool[Array, " cells"] = jnp.full(time.shape, on)

    def residual(time: Float[Array, " cells"]) -> tuple[Float[Array, "2 cells"], Float[Array, "2 cells"]]:
        places = curve_at(log_curve, time, where)
        return jnp.stack([unspliced, spliced]) - places, tangents_at(log_curve, places, where)

    away, tangent = residual(time)
    least = jnp.sum(jnp.square(away), axis=0)
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
