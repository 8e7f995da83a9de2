"""First moments of the counts over the neighbourhoods, under scVelo's name."""

from typing import Any

import numpy as np
from anndata import AnnData

from jaxvelo.annotated.counts import cell_sizes, scale_cells, to_size
from jaxvelo.annotated.disk_arrays import require_no_copy
from jaxvelo.annotated.entries import require_anndata
from jaxvelo.annotated.graphs import KINDS, has_neighbors, neighbors_params, read_neighbor_graph
from jaxvelo.annotated.memory_limit import bytes_of
from jaxvelo.annotated.names import text_of
from jaxvelo.configuration import accepts_data, ignore_arguments, logger, timed
from jaxvelo.dynamics import first_moments, neighborhood_weights
from jaxvelo.pp._count_layers import COUNT_LAYERS, LAYERS, initial_size, read_layer, report, size_key, states_of_layers
from jaxvelo.pp._moments_on_disk import counts_on_disk, moments_to_disk, require_normalized
from jaxvelo.pp._neighbors import Neighbors, compute_neighbors, write_neighbors

N_NEIGHBORS = 30
_METHODS = ("umap", "sklearn", "hnsw")


@accepts_data
def moments(
    adata: AnnData,
    n_neighbors: int | None = None,
    n_pcs: int | None = None,
    mode: str = "connectivities",
    method: str | None = "umap",
    use_rep: str | None = None,
    use_highly_variable: bool = True,
    copy: bool = False,
    *,
    enforce: bool | None = None,
    neighbors_key: str | None = None,
    memory_limit: int | float | str | None = None,
) -> AnnData | None:
    r"""Average spliced and unspliced counts over each cell and its neighbours.

    The mean is plain: each neighbour counts the same, and the cell itself is one of them. Layers that still hold raw
    counts, which is decided for all of them at once as in :func:`filter_and_normalize`, are normalised first, with a
    warning; ``X`` is not touched.

    Counts that are on disk, as :func:`jaxvelo.read` gives them with ``backed=True``, stay there: they are read in
    blocks of cells, and the moments are written to files of their own. They equal those of counts in memory to the last
    bit. Made again after it was interrupted, the same call goes on where it was left.

    Parameters
    ----------
    adata
        Counts in ``adata.layers["spliced"]`` and ``["unspliced"]``, and a neighbour graph in ``adata.obsp``. Without
        one, neighbours are computed as by :func:`neighbors`, and a log line says so.
    n_neighbors, n_pcs, use_rep
        What neighbours are computed with where there are none (30 neighbours if None), and what those that are there
        must have been computed with: None, or where nothing is noted of it, anything. Neighbours that are there are
        never replaced.
    mode
        Which of the graphs to use: ``"connectivities"`` or ``"distances"``.
    method
        ``"umap"``, ``"sklearn"``, ``"hnsw"`` or None: accepted for scripts written for scVelo, where they give the same
        in other times.
    use_highly_variable
        Whether principal components, where they must be computed, are of the highly variable genes.
    copy
        Return a copy and leave ``adata`` as it is.
    neighbors_key
        Name of the neighbours in ``adata.uns``; None for ``"neighbors"``.
    enforce
        True normalises the layers whatever their values look like, False takes them as they are, None decides by the
        values.
    memory_limit
        Memory for blocks of counts that are on disk, besides the graph: bytes, or a text such as ``"8 GiB"``; half of
        what is free if None. Without effect on counts in memory.

    Returns
    -------
    anndata.AnnData or None
        The copy if ``copy``. Otherwise ``adata`` itself has new ``.layers["Ms"]`` and ``["Mu"]``, dense, float32, of
        shape (cells, genes), and what :func:`neighbors` writes where there were no neighbours. Where layers were
        normalised first, these are replaced, and the sizes of the cells in them are in
        ``.obs["initial_size_spliced"]`` and ``["initial_size_unspliced"]``.

    Raises
    ------
    KeyError
        If a layer is missing, or the graph of neighbours that are there or were named.
    ValueError
        If counts or the graph are negative or not finite, the graph is another than the arguments ask for, counts on
        disk are raw, or ``memory_limit`` is too small for one block of them (the message says how much is needed).
    OSError
        If counts on disk cannot be read, or moments not be written.

    References
    ----------
    Bergen et al. (2020), first-order moments.

    Examples
    --------
    >>> jv.pp.moments(adata)
    >>> adata.layers["Ms"].shape
    (150, 40)
    """
    require_anndata(adata)
    require_no_copy(adata, copy)
    if mode not in KINDS:
        raise ValueError(f"Expected `mode` to be 'connectivities' or 'distances', found `{mode!r}`.")
    if method is not None and method not in _METHODS:
        raise ValueError(
            f"Expected `method` to be one of {_METHODS} or None, found `{method!r}`. For neighbours of another kind, "
            "compute them first and leave it out."
        )
    ignore_arguments(method=None if method == "umap" else method)
    on_disk = counts_on_disk(adata)
    budget = bytes_of(memory_limit) if on_disk else 0
    counts: dict[str, Any] = {}
    if on_disk:
        require_normalized(adata, enforce)
    else:
        counts = {name: read_layer(adata, name) for name in COUNT_LAYERS if name in LAYERS or name in adata.layers}
    raw = list(counts) if enforce else []
    if enforce is None and not on_disk:
        states = states_of_layers(adata, counts)
        if any(state.kind != "normalized" for name, state in states.items() if name in LAYERS):
            report(states)
        raw = [name for name, state in states.items() if state.kind == "raw"]
    computed: Neighbors | None = None
    if neighbors_key is None and not has_neighbors(adata):
        logger.info("Found no neighbors in `adata`: computing them as `jaxvelo.pp.neighbors`")
        n_computed = min(N_NEIGHBORS, adata.n_obs) if n_neighbors is None else n_neighbors
        computed = compute_neighbors(adata, n_computed, n_pcs, use_rep, use_highly_variable=bool(use_highly_variable))
        graph = getattr(computed, mode)
    else:
        _check_asked(adata, neighbors_key, n_neighbors=n_neighbors, n_pcs=n_pcs, use_rep=use_rep)
        graph = read_neighbor_graph(adata, mode, neighbors_key)

    if raw:
        logger.warning("Found raw counts in %s: normalizing them first.", " and ".join(raw))
    sizes = {name: initial_size(adata, name, cell_sizes(counts[name])) for name in raw}
    layers: dict[str, Any] = {name: scale_cells(counts[name], to_size(size)) for name, size in sizes.items()}

    with timed(f"Computing moments based on {mode}"):
        weights = neighborhood_weights(graph)
        isolated = int(np.sum(np.diff(weights.indptr) == 1))
        if isolated:
            logger.warning("Found %d cells without neighbors: their moments are their own counts.", isolated)
        for key, name in (("Ms", "spliced"), ("Mu", "unspliced")):
            if on_disk:
                both = [adata.layers[layer] for layer in LAYERS]
                layers[key] = moments_to_disk(both, weights, adata.layers[name], name, key, budget)
            else:
                layers[key] = first_moments(weights, layers.get(name, counts[name]))
    result = adata.copy() if copy else adata
    if computed is not None:
        write_neighbors(result, computed, None)
    for key, layer in layers.items():
        result.layers[key] = layer
    for name, size in sizes.items():
        result.obs[size_key(name)] = size
    return result if copy else None


def _check_asked(adata: AnnData, neighbors_key: str | None, **asked: Any) -> None:
    """Raise a ValueError unless the neighbours that are there were computed with what is asked for, as far as known."""
    known = neighbors_params(adata, neighbors_key)
    for name, value in asked.items():
        if value is None or known.get(name) is None or np.ndim(known[name]):
            continue
        if text_of(known[name]) not in (text_of(value), f"X_{value}"):
            call = ", ".join(f"{key}={item!r}" for key, item in asked.items() if item is not None)
            key = "" if neighbors_key is None else f", key_added={neighbors_key!r}"
            raise ValueError(
                f"Asked for `{name}={value!r}`, but the neighbors in `adata` were computed with "
                f"`{name}={known[name]!r}`, and moments are taken over all of them. Compute them anew with "
                f"`jaxvelo.pp.neighbors(adata, {call}{key})`, or pass `{name}=None`."
            )
