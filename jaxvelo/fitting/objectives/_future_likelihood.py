"""Known later cells, by experimental time and clones."""

from __future__ import annotations

import contextlib
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo import fit
from jaxvelo.annotated.arguments import check_integer, listed
from jaxvelo.annotated.clones import read_clones
from jaxvelo.annotated.entries import require_anndata, require_key
from jaxvelo.annotated.order import square_in_order
from jaxvelo.fitting.objectives._blind_labels import checked_share


def FutureLikelihood(
    adata: AnnData,
    time_key: str | None = None,
    clone_key: str | None = None,
    future: Any = None,
    steps: int = 1,
    blind: float | str = 0.0,
) -> fit.FutureLikelihood:
    """Negative log-likelihood to be among the known later cells after some steps.

    Parameters
    ----------
    adata
        Annotated data.
    time_key
        Key in ``adata.obs`` of the experimental time: numbers, as categories or texts too, or ordered
        categories. The later cells of a cell are those of the next time point.
    clone_key
        Restricts them to the cell's own clones: key in ``adata.obsm`` of a matrix (cells × clones), or key in
        ``adata.obs`` of one clone (or lineage) for each cell, missing where unknown.
    future
        The later cells themselves, as a matrix of shape ``(cells, cells)``, in place of the keys; cells with an empty
        row make no item.
    steps
        Number of steps.
    blind
        Share of the cells whose later cells may be wrong: any of all cells as likely as the others. ``"fit"`` takes the
        likeliest share for each kernel. It cannot tell wrong later cells from those that are right but further than the
        steps lead, so 0 unless the steps are as many as needed.

    Returns
    -------
    The objective, see :class:`jaxvelo.fit.FutureLikelihood`.

    Raises
    ------
    KeyError
        If a key is missing.
    ValueError
        If neither or both of ``time_key`` and ``future`` are given, there are fewer than two time points, clones are
        not finite, or no cell has a known future.
    TypeError
        If the time is names without an order.

    Examples
    --------
    >>> adata.obs["day"] = np.digitize(adata.obs["true_time"], [8.0, 16.0])
    >>> objective = jv.objectives.FutureLikelihood(adata, time_key="day", steps=2)
    >>> objective.steps
    2
    """
    require_anndata(adata)
    check_integer("steps", steps, least=1)
    share = checked_share(blind)
    if (time_key is None) == (future is None):
        raise ValueError("Expected one of `time_key` and `future`.")
    if future is not None:
        if clone_key is not None:
            raise ValueError(
                "Expected `clone_key` with `time_key` only, found it with `future`. Leave one of them out."
            )
        known = sp.csr_matrix(square_in_order(future, adata.obs_names, "future"))
        if not np.isfinite(known.data).all():
            bad = int(np.count_nonzero(~np.isfinite(known.data)))
            raise ValueError(f"Expected finite entries in `future`, found {bad} that are not. Set these to zero.")
        later = known.astype(bool)
    else:
        assert time_key is not None
        later = _next_cells(adata, time_key, clone_key)
    later.eliminate_zeros()
    later.sort_indices()
    cell = np.flatnonzero(np.diff(later.indptr) > 0)
    if not len(cell):
        raise ValueError(
            "Expected cells with known later cells, found none. Check `clone_key`: do clones occur at two time points?"
        )
    # One column for each distinct set: cells of one clone and time share theirs.
    sets: dict[bytes, int] = {}
    target = np.array(
        [sets.setdefault(later.indices[later.indptr[i] : later.indptr[i + 1]].tobytes(), len(sets)) for i in cell]
    )
    _, representative = np.unique(target, return_index=True)
    return fit.FutureLikelihood(
        future=jnp.asarray(later[cell[representative]].toarray().T, dtype=float),
        steps=int(steps),
        target=jnp.asarray(target),
        cell=jnp.asarray(cell),
        weight=jnp.ones(len(cell)),
        blind=share,
    )


def _next_cells(adata: AnnData, time_key: str, clone_key: str | None) -> sp.csr_matrix:
    """Matrix of the cells of the next time point, of the same clones if there is a key of these."""
    time = require_key(adata.obs, time_key, "adata.obs", "Pass the key of an experimental time.")
    codes, n_times = _time_points(time, time_key)
    if not 2 <= n_times <= max(adata.n_obs // 2, 2):
        raise ValueError(
            f"Expected `adata.obs[{time_key!r}]` to have at least two time points with several cells each, found "
            f"{n_times} values for {adata.n_obs} cells. Cut a continuous time into bins, or pass `future`."
        )
    at = sp.csr_matrix(
        (np.ones((codes >= 0).sum(), dtype=np.int32), (np.flatnonzero(codes >= 0), codes[codes >= 0])),
        shape=(adata.n_obs, n_times),
    )
    following = sp.csr_matrix(at @ sp.eye(n_times, k=1, dtype=np.int32, format="csr"))
    if clone_key is None:
        return sp.csr_matrix(following @ at.T, dtype=bool)
    clones = read_clones(adata, clone_key)
    return sp.csr_matrix((clones @ clones.T).multiply(following @ at.T), dtype=bool)


def _time_points(time: pd.Series, time_key: str) -> tuple[np.ndarray, int]:
    """Number of the time point of each cell, -1 if missing, and how many there are."""
    points = time.astype("category").cat.remove_unused_categories()
    categories = points.cat.categories
    if not points.cat.ordered:
        with contextlib.suppress(TypeError, ValueError):  # as texts, 10 would stand before 2
            numbers = categories.astype(float)
            if numbers.is_unique:
                points = points.cat.rename_categories(numbers)
                categories = points.cat.categories
        if categories.inferred_type == "string" or categories.inferred_type.startswith("mixed"):
            raise TypeError(
                f"Expected `adata.obs[{time_key!r}]` to be numbers or ordered categories, found {listed(categories)}. "
                f"Put them in order as `adata.obs[{time_key!r}] = pandas.Categorical(adata.obs[{time_key!r}], "
                "['first', 'second', ...], ordered=True)`."
            )
        points = points.cat.reorder_categories(categories.sort_values())
    return points.cat.codes.to_numpy(), len(categories)
