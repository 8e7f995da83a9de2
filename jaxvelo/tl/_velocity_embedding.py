"""Velocities as arrows in an embedding, under scVelo's name."""

from __future__ import annotations

from typing import Any

from anndata import AnnData

from jaxvelo.annotated.disk_arrays import require_no_copy
from jaxvelo.annotated.embeddings import default_basis
from jaxvelo.annotated.entries import require_anndata, stored_parameters
from jaxvelo.annotated.velocity_arrows import velocity_arrows
from jaxvelo.configuration import accepts_data, logger, timed


@accepts_data
def velocity_embedding(
    adata: AnnData,
    basis: str | None = None,
    vkey: str = "velocity",
    scale: float = 10,
    self_transitions: bool = True,
    use_negative_cosines: bool = True,
    *,
    autoscale: bool = True,
    all_comps: bool = True,
    T: Any = None,
    copy: bool = False,
) -> AnnData | None:
    r"""Project velocities into an embedding.

    With the correlations :math:`\pi_{ij}` of :func:`jaxvelo.tl.velocity_graph`, split into positive
    :math:`\pi^+ \geq 0` and negative ones :math:`\pi^- \leq 0`, the transitions are

    .. math:: T_{ij} = \frac{t_{ij}}{\sum_k |t_{ik}|}, \qquad
              t_{ij} = e^{\sigma \pi^+_{ij}} - e^{-\sigma \pi^-_{ij}}

    with :math:`\sigma` = ``scale``, so that a cell is drawn towards the cells that its velocity points to, and away
    from those that it points away from. (With ``use_negative_cosines=False``,
    :math:`t_{ij} = e^{\sigma (\pi^+_{ij} + \pi^-_{ij})}`.) With ``self_transitions``,
    :math:`\pi^+_{ii}` is how far the largest correlation of the cell is below that of the best cells (the 98th
    percentile), from 0 to 1, which shortens the arrows of cells without a clear direction. The arrows, with
    :math:`z` the embedding and :math:`N_i` the cells with :math:`t_{ij} \neq 0` other than :math:`i`, are

    .. math:: a_i = \sum_{j \in N_i} \Big(T_{ij} - \frac{1}{|N_i|} \sum_{k \in N_i} T_{ik}\Big)
              \frac{z_j - z_i}{|z_j - z_i|}.

    Parameters
    ----------
    adata
        Velocity graph in ``.uns[f"{vkey}_graph"]``, embedding in ``.obsm[f"X_{basis}"]``.
    basis
        Name of the embedding; UMAP, t-SNE or PCA by default, the first of these that is there.
    vkey
        Key of the velocities.
    scale
        :math:`\sigma`.
    self_transitions, use_negative_cosines
        See above.
    autoscale
        Whether to scale all arrows by one factor, a third of what matplotlib's quiver would choose for them.
    all_comps
        Whether to project into all dimensions of the embedding, or into the first two.
    T
        Matrix of shape (cells, cells) to take instead of the transitions above.
    copy
        Return a copy and leave ``adata`` as it is.

    Returns
    -------
    anndata.AnnData or None
        The copy if ``copy``. Otherwise ``adata`` itself gets the arrows in ``.obsm[f"{vkey}_{basis}"]``, NaN for cells
        that have, or have a neighbour with, coordinates that are not finite; and ``basis`` is noted in
        ``.uns[f"{vkey}_params"]["embeddings"]``: :func:`jaxvelo.tl.velocity_graph` removes the note, so that pictures
        know arrows that are older than the graph.

    Raises
    ------
    KeyError
        If the embedding or the velocity graph is missing.
    ValueError
        If the velocity graph or ``T`` is that of other cells or not finite, or ``scale`` is no positive number.

    Notes
    -----
    Equal to scVelo 0.3.4 up to rounding, but for cells without correlations (zero, there NaN) and cells next to some
    without coordinates (NaN, there as if these were in the same place). Its arguments ``direct_pca_projection``
    (velocities times loadings, which is no projection of the field) and ``retain_scale`` are not there.

    References
    ----------
    La Manno et al. (2018), Bergen et al. (2020), Methods: projection into the embedding.

    Examples
    --------
    >>> jv.tl.velocity_graph(adata)
    >>> jv.tl.velocity_embedding(adata, basis="umap")
    >>> adata.obsm["velocity_umap"].shape
    (150, 2)
    """
    require_no_copy(require_anndata(adata), copy)
    basis = default_basis(adata) if basis is None else basis.removeprefix("X_")
    with timed(f"Projecting `{vkey}` onto `{basis}`"):
        arrows = velocity_arrows(
            adata,
            basis,
            vkey,
            scale=scale,
            self_transitions=self_transitions,
            use_negative_cosines=use_negative_cosines,
            autoscale=autoscale,
            all_comps=all_comps,
            T=T,
        )
    result = adata.copy() if copy else adata
    noted = stored_parameters(result, f"{vkey}_params")
    bases = [str(known) for known in noted.get("embeddings", [])]
    result.uns[f"{vkey}_params"] = {**noted, "embeddings": [*bases, *([basis] if basis not in bases else [])]}
    result.obsm[f"{vkey}_{basis}"] = arrows
    logger.info("Adding `adata.obsm['%s_%s']`", vkey, basis)
    return result if copy else None
