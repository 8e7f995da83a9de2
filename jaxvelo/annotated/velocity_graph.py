"""The velocity graph: correlations of velocities with the directions to other cells."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.velocity_graph_origin import check_origin


def has_velocity_graph(adata: AnnData, vkey: str) -> bool:
    """Whether there is a velocity graph to read."""
    return _slot(adata, graph_keys(vkey)[0]) is not None


def graph_keys(vkey: str) -> tuple[str, str]:
    """Keys of positive and of negative correlations, as scVelo's."""
    return f"{vkey}_graph", f"{vkey}_graph_neg"


def stored_velocity_graph(adata: AnnData, vkey: str) -> tuple[sp.csr_matrix, sp.csr_matrix] | None:
    """Return the velocity graph as it is stored; None if it is not there as a whole, or of other cells."""
    parts = [(key, _slot(adata, key)) for key in graph_keys(vkey)]
    found = [getattr(adata, slot)[key] for key, slot in parts if slot is not None]
    if len(found) != 2 or any(np.shape(part) != (adata.n_obs, adata.n_obs) for part in found):
        return None
    return sp.csr_matrix(found[0]), sp.csr_matrix(found[1])


def _slot(adata: AnnData, key: str) -> str | None:
    """Where a part stands: ``uns`` or, in older files, ``obsp``."""
    return next((slot for slot in ("uns", "obsp") if key in getattr(adata, slot)), None)


def read_velocity_graph(adata: AnnData, vkey: str) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Read positive and negative correlations, of jaxvelo or of scVelo, from ``uns`` or, as older files, ``obsp``.

    Raises
    ------
    KeyError
        If they are missing.
    ValueError
        If they are those of other cells, older than the velocities, not finite, or none at all.
    """
    remedy = f"Compute it with `jaxvelo.tl.velocity_graph(adata, vkey={vkey!r})`."
    parts, wheres = [], []
    for key in graph_keys(vkey):
        slot = _slot(adata, key)
        if slot is None:
            raise KeyError(
                f"Expected the velocity graph in `adata.uns[{key!r}]`, found the keys {listed(adata.uns)}. {remedy}"
            )
        where, part = f"adata.{slot}[{key!r}]", sp.csr_matrix(getattr(adata, slot)[key])
        wheres.append(where)
        if part.shape != (adata.n_obs, adata.n_obs):
            raise ValueError(
                f"Expected `{where}` to be of the {adata.n_obs} cells of `adata`, found shape {part.shape}: it does "
                f"not follow when cells are chosen. {remedy}"
            )
        if not np.isfinite(part.data).all():
            raise ValueError(f"Expected finite correlations in `{where}`, found some that are not. {remedy}")
        parts.append(part)
    if not any(part.count_nonzero() for part in parts):
        raise ValueError(f"Expected correlations in `{wheres[0]}`, found none. {remedy}")
    check_origin(adata, vkey, sp.csr_matrix(parts[0] + parts[1]), wheres[0], remedy)
    return parts[0], parts[1]
