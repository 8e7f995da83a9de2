"""Tools on an AnnData, under scVelo's names."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotations import require_key
from jaxvelo.configuration import logger, timed
from jaxvelo.counts import check_finite, check_non_negative
from jaxvelo.dynamics import neighborhood_weights, second_moments, steady_state, stochastic_steady_state

_MODES = ("stochastic", "deterministic", "steady_state")


def velocity(
    adata: AnnData,
    vkey: str = "velocity",
    mode: str = "stochastic",
    fit_offset: bool = False,
    fit_offset2: bool = False,
    *,
    perc: tuple[float, float] | float | None = (5, 95),
    min_r2: float = 0.01,
    min_ratio: float = 0.01,
    r2_adjusted: bool | None = None,
    use_highly_variable: bool = True,
    copy: bool = False,
) -> AnnData | None:
    r"""Estimate RNA velocities with a steady-state model.

    Each gene gets the line :math:`u = \gamma s` of its steady states from its extreme cells; velocity is the distance
    from it, :math:`u - \gamma s`. In the stochastic model the second moments enter as well; it is fitted for the
    velocity genes, the others keep the deterministic fit. The formulas are in
    :func:`jaxvelo.dynamics.steady_state` and :func:`jaxvelo.dynamics.stochastic_steady_state`.

    Velocity genes have :math:`r^2` > ``min_r2``, :math:`\gamma` > ``min_ratio`` (both of the deterministic fit), and
    spliced and unspliced counts. If fewer than two genes do, the fifth of all genes with the highest :math:`r^2` is
    taken, with a warning.

    Parameters
    ----------
    adata
        First moments in ``adata.layers["Ms"]`` and ``["Mu"]`` (see :func:`jaxvelo.pp.moments`). The stochastic model
        also needs ``adata.layers["spliced"]``, ``["unspliced"]`` and ``adata.obsp["connectivities"]``.
    vkey
        Key of the results.
    mode
        ``"stochastic"``, or ``"deterministic"``, also called ``"steady_state"``.
    fit_offset, fit_offset2
        Whether to fit an offset for the first, and for the second moments.
    perc
        Lower and upper percentile of the extreme cells; the lower one is used with ``fit_offset`` only. A single
        number is the upper one. None means (5, 95), as in scVelo.
    min_r2, min_ratio
        Thresholds of the velocity genes.
    r2_adjusted
        Whether to take :math:`r^2` from a fit on all cells.
    use_highly_variable
        Whether velocity genes must be in ``adata.var["highly_variable"]``, where that is present.
    copy
        Return a copy and leave ``adata`` as it is.

    Returns
    -------
    anndata.AnnData or None
        The copy if ``copy``. Otherwise ``adata`` itself gets

        - ``.layers[vkey]``: velocities, of shape (cells, genes),
        - ``.layers["variance_" + vkey]``: velocities of the second moment (stochastic; zero but for velocity genes),
        - ``.var[vkey + ...]``: ``_gamma``, ``_qreg_ratio`` (deterministic gamma), ``_r2``, ``_genes``, ``_offset``,
          ``_offset2``. As in scVelo, a column with the same value for all genes is not written,
        - ``.uns[vkey + "_params"]``: mode, ``fit_offset`` and ``perc``.

    Raises
    ------
    KeyError
        If a layer or the neighbour graph is missing.
    ValueError
        If the mode is unknown, ``perc`` is no percentile, or the data are not finite.

    Notes
    -----
    Equal to scVelo 0.3.4, but for ``use_highly_variable=False``, which scVelo accepts and does not heed.

    References
    ----------
    La Manno et al. (2018); Bergen et al. (2020).
    """
    if mode not in _MODES:
        hint = " The dynamical model is not available." if mode == "dynamical" else ""
        raise ValueError(f"Expected `mode` to be one of {_MODES}, found `{mode!r}`.{hint}")
    percentiles = _percentiles((5, 95) if perc is None else perc)
    spliced, unspliced = _layer(adata, "Ms"), _layer(adata, "Mu")
    allowed = _highly_variable(adata) if use_highly_variable else np.ones(adata.n_vars, dtype=bool)
    if mode == "stochastic":
        for name in ("spliced", "unspliced"):
            _layer(adata, name)
        weights = neighborhood_weights(_connectivities(adata))

    with timed(f"Computing velocities ({mode})"):
        # The default floating type: float32, or float64 if the user has enabled it.
        s, u = jnp.asarray(spliced, dtype=float), jnp.asarray(unspliced, dtype=float)
        fit = steady_state(s, u, percentiles=percentiles, fit_offset=fit_offset, r2_of_all_cells=bool(r2_adjusted))
        r2, ratio = np.asarray(fit.r2), np.asarray(fit.gamma)
        genes = _velocity_genes(r2, ratio, spliced, unspliced, allowed, min_r2, min_ratio)
        dtype = np.result_type(spliced.dtype, np.float32)
        columns = {"gamma": ratio.astype(dtype), "offset": np.array(fit.offset, dtype=dtype)}
        layers = {vkey: np.array(fit.residual, dtype=dtype)}

        if mode == "stochastic":
            fitted = genes if genes.any() else np.ones_like(genes)
            second = second_moments(weights, adata.layers["spliced"][:, fitted], adata.layers["unspliced"][:, fitted])
            stochastic = stochastic_steady_state(
                jnp.asarray(spliced[:, fitted], dtype=float),
                jnp.asarray(unspliced[:, fitted], dtype=float),
                *(jnp.asarray(moment, dtype=float) for moment in second),
                percentiles=percentiles,
                fit_offset=fit_offset,
                fit_offset2=fit_offset2,
            )
            columns["offset2"] = np.zeros(adata.n_vars, dtype=dtype)
            for name in ("gamma", "offset", "offset2"):
                columns[name][fitted] = np.asarray(getattr(stochastic, name))
            layers[vkey][:, fitted] = np.asarray(stochastic.residual)
            layers[f"variance_{vkey}"] = np.zeros(adata.shape, dtype=dtype)
            layers[f"variance_{vkey}"][:, fitted] = np.asarray(stochastic.residual2)

    columns |= {"qreg_ratio": ratio.astype(dtype), "r2": r2.astype(np.float64), "genes": genes}
    if genes.sum() < 10:
        logger.warning("Found only %d velocity genes. Consider a lower `min_r2`.", genes.sum())

    result = adata.copy() if copy else adata
    for key, layer in layers.items():
        result.layers[key] = layer
    for name in ("offset", "offset2", "gamma", "qreg_ratio", "r2", "genes"):
        key = f"{vkey}_{name}"
        if name in columns and len(np.unique(columns[name])) > 1:
            result.var[key] = columns[name]
        elif key in result.var:
            del result.var[key]
    perc_written = list(percentiles) if isinstance(percentiles, tuple) else percentiles
    result.uns[f"{vkey}_params"] = {"mode": mode, "fit_offset": fit_offset, "perc": perc_written}
    return result if copy else None


def _percentiles(perc: Any) -> tuple[float, float] | float:
    """Check the percentiles."""
    values = np.atleast_1d(perc)
    if values.dtype.kind not in "iuf" or values.size > 2 or not np.all((values >= 0) & (values <= 100)):
        raise ValueError(f"Expected `perc` to be one percentile or two, from 0 to 100, found `{perc!r}`.")
    if values.size == 1:
        return values[0].item()
    if values[0] > values[1]:
        raise ValueError(f"Expected the lower percentile in `perc` first, found `{perc!r}`.")
    return values[0].item(), values[1].item()


def _layer(adata: AnnData, name: str) -> np.ndarray:
    """Return a layer as a dense array of finite numbers, or say what is wrong with it."""
    origin = "Compute it with `jaxvelo.pp.moments(adata)`." if name in ("Ms", "Mu") else "Store the counts there."
    layer = require_key(adata.layers, name, "adata.layers", origin)
    check_finite(f"adata.layers[{name!r}]", layer, f"{origin} Leave out the genes or cells that are not finite.")
    return layer.toarray() if sp.issparse(layer) else np.asarray(layer)


def _connectivities(adata: AnnData) -> sp.csr_matrix:
    """Return the neighbour graph, or say what is wrong with it."""
    name = "adata.obsp['connectivities']"
    remedy = "Compute it with `sc.pp.neighbors(adata)`, or use `mode='deterministic'`."
    graph = sp.csr_matrix(require_key(adata.obsp, "connectivities", "adata.obsp", remedy))
    check_non_negative(name, graph, remedy)
    return graph


def _highly_variable(adata: AnnData) -> np.ndarray:
    """Mask of the highly variable genes; all, if none are marked."""
    if "highly_variable" not in adata.var:
        return np.ones(adata.n_vars, dtype=bool)
    marked = adata.var["highly_variable"]
    if marked.dtype != bool:
        raise ValueError(
            f"Expected booleans in `adata.var['highly_variable']`, found the type {marked.dtype}. "
            "Convert the column, or pass `use_highly_variable=False`."
        )
    return marked.to_numpy()


def _velocity_genes(
    r2: np.ndarray,
    ratio: np.ndarray,
    spliced: np.ndarray,
    unspliced: np.ndarray,
    allowed: np.ndarray,
    min_r2: float,
    min_ratio: float,
) -> np.ndarray:
    """Mask of the genes in which there is enough splicing dynamics to see."""
    genes = (r2 > min_r2) & (ratio > min_ratio) & (spliced.max(axis=0) > 0) & (unspliced.max(axis=0) > 0) & allowed
    if genes.sum() >= 2:
        return genes
    threshold = np.percentile(r2, 80)
    logger.warning(
        "Found fewer than two velocity genes: there is little signal of splicing dynamics. Lowered `min_r2` from %g to "
        "%.4g, to the fifth of the genes that fit best. Take care with the results.",
        min_r2,
        threshold,
    )
    return r2 > threshold
