"""The velocity graph: correlations of velocities with the directions to other cells."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.velocity_graph_origin import check_origin


def has_velocity_graph(adata: AnnData, vkey: str) -> bool:
    """Whether there is a velocity graph to read."""
    return f"{vkey}_graph" in adata.uns or f"{vkey}_graph" in adata.obsp


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
    parts = []
    for key in (f"{vkey}_graph", f"{vkey}_graph_neg"):
        slot = "uns" if key in adata.uns else "obsp"
        where = f"adata.{slot}[{key!r}]"
        if key not in getattr(adata, slot):
            raise KeyError(
                f"Expected the velocity graph in `adata.uns[{key!r}]`, found the keys {listed(adata.uns)}. {remedy}"
            )
        part = sp.csr_matrix(getattr(adata, slot)[key])
        if part.shape != (adata.n_obs, adata.n_obs):
            raise ValueError(
                f"Expected `{where}` to be of the {adata.n_obs} cells of `adata`, found shape {part.shape}: it does "
                f"not follow when cells are chosen. {remedy}"
            )
        if not np.isfinite(part.data).all():
            raise ValueError(f"Expected finite correlations in `{where}`, found some that are not. {remedy}")
        parts.append(part)
    if not any(part.count_nonzero() for part in parts):
        raise ValueError(f"Expected correlations in `adata.{slot}['{vkey}_graph']`, found none. {remedy}")
    check_origin(adata, vkey, sp.csr_matrix(parts[0] + parts[1]), f"adata.{slot}['{vkey}_graph']", remedy)
    return parts[0], parts[1]
