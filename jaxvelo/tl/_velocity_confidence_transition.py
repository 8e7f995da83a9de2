"""How well velocities agree with where the transitions of their cells lead, under scVelo's name."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.disk_arrays import require_no_copy
from jaxvelo.annotated.entries import require_anndata
from jaxvelo.annotated.feature_data import FeatureData
from jaxvelo.annotated.velocity_arrows import signed_transitions
from jaxvelo.annotated.velocity_graph import read_velocity_graph
from jaxvelo.configuration import accepts_data, is_positive, timed
from jaxvelo.dynamics import transition_coherence
from jaxvelo.graph import EdgeMatrix, NeighborGraph


@accepts_data
def velocity_confidence_transition(
    adata: AnnData, vkey: str = "velocity", scale: float = 10, copy: bool = False
) -> AnnData | None:
    r"""Correlate each velocity with the displacement that the velocity graph lets expect.

    .. math:: c_i = \operatorname{corr}_g\Big(v_{ig}, \sum_j T_{ij} (x_{jg} - x_{ig})\Big), \qquad
              T_{ij} \propto e^{\sigma (\pi^+_{ij} + \pi^-_{ij})}

    with the correlations :math:`\pi` of :func:`jaxvelo.tl.velocity_graph` and transitions of the cell to itself as in
    :func:`jaxvelo.tl.velocity_embedding`: near one where there are cells in the direction of the velocity.

    Parameters
    ----------
    adata
        Moments in ``adata.layers["Ms"]``, velocities in ``adata.layers[vkey]``, their graph in
        ``adata.uns[vkey + "_graph"]``. Genes are those of ``adata.var[vkey + "_genes"]``, if there; genes whose
        velocity is not finite in all cells are left out, with a warning.
    vkey
        Layer of the velocity.
    scale
        :math:`\sigma`.
    copy
        Return a copy and leave ``adata`` as it is.

    Returns
    -------
    anndata.AnnData or None
        The copy if ``copy``. Otherwise ``adata`` itself gets ``.obs[vkey + "_confidence_transition"]``: correlations
        from -1 to 1.

    Raises
    ------
    KeyError
        If moments, velocities or their graph are missing.
    ValueError
        If the graph is that of other cells or velocities, ``scale`` is no positive number, moments are not finite, or
        fewer than two genes remain.

    Notes
    -----
    Equal to scVelo 0.3.4 up to rounding, but that genes are not left out by ``adata.var["spearmans_score"]``, where
    another tool has left such a column; and that a cell without correlations stays where it is and gets 0.

    References
    ----------
    Bergen et al. (2020), Methods, confidence of velocities.

    Examples
    --------
    >>> jv.tl.velocity_graph(adata)
    >>> jv.tl.velocity_confidence_transition(adata)
    >>> bool(adata.obs["velocity_confidence_transition"].mean() > 0.5)
    True
    """
    require_no_copy(require_anndata(adata), copy)
    if not is_positive(scale):
        raise ValueError(f"Expected `scale` to be a positive number, found `{scale!r}`.")
    data = FeatureData(adata, "layers", "Ms", vkey)
    positive, negative = read_velocity_graph(adata, vkey)
    with timed("Computing the confidence of transitions"):
        transitions = signed_transitions(positive, negative, scale, self_transitions=True, use_negative_cosines=False)
        # The way to the cell itself is none, and takes digits from those to others.
        graph = NeighborGraph.from_csr(sp.csr_matrix(transitions - sp.diags_array(transitions.diagonal())))
        matrix = EdgeMatrix(graph, graph.edges["connectivities"].values)
        confidence = np.array(transition_coherence(matrix, jnp.asarray(data.x), jnp.asarray(data.v)))
    result = adata.copy() if copy else adata
    result.obs[f"{vkey}_confidence_transition"] = np.clip(confidence, -1, 1)
    return result if copy else None
