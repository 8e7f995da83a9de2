"""Which time cells are to go along where there are no velocities, and what is computed for that."""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.counts import check_finite, stored_values
from jaxvelo.annotated.entries import layer_names, require_key
from jaxvelo.cli._plan import (
    VELOCITY,
    Options,
    Plan,
    check_graph,
    check_representation,
    check_size,
    choose_basis,
    choose_graph,
    n_highly_variable,
    new_graph,
    tell_embedding,
)
from jaxvelo.configuration import logger
from jaxvelo.kernels import PseudotimeKernel, RealTimeKernel

PSEUDOTIME, DAYS, CYTOTRACE = "pseudotime", "days", "CytoTRACE"
MOST_DAYS, CELLS_PER_DAY = 20, 5
# Options that say how velocities are found or used.
_OF_VELOCITIES = (
    *("vkey", "xkey", "unspliced", "min_shared_counts", "velocity_mode"),
    *("model", "similarity", "softmax_scale"),
)


def goes_along_time(adata: AnnData, options: Options) -> bool:
    """Whether cells go along a time: as asked for, or as there is expression, but no trace of velocities.

    Raises
    ------
    ValueError
        If options ask for both.
    """
    asked = _asked_velocities(options)
    if options.time_key is not None:
        if asked:
            raise ValueError(
                f"Options ask for a time, --time-key, and for velocities: {', '.join(asked)}. Leave out one or the "
                "other."
            )
        return True
    layers = set(layer_names(adata))
    return not asked and not {"unspliced", "Mu", VELOCITY} & layers and (adata.X is not None or "spliced" in layers)


def _asked_velocities(options: Options) -> list[str]:
    """Options of velocities that are not what they are by default."""
    defaults = {field.name: field.default for field in dataclasses.fields(Options)}
    asked = [name for name in _OF_VELOCITIES if getattr(options, name) != defaults[name]]
    shown = [f"--{name.replace('_', '-')}" for name in asked]
    return shown + [f"--recompute {stage}" for stage in options.recompute if stage in ("moments", "velocity")]


def make_plan_along_time(adata: AnnData, options: Options) -> Plan:
    """Look at what is there, decide what is to be computed, and tell both.

    Raises
    ------
    ImportError
        If couplings of days cannot be computed.
    KeyError
        If a key that was asked for is not there.
    TypeError, ValueError
        If the time is none, or there is no expression.
    """
    check_size(adata)
    if adata.X is None and "spliced" not in layer_names(adata):
        raise ValueError(
            f"Expected expression in `X`, found none, and the layers {listed(sorted(layer_names(adata)))}. Name the "
            "layer with the counts as --spliced."
        )
    if adata.X is not None and options.spliced is None:
        check_finite("X", adata.X, "Name a layer with counts as --spliced.")
    time = _choose_time(adata, options)
    graph = None if options.asks_for("neighbors") else choose_graph(adata, options.neighbors_key)
    without_components = time == DAYS and options.use_rep is None and "X_pca" not in adata.obsm
    if graph is not None and without_components:
        logger.info("Computing neighbours anew, with the principal components that couplings of days need")
        graph = None
    neighbors = graph is None
    if graph is None:
        graph = new_graph(options.neighbors_key)
        check_representation(adata, options, has_counts=True)
    else:
        check_graph(adata, graph)
        logger.info("Using the neighbours in `obsp[%r]`", graph.connectivities)
    basis, umap = choose_basis(adata, options)
    tell_embedding(basis, umap)
    return Plan(
        n_top_genes=n_highly_variable(adata, options),
        neighbors=neighbors,
        umap=umap,
        graph=graph,
        basis=basis,
        time=time,
    )


def _choose_time(adata: AnnData, options: Options) -> str:
    """Return what kind of time it is, after a look at it, and tell."""
    key = options.time_key
    if key is None:
        _check_cytotrace(adata, options)
        logger.info(
            "Found no unspliced counts and no velocities: going along the pseudotime of CytoTRACE, from cells that "
            "express many genes to those that express few; name a column of obs with another time as --time-key, or "
            "layers of counts as --spliced and --unspliced"
        )
        return CYTOTRACE
    column = require_key(adata.obs, key, "obs", "Name a column with the cells' time as --time-key.")
    if _is_of_days(column):
        if options.backward:
            raise ValueError(
                f"Expected a pseudotime for --backward, found the {column.nunique()} time points of `obs[{key!r}]`, "
                "whose couplings lead to later ones. Leave out one of both options."
            )
        days = RealTimeKernel(_only(adata, key), key).time.cat.categories
        if find_spec("ott") is None:
            raise ImportError('Couplings of days need ott-jax. Install it: pip install "jaxvelo[ot]"')
        logger.info("Going along the %d time points of `obs[%r]`: %s", len(days), key, listed(days))
        return DAYS
    time = PseudotimeKernel(_only(adata, key), key).pseudotime
    assert time is not None
    logger.info("Going along the pseudotime in `obs[%r]`, from %.3g to %.3g", key, time.min(), time.max())
    return PSEUDOTIME


def _is_of_days(column: pd.Series) -> bool:
    """Whether a time has few values, each of many cells."""
    most = len(column) // CELLS_PER_DAY
    if pd.api.types.is_numeric_dtype(column.dtype):
        most = min(MOST_DAYS, most)
    return 1 < column.nunique() <= most


def _only(adata: AnnData, key: str) -> AnnData:
    """Cells with their time alone, and with themselves as neighbours: what a kernel refuses is known at once."""
    return AnnData(obs=adata.obs[[key]], obsp={"connectivities": sp.identity(adata.n_obs, format="csr")})


def _check_cytotrace(adata: AnnData, options: Options) -> None:
    """Raise a ValueError if expression has lost which genes are expressed."""
    values = stored_values(adata.X) if adata.X is not None and options.spliced is None else np.empty(0)
    if values.size and values.min() < 0:
        raise ValueError(
            "Expected counts, or logarithms of them, in `X`, from which CytoTRACE counts the genes that a cell "
            "expresses, found negative numbers. Name a layer with counts as --spliced, or a time as --time-key."
        )
