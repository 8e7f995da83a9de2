"""Distance from the root cells on the velocity graph, under scVelo's name."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotations import check_integer, graph_key, read_graph, require_anndata, require_key
from jaxvelo.configuration import logger, timed
from jaxvelo.dynamics import diffusion_pseudotime, neighborhood_weights
from jaxvelo.graph import NeighborGraph
from jaxvelo.tl._marked_cells import cell_at, is_informative, score_of
from jaxvelo.tl._terminal_states import find_terminal_states
from jaxvelo.velocity_arrows import read_velocity_graph


def velocity_pseudotime(
    adata: AnnData,
    vkey: str = "velocity",
    *,
    root_key: str | int | None = None,
    end_key: str | int | None = None,
    n_dcs: int = 10,
    use_velocity_graph: bool = True,
    neighbors_key: str | None = None,
    copy: bool = False,
) -> AnnData | None:
    r"""Order cells by their diffusion distance from a root cell on the velocity graph.

    The distance is that of :func:`jaxvelo.dynamics.diffusion_pseudotime` with the weights
    :math:`w_{ij} = |\pi_{ij}|` from the correlations of :func:`jaxvelo.tl.velocity_graph`. With an end
    point, it is averaged with one minus the distance from that, and scaled to the range from 0 to 1.

    Parameters
    ----------
    adata
        Velocity graph in ``adata.uns``, ``adata.obsp["connectivities"]``, and ``adata.obsp["distances"]`` where
        terminal states must be computed.
    vkey
        Key of the velocity.
    root_key, end_key
        Root cell and end point: the number or the name of a cell, or a key of ``adata.obs`` with a score; then it is
        the cell around which the score is highest, averaged over connected cells. If None, ``"root_cells"`` and
        ``"end_points"``; without ``adata.obs["root_cells"]``, they are computed as :func:`jaxvelo.tl.terminal_states`
        does. If only a root is given, ``"end_points"`` is taken where it is there.
    n_dcs
        Number of diffusion components.
    use_velocity_graph
        Whether to walk on the velocity graph; otherwise on the connectivities.
    neighbors_key
        Name of the neighbours in ``adata.uns``; None for ``"neighbors"``.
    copy
        Return a copy and leave ``adata`` as it is.

    Returns
    -------
    anndata.AnnData or None
        The copy if ``copy``. Otherwise ``adata`` itself gets ``.obs[vkey + "_pseudotime"]``, from 0 to 1, and, where
        they were computed, ``.obs["root_cells"]`` and ``.obs["end_points"]``, of which none is replaced that marks some
        cells. Cells connected to neither root nor end have no pseudotime: they get NaN, with a warning that counts
        them.

    Raises
    ------
    KeyError
        If the velocity graph, neighbours or a key are missing.
    ValueError
        If the graph is that of other cells, not finite, or a score marks no cell.

    Notes
    -----
    Equal to scVelo 0.3.4 on a connected graph. ``groupby`` and ``groups`` are left out: choose the cells. There, a key
    that does not exist gives NaN for all cells; here it is an error.

    References
    ----------
    Haghverdi et al. (2016); Bergen et al. (2020), Methods.
    """
    require_anndata(adata)
    check_integer("n_dcs", n_dcs, 2)
    connectivities = read_graph(adata, graph_key(adata, "connectivities", neighbors_key))
    needs_states = root_key is None and not has_score(adata, "root_cells")
    graph = read_velocity_graph(adata, vkey) if use_velocity_graph or needs_states else None
    states: dict[str, np.ndarray] = {}
    if graph is not None and needs_states:
        computed = find_terminal_states(adata, vkey, graph, neighbors_key=neighbors_key)
        found = dict(zip(("root_cells", "end_points"), computed, strict=True))
        states = {key: score for key, score in found.items() if not has_score(adata, key)}
        if "root_cells" in adata.obs:
            logger.warning("`adata.obs['root_cells']` marks no cell: replacing it by root cells computed anew")
    root_key = "root_cells" if root_key is None else root_key
    if end_key is None and has_score(adata, "end_points", states):
        end_key = "end_points"
    with timed("Computing velocity pseudotime"):
        neighborhoods = neighborhood_weights(connectivities)
        root = cell_at(adata, root_key, states, neighborhoods, "root_key")
        end = None if end_key is None else cell_at(adata, end_key, states, neighborhoods, "end_key")
        weights = magnitudes(*graph) if graph is not None and use_velocity_graph else connectivities
        pseudotime = pseudotime_on(weights, root, end, n_dcs)
    missing = int(np.count_nonzero(np.isnan(pseudotime)))
    if missing:
        logger.warning(
            "%d cells are not connected to the root cell; their pseudotime is NaN. Take the parts of the graph by "
            "themselves, or use more neighbours.",
            missing,
        )
    result = adata.copy() if copy else adata
    for key, score in states.items():
        result.obs[key] = score
    result.obs[f"{vkey}_pseudotime"] = pseudotime
    return result if copy else None


def has_score(adata: AnnData, key: str, computed: dict[str, np.ndarray] | None = None) -> bool:
    """Whether there is a score under this key that sets some cells apart."""
    if computed is not None and key in computed:
        return is_informative(computed[key])
    return key in adata.obs and is_informative(score_of(require_key(adata.obs, key, "adata.obs", "")))


def magnitudes(positive: sp.csr_matrix, negative: sp.csr_matrix) -> sp.csr_matrix:
    """Magnitudes of the correlations of a velocity graph."""
    return sp.csr_matrix(positive - negative)


def pseudotime_on(weights: sp.csr_matrix, root: int, end: int | None, n_components: int = 10) -> np.ndarray:
    """:func:`jaxvelo.dynamics.diffusion_pseudotime` of a sparse matrix."""
    graph = NeighborGraph.from_csr(weights)
    values = graph.edges["connectivities"].values
    return np.asarray(diffusion_pseudotime(graph, values, root, end, n_components), dtype=float)
