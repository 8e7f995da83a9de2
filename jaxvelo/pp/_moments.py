"""First moments of the counts over the neighbourhoods, under scVelo's name."""

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotations import require_key
from jaxvelo.configuration import logger, timed
from jaxvelo.counts import check_non_negative, scale_cells, to_size
from jaxvelo.dynamics import first_moments, neighborhood_weights
from jaxvelo.pp._count_layers import COUNT_LAYERS, LAYERS, initial_size, read_layer, report, size_key, states_of_layers


def moments(
    adata: AnnData,
    n_pcs: int | None = None,
    n_neighbors: int | None = None,
    mode: str = "connectivities",
    copy: bool = False,
    *,
    enforce: bool | None = None,
) -> AnnData | None:
    r"""Average spliced and unspliced counts over each cell and its neighbours.

    The mean is plain: each neighbour counts the same, and the cell itself is one of them. Layers that still hold raw
    counts, which is decided for all of them at once as in :func:`filter_and_normalize`, are normalised first, with a
    warning; ``X`` is not touched.

    Parameters
    ----------
    adata
        Counts in ``adata.layers["spliced"]`` and ``["unspliced"]``, and a neighbour graph in ``adata.obsp``.
    n_pcs, n_neighbors
        None, or what the neighbour graph was computed with. Neighbours are not computed here.
    mode
        Key of the neighbour graph in ``adata.obsp``: ``"connectivities"`` or ``"distances"``.
    copy
        Return a copy and leave ``adata`` as it is.
    enforce
        True normalises the layers whatever their values look like, False takes them as they are, None decides by the
        values.

    Returns
    -------
    anndata.AnnData or None
        The copy if ``copy``. Otherwise ``adata`` itself has new ``.layers["Ms"]`` and ``["Mu"]``, dense, float32, of
        shape (cells, genes). Where layers were normalised first, these are replaced, and the sizes of the cells in them
        are in ``.obs["initial_size_spliced"]`` and ``["initial_size_unspliced"]``.

    Raises
    ------
    KeyError
        If a layer or the neighbour graph is missing.
    ValueError
        If counts or the graph are negative or not finite, or the graph is another than the arguments ask for.

    References
    ----------
    Bergen et al. (2020), first-order moments.
    """
    counts = {name: read_layer(adata, name) for name in COUNT_LAYERS if name in LAYERS or name in adata.layers}
    graph = _neighbor_graph(adata, mode, n_neighbors=n_neighbors, n_pcs=n_pcs)

    raw = list(counts) if enforce else []
    if enforce is None:
        states = states_of_layers(adata, counts)
        if any(state.kind != "normalized" for name, state in states.items() if name in LAYERS):
            report(states)
        raw = [name for name, state in states.items() if state.kind == "raw"]
    if raw:
        logger.warning("Found raw counts in %s: normalizing them first.", " and ".join(raw))
    sizes = {name: initial_size(adata, name, counts[name]) for name in raw}
    layers = {name: scale_cells(counts[name], to_size(size)) for name, size in sizes.items()}

    with timed(f"Computing moments based on {mode}"):
        weights = neighborhood_weights(graph)
        isolated = int(np.sum(np.diff(weights.indptr) == 1))
        if isolated:
            logger.warning("Found %d cells without neighbors: their moments are their own counts.", isolated)
        for key, name in (("Ms", "spliced"), ("Mu", "unspliced")):
            layers[key] = first_moments(weights, layers.get(name, counts[name]))
    result = adata.copy() if copy else adata
    for key, layer in layers.items():
        result.layers[key] = layer
    for name, size in sizes.items():
        result.obs[size_key(name)] = size
    return result if copy else None


def _neighbor_graph(adata: AnnData, mode: str, **asked: int | None) -> sp.csr_matrix:
    """Check and return the neighbour graph."""
    if mode not in ("connectivities", "distances"):
        raise ValueError(f"Expected `mode` to be 'connectivities' or 'distances', found `{mode!r}`.")
    found = require_key(adata.obsp, mode, "adata.obsp", "Compute it with `sc.pp.neighbors(adata)`.")
    known = adata.uns.get("neighbors", {}).get("params", {})
    for name, value in asked.items():
        if value is not None and known.get(name) != value:
            call = ", ".join(f"{key}={item}" for key, item in asked.items() if item is not None)
            raise ValueError(
                f"Asked for `{name}={value}`, but the neighbors in `adata` were computed with "
                f"`{name}={known.get(name, 'unknown')}`, and moments are taken over all of them. "
                f"Compute them anew with `sc.pp.neighbors(adata, {call})`, or pass `{name}=None`."
            )
    graph = sp.csr_matrix(found)
    check_non_negative(f"adata.obsp[{mode!r}]", graph, "Compute it anew with `sc.pp.neighbors(adata)`.")
    return graph
