"""Random walks among cells that the user names."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from anndata import AnnData

from jaxvelo.annotated.arguments import check_integer
from jaxvelo.annotated.cells import chosen_cells
from jaxvelo.configuration import timed
from jaxvelo.graph import TransitionMatrix
from jaxvelo.kernels._randomness import random_key
from jaxvelo.markov import random_walks, sample_starts


def simulate(
    adata: AnnData,
    transitions: TransitionMatrix,
    n_sims: int,
    max_iter: int | float,
    seed: int | jax.Array | None,
    successive_hits: int,
    start_ixs: Any,
    stop_ixs: Any,
) -> list[np.ndarray]:
    """Simulate random walks; each is the array of the cells that it visits, its start first.

    Parameters
    ----------
    adata
        Annotated data.
    transitions
        Transition probabilities among its cells.
    n_sims, max_iter, seed, successive_hits, start_ixs, stop_ixs
        As of :meth:`jaxvelo.kernels.KernelExpression.random_walks`.
    """
    check_integer("n_sims", n_sims, least=1)
    check_integer("successive_hits", successive_hits, least=0)
    steps = n_steps(max_iter, adata.n_obs)
    start = chosen_cells(adata, start_ixs, "start_ixs")
    stop = None if stop_ixs is None else jnp.asarray(chosen_cells(adata, stop_ixs, "stop_ixs"))
    start_key, walk_key = jax.random.split(random_key(seed))
    with timed(f"Simulating `{n_sims}` random walks of maximum length `{steps}`"):
        starts = sample_starts(start_key, jnp.asarray(start), int(n_sims))
        paths, lengths = random_walks(transitions, starts, walk_key, steps, stop, int(successive_hits))
        visited, n_visited = np.asarray(paths), np.asarray(lengths)
    return [path[:length] for path, length in zip(visited, n_visited, strict=True)]


def n_steps(max_iter: int | float, n_cells: int) -> int:
    """Largest number of steps; a float is a fraction of the number of cells."""
    if isinstance(max_iter, bool) or not isinstance(max_iter, (int, float, np.integer, np.floating)):
        raise TypeError(f"Expected `max_iter` to be an integer or a fraction, found `{max_iter!r}`.")
    if not math.isfinite(max_iter):
        raise ValueError(f"Expected `max_iter` to be finite, found `{max_iter}`.")
    steps = int(max_iter) if isinstance(max_iter, (int, np.integer)) else math.ceil(max_iter * n_cells)
    if steps <= 1:
        raise ValueError(f"Expected number of iterations to be > 1, found `{steps}` (from `max_iter={max_iter}`).")
    return steps
