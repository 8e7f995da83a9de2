"""How well velocities agree among neighbours, under scVelo's name."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from anndata import AnnData

from jaxvelo.annotated.disk_arrays import require_no_copy
from jaxvelo.annotated.entries import require_anndata
from jaxvelo.annotated.feature_data import FeatureData
from jaxvelo.annotated.graphs import graph_key
from jaxvelo.annotated.neighbors import read_neighbors, warn_about_isolated
from jaxvelo.configuration import accepts_data, timed
from jaxvelo.dynamics import velocity_coherence
from jaxvelo.graph import NeighborGraph


@accepts_data
def velocity_confidence(
    adata: AnnData, vkey: str = "velocity", copy: bool = False, *, neighbors_key: str | None = None
) -> AnnData | None:
    r"""Compute the length of each velocity and its agreement with those of the neighbours.

    .. math:: \ell_i = |\tilde v_i|, \qquad
              c_i = \max\Big(0, \frac{1}{|N_i|} \sum_{j \in N_i} \operatorname{corr}_g(v_{ig}, v_{jg})\Big)

    with :math:`\tilde v_i` the velocity centred over genes and :math:`N_i` the nearest neighbours of cell :math:`i`.

    Parameters
    ----------
    adata
        Velocities in ``adata.layers[vkey]``, nearest neighbours in ``adata.obsp["distances"]``. Genes are those of
        ``adata.var[vkey + "_genes"]``, if there; genes whose velocity is not finite in all cells are left out, with a
        warning.
    vkey
        Layer of the velocity.
    copy
        Return a copy and leave ``adata`` as it is.
    neighbors_key
        Name of the neighbours in ``adata.uns``; None for ``"neighbors"``.

    Returns
    -------
    anndata.AnnData or None
        The copy if ``copy``. Otherwise ``adata`` itself gets

        - ``.obs[vkey + "_length"]``: lengths, in the units of the velocity, rounded to two decimals as in scVelo;
        - ``.obs[vkey + "_confidence"]``: mean correlations, from 0 to 1.

    Raises
    ------
    KeyError
        If the velocities or the neighbours are missing.
    ValueError
        If neighbours are not finite, or fewer than two genes remain.

    Notes
    -----
    Equal to scVelo 0.3.4, but for four cases. A velocity without direction (zero, or equal for all genes) has
    correlation 0 with every other; there, it makes the confidence of the cell and of all that it is a neighbour of NaN.
    Where cells have different numbers of neighbours, all of them count; there, all are cut down to the fewest. Genes
    are not left out by ``adata.var["spearmans_score"]``, where another tool has left such a column. And
    :func:`jaxvelo.tl.velocity_confidence_transition` is not called, so that no velocity graph is needed.

    References
    ----------
    Bergen et al. (2020), Methods, confidence of velocities.

    Examples
    --------
    >>> jv.tl.velocity_confidence(adata)
    >>> bool(adata.obs["velocity_confidence"].between(0, 1).all())
    True
    """
    require_no_copy(require_anndata(adata), copy)
    neighbors = read_neighbors(adata, "distances", neighbors_key=neighbors_key)
    v = FeatureData(adata, "layers", vkey, vkey).v
    warn_about_isolated(neighbors, graph_key(adata, "distances", neighbors_key), "their confidence is 0")
    with timed("Computing the confidence of velocities"):
        length, confidence = map(np.array, velocity_coherence(NeighborGraph.from_csr(neighbors), jnp.asarray(v)))
    result = adata.copy() if copy else adata
    result.obs[f"{vkey}_length"] = length.round(2)
    result.obs[f"{vkey}_confidence"] = np.clip(confidence, 0, 1)
    return result if copy else None
