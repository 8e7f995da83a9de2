"""Random walks of a kernel, from cells that the user names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from anndata import AnnData

from jaxvelo import pl
from jaxvelo.annotations import check_integer, listed, read_embedding, require_key
from jaxvelo.configuration import logger, timed
from jaxvelo.kernels._kernel import KernelExpression
from jaxvelo.kernels._randomness import random_key
from jaxvelo.markov import random_walks, sample_starts


def plot_random_walks(
    kernel: KernelExpression,
    n_sims: int,
    max_iter: int | float,
    seed: int | jax.Array | None,
    successive_hits: int,
    start_ixs: Any,
    stop_ixs: Any,
    basis: str,
    **kwargs: Any,
) -> Any:
    """Simulate and plot; see :meth:`KernelExpression.plot_random_walks`."""
    read_embedding(kernel.adata, basis)
    walks = simulate(kernel, n_sims, max_iter, seed, successive_hits, start_ixs, stop_ixs)
    logger.info("Plotting random walks")
    return pl.random_walks(kernel.adata, walks, basis=basis, **kwargs)


def simulate(
    kernel: KernelExpression,
    n_sims: int,
    max_iter: int | float,
    seed: int | jax.Array | None,
    successive_hits: int,
    start_ixs: Any,
    stop_ixs: Any,
) -> list[np.ndarray]:
    """Simulate random walks; each is the array of the cells that it visits, its start first."""
    kernel.require_transitions()
    adata = kernel.adata
    check_integer("n_sims", n_sims, least=1)
    check_integer("successive_hits", successive_hits, least=0)
    steps = n_steps(max_iter, adata.n_obs)
    start = chosen_cells(adata, start_ixs, "start")
    stop = None if stop_ixs is None else jnp.asarray(chosen_cells(adata, stop_ixs, "stop"))
    start_key, walk_key = jax.random.split(random_key(seed))
    with timed(f"Simulating `{n_sims}` random walks of maximum length `{steps}`"):
        starts = sample_starts(start_key, jnp.asarray(start), int(n_sims))
        paths, lengths = random_walks(kernel.transitions, starts, walk_key, steps, stop, int(successive_hits))
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


def chosen_cells(adata: AnnData, chosen: Any, kind: str) -> np.ndarray:
    """Boolean mask of the cells that a user names.

    Parameters
    ----------
    adata
        Annotated data.
    chosen
        ``None`` (all cells), indices, names or a mask of cells, ``{"clusters": "Alpha"}``, ``{"clusters": ["Alpha",
        "Beta"]}`` or ``{"pseudotime": [0, 0.1]}``.
    kind
        What the cells are for, for messages.
    """
    mask = np.zeros(adata.n_obs, dtype=bool)
    if chosen is None:
        return ~mask
    if isinstance(chosen, Mapping):
        mask |= _by_annotation(adata, chosen, kind)
    else:
        listed_cells = list(chosen) if isinstance(chosen, Set) else chosen
        mask |= _by_list(adata, np.atleast_1d(np.asarray(listed_cells)), kind)
    if not mask.any():
        raise ValueError(f"No {kind} indices have been selected: `{chosen}` is no cell of `adata`.")
    return mask


def _by_annotation(adata: AnnData, chosen: Mapping[str, Any], kind: str) -> np.ndarray:
    if len(chosen) != 1:
        raise ValueError(f"Expected one key in `{kind}_ixs`, found {listed(chosen)}.")
    key, wanted = next(iter(chosen.items()))
    values = require_key(adata.obs, key, "adata.obs", "Pass the key of a column with clusters or numbers.")
    if pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype):
        limits = np.atleast_1d(np.asarray(wanted))
        if not np.issubdtype(limits.dtype, np.number):
            raise TypeError(f"Expected two numbers as limits for `adata.obs[{key!r}]`, found `{wanted}`.")
        if limits.shape != (2,):
            raise ValueError(f"Expected two limits for `adata.obs[{key!r}]`, found {len(limits)}: `{wanted}`.")
        return ((values >= limits.min()) & (values <= limits.max())).to_numpy()
    names = [wanted] if np.isscalar(wanted) else list(wanted)
    known = set(values.cat.categories) if isinstance(values.dtype, pd.CategoricalDtype) else set(values)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"Expected values of `adata.obs[{key!r}]` in `{kind}_ixs`, found {unknown}. "
            f"There are {listed(sorted(known, key=str))}."
        )
    return values.isin(names).to_numpy()


def _by_list(adata: AnnData, chosen: np.ndarray, kind: str) -> np.ndarray:
    if chosen.dtype == bool:
        if chosen.shape != (adata.n_obs,):
            raise ValueError(f"Expected a mask of length {adata.n_obs} as `{kind}_ixs`, found shape {chosen.shape}.")
        return chosen
    if chosen.dtype.kind in "iu":
        if len(chosen) and (chosen.max() >= adata.n_obs or chosen.min() < -adata.n_obs):
            raise IndexError(
                f"Expected {kind} indices below {adata.n_obs}, found {chosen[np.abs(chosen) >= adata.n_obs][0]}."
            )
        return np.isin(np.arange(adata.n_obs), chosen % adata.n_obs)
    if chosen.dtype.kind in "UO" and len(chosen):
        unknown = np.setdiff1d(chosen.astype(str), adata.obs_names.astype(str))
        if len(unknown):
            raise KeyError(
                f"Expected names of cells as `{kind}_ixs`, found {listed(unknown, 5)} not in `adata.obs_names`."
            )
        return adata.obs_names.isin(chosen.astype(str))
    if not len(chosen):
        return np.zeros(adata.n_obs, dtype=bool)
    raise TypeError(
        f"Expected `{kind}_ixs` to be indices, names or a mask of cells, or a dictionary, found {chosen.dtype} numbers."
    )
