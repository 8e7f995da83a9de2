"""Times of all cells on both branches of their genes' curves."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxvelo.dynamics._blocks import in_blocks
from jaxvelo.dynamics._phase_curve import CurvePoints, curve_at, nearest_places, tangents_at, time_grid
from jaxvelo.graph._blocks import on_cpu

N_ON, N_OFF = 32, 48


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


def nearest_in_blocks(
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


def compile_nearest_in_blocks(dtype: np.dtype) -> None:
    """Compile the program of :func:`nearest_in_blocks`."""
    nearest_in_blocks(np.zeros((1, 4), dtype), np.zeros((1, 1), dtype), np.zeros((1, 1), dtype))


@jax.jit
def _nearest_block(
    log_curve: Float[Array, "genes 4"], unspliced: Float[Array, "cells genes"], spliced: Float[Array, "cells genes"]
) -> list[Float[Array, "cells genes"]]:
    def gene(values: tuple[Array, Array, Array]) -> tuple[Array, ...]:
        times, distances, residuals = times_on_branches(*values)
        return tuple(
            of_branch for branch in range(2) for of_branch in (times[branch], distances[branch], residuals[branch])
        )

    # The distances of one gene to its grid stay in the cache of a processor core.
    of_all = partial(jax.lax.map, gene) if on_cpu() else jax.vmap(gene)
    return [values.T for values in of_all((log_curve, unspliced.T, spliced.T))]


def times_on_branches(
    log_curve: Float[Array, "4"], unspliced: Float[Array, " cells"], spliced: Float[Array, " cells"]
) -> tuple[Float[Array, "2 cells"], Float[Array, "2 cells"], Float[Array, "2 cells"]]:
    """Times, squared distances and residuals in spliced, on both branches: the nearest of the grid, then one step."""
    # Otherwise the compiler computes the points of the curve anew for each cell.
    grid = jax.lax.optimization_barrier(time_grid(log_curve, N_ON, N_OFF))
    squared = jnp.square(unspliced[:, None] - grid.places[0][None])
    squared += jnp.square(spliced[:, None] - grid.places[1][None])
    nearest = [nearest_places(squared[:, :N_ON]), N_ON + nearest_places(squared[:, N_ON:])]
    last = [jnp.max(grid.times[:N_ON]), jnp.max(grid.times[N_ON:])]
    found = _on_curve(
        log_curve,
        jnp.stack([jnp.tile(unspliced, 2), jnp.tile(spliced, 2)]),
        jax.tree.map(lambda x: x[..., jnp.concatenate(nearest)], grid),
        jnp.repeat(jnp.stack(last), len(unspliced)),
    )
    times, distances, residuals = (x.reshape(2, -1) for x in found)
    return times, distances, residuals


def _on_curve(
    log_curve: Float[Array, "4"], cells: Float[Array, "2 both"], nearest: CurvePoints, last: Float[Array, " both"]
) -> tuple[Float[Array, " both"], Float[Array, " both"], Float[Array, " both"]]:
    r"""One step from the nearest of the grid, on the branch with the gene on, then on the other.

    Motion along the curve dies down at a rate :math:`r = -c'' \cdot c' / |c'|^2`, so that the way
    :math:`x` along the tangent, in units of its length, is made in the time :math:`-\log(1 - r x) / r`. A step of
    :math:`x` itself goes too far where little of the decay is left.
    """
    time, on, tangent = nearest.times, nearest.on, nearest.tangents
    away = cells - nearest.places
    bend = tangents_at(log_curve, tangent, jnp.zeros_like(on))  # the equations are linear
    least = jnp.sum(jnp.square(away), axis=0)
    length = jnp.sum(jnp.square(tangent), axis=0)
    way, rate = (jnp.sum(x * tangent, axis=0) / jnp.where(length > 0, length, 1.0) for x in (away, -bend))
    dies_down = jnp.abs(rate * way) > 1e-3
    rate = jnp.where(dies_down, rate, 1.0)
    step = jnp.where(dies_down, -jnp.log1p(-jnp.minimum(rate * way, 0.9)) / rate, way)
    refined = jnp.clip(time + jnp.where(length > 0, step, 0.0), 0.0, last)
    away_refined = cells - curve_at(log_curve, refined, on)
    squared = jnp.sum(jnp.square(away_refined), axis=0)
    # It still goes too far where the curve bends away from its tangent.
    better = squared < least
    return (
        jnp.where(better, refined, time),
        jnp.where(better, squared, least),
        jnp.where(better, away_refined[1], away[1]),
    )
