"""Filter genes, normalise cells, mark highly variable genes, under scVelo's names."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.configuration import logger
from jaxvelo.counts import (
    cell_sizes,
    check_non_negative,
    has_only_integers,
    is_zero,
    log1p,
    scale_cells,
    to_median_size,
)
from jaxvelo.pp._count_layers import LAYERS, MEND_COUNTS, count_layer, initial_size
from jaxvelo.pp._in_place import replace_content, require_in_memory

_FLAVORS = ("seurat", "cell_ranger")


def filter_genes(
    adata: AnnData,
    min_counts: int | None = None,
    min_cells: int | None = None,
    min_counts_u: int | None = None,
    min_cells_u: int | None = None,
    min_shared_counts: int | None = None,
    min_shared_cells: int | None = None,
    retain_genes: str | Sequence[str] | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Keep the genes with enough counts.

    Parameters
    ----------
    adata
        Counts in ``adata.layers["spliced"]`` and ``["unspliced"]``, and in ``adata.X``.
    min_counts, min_cells
        Least number of spliced counts, and of cells with any.
    min_counts_u, min_cells_u
        The same for unspliced counts.
    min_shared_counts, min_shared_cells
        The same for the spliced and unspliced counts together, of the cells that have both.
    retain_genes
        Names of genes to keep in any case.
    copy
        Return a filtered copy and leave ``adata`` as it is.

    Returns
    -------
    anndata.AnnData or None
        The copy if ``copy``. Otherwise ``adata`` itself has fewer genes. The sizes of the cells before the filter are
        in ``.obs["initial_size"]``, ``["initial_size_spliced"]`` and ``["initial_size_unspliced"]``; sizes that are
        there already are kept.

    Raises
    ------
    KeyError
        If a layer or a retained gene is missing.
    ValueError
        If ``adata`` is backed, counts are negative or not finite, or no gene is left.
    """
    result = _filtered(
        adata,
        min_counts=min_counts,
        min_cells=min_cells,
        min_counts_u=min_counts_u,
        min_cells_u=min_cells_u,
        min_shared_counts=min_shared_counts,
        min_shared_cells=min_shared_cells,
        retain_genes=retain_genes,
    )
    if copy:
        return result
    replace_content(adata, result)
    return None


def filter_and_normalize(
    adata: AnnData,
    min_counts: int | None = None,
    min_counts_u: int | None = None,
    min_cells: int | None = None,
    min_cells_u: int | None = None,
    min_shared_counts: int | None = None,
    min_shared_cells: int | None = None,
    n_top_genes: int | None = None,
    retain_genes: str | Sequence[str] | None = None,
    subset_highly_variable: bool = True,
    flavor: str = "seurat",
    log: bool = True,
    layers_normalize: str | Sequence[str] | None = None,
    copy: bool = False,
) -> AnnData | None:
    r"""Filter genes, normalise cells, find highly variable genes, and log-transform ``X``.

    Each of ``X``, spliced and unspliced is scaled per cell to the median size,
    :math:`x_{ig} \leftarrow x_{ig} \operatorname{median}_j(n_j) / n_i`, where :math:`n_i` is the number of counts of
    cell :math:`i` in that matrix before the filter. Without ``X``, or if it is all zero, the spliced counts take its
    place. A matrix with fractional values looks normalised already: it is left as it is, with a warning.

    Parameters
    ----------
    adata
        Counts in ``adata.X``, ``adata.layers["spliced"]`` and ``["unspliced"]``, dense or sparse.
    min_counts, min_counts_u, min_cells, min_cells_u, min_shared_counts, min_shared_cells, retain_genes
        As for :func:`filter_genes`.
    n_top_genes
        Number of highly variable genes. None looks for none.
    subset_highly_variable
        Whether to keep the highly variable genes only, or all, with the highly variable ones marked.
    flavor
        ``"seurat"`` or ``"cell_ranger"``, the dispersion of :func:`scanpy.pp.highly_variable_genes`.
    log
        Whether to replace ``X`` by :math:`\log(1 + x)`. The layers are never logarithmised.
    layers_normalize
        Layers to normalise in place of spliced and unspliced. These, and ``X``, are normalised whatever they look like.
    copy
        Return a copy and leave ``adata`` as it is.

    Returns
    -------
    anndata.AnnData or None
        The copy if ``copy``. Otherwise ``adata`` itself is changed: ``X``, the layers, ``.obs["initial_size"]``,
        ``["initial_size_spliced"]``, ``["initial_size_unspliced"]`` (before the filter), ``.obs["n_counts"]`` (of the
        normalised ``X``); with ``n_top_genes`` also ``.var["highly_variable"]``, ``["means"]``, ``["dispersions"]``,
        ``["dispersions_norm"]``. A view becomes an AnnData of its own; its parent stays as it is.

    Raises
    ------
    KeyError
        If a layer or a retained gene is missing.
    ValueError
        If ``adata`` is backed, counts are negative or not finite, no gene is left, or an argument is out of range.
    ImportError
        If ``n_top_genes`` is given and scanpy is not installed.

    Notes
    -----
    Equal to scVelo 0.3.4, with the selection and logarithm of its versions before 0.3. Other than there, whether a
    matrix holds raw counts is judged by all of its values, not by the first five cells, and ``X`` is logarithmised if
    and only if it was normalised here.
    """
    if flavor not in _FLAVORS:
        raise ValueError(f"Expected `flavor` to be one of {_FLAVORS}, found `{flavor!r}`.")
    if n_top_genes is not None and not (isinstance(n_top_genes, int | np.integer) and n_top_genes > 0):
        raise ValueError(f"Expected `n_top_genes` to be a positive integer or None, found `{n_top_genes!r}`.")
    layers = _layers_to_normalize(adata, layers_normalize)

    result = _filtered(
        adata,
        min_counts=min_counts,
        min_counts_u=min_counts_u,
        min_cells=min_cells,
        min_cells_u=min_cells_u,
        min_shared_counts=min_shared_counts,
        min_shared_cells=min_shared_cells,
        retain_genes=retain_genes,
    )
    if _lacks_x(adata):
        _take_spliced(result)
    if result.X is None:
        raise ValueError("Found neither `adata.X` nor `adata.layers['spliced']`: there are no counts to normalise.")
    normalized = _normalize(result, layers, enforce=layers_normalize is not None)
    result.obs["n_counts"] = cell_sizes(result.X)

    logged = log1p(result.X) if "X" in normalized else result.X
    if n_top_genes is not None:
        result = _with_highly_variable(result, logged, n_top_genes, flavor, retain_genes)
        if subset_highly_variable:
            logged = logged[:, result.var["highly_variable"].to_numpy()]
            result = result[:, result.var["highly_variable"].to_numpy()].copy()
    if log and "X" in normalized:
        result.X = logged
        result.uns["log1p"] = {"base": None}  # scanpy's sign that X is logarithmised
        logger.info("Logarithmized X.")
    elif log:
        logger.warning("Did not logarithmize X, as it looks processed already. To do so, call `sc.pp.log1p(adata)`.")
    if copy:
        return result
    replace_content(adata, result)
    return None


def _filtered(adata: AnnData, *, retain_genes: str | Sequence[str] | None, **least: int | None) -> AnnData:
    """Check the counts and return a copy with enough counts per gene and the initial size of each cell."""
    require_in_memory(adata)
    layers = [name for name in LAYERS if name in adata.layers]
    for name in layers:
        check_non_negative(f"adata.layers[{name!r}]", adata.layers[name], MEND_COUNTS)
    if adata.X is not None:
        check_non_negative("adata.X", adata.X, MEND_COUNTS)
    if len(layers) < 2:
        logger.warning("Did not find spliced and unspliced counts in `adata.layers`: velocities will not be possible.")
    retained = _retained(adata, retain_genes)

    keep = np.ones(adata.n_vars, dtype=bool)
    for name, suffix, prefix in (("spliced", "", ""), ("unspliced", "_u", ""), ("shared", "", "shared_")):
        min_counts, min_cells = least[f"min_{prefix}counts{suffix}"], least[f"min_{prefix}cells{suffix}"]
        if min_counts is None and min_cells is None:
            continue
        counts = _shared_counts(adata) if name == "shared" else count_layer(adata, name)
        passed = np.ones(adata.n_vars, dtype=bool)
        if min_counts is not None:
            passed &= np.asarray(counts.sum(axis=0)).ravel() >= min_counts
        if min_cells is not None:
            passed &= np.asarray((counts > 0).sum(axis=0)).ravel() >= min_cells
        dropped = int(np.sum(keep & ~(passed | retained)))
        keep &= passed | retained
        if dropped:
            bounds = [f"{bound} {unit}" for bound, unit in ((min_counts, "counts"), (min_cells, "cells")) if bound]
            logger.info("Filtered out %d genes with fewer than %s (%s).", dropped, " or ".join(bounds), name)
    if not keep.any():
        given = ", ".join(f"{key}={value}" for key, value in least.items() if value is not None)
        raise ValueError(f"None of the {adata.n_vars} genes passes the filter ({given}). Lower the thresholds.")

    result = adata[:, keep].copy()
    for name in ("unspliced", "spliced"):
        if name in layers:
            key = f"initial_size_{name}"
            result.obs[key] = initial_size(adata, key, adata.layers[name])
    x = adata.layers["spliced"] if _lacks_x(adata) else adata.X
    if x is not None:
        result.obs["initial_size"] = initial_size(adata, "initial_size", x)
    return result


def _shared_counts(adata: AnnData) -> Any:
    """Spliced plus unspliced counts, where both are there."""
    # As floats, because the sum of two small integers may not fit into their type.
    spliced, unspliced = (sp.csr_matrix(count_layer(adata, name), dtype=float) for name in LAYERS)
    return (spliced + unspliced).multiply((spliced > 0).multiply(unspliced > 0)).tocsr()


def _retained(adata: AnnData, retain_genes: str | Sequence[str] | None) -> np.ndarray:
    """Mask of the genes to be kept in any case."""
    names = [retain_genes] if isinstance(retain_genes, str) else list(retain_genes or [])
    missing = [name for name in names if name not in adata.var_names]
    if missing:
        raise KeyError(f"Expected the names in `retain_genes` to be in `adata.var_names`, did not find {missing}.")
    return np.asarray(adata.var_names.isin(names))


def _layers_to_normalize(adata: AnnData, layers_normalize: str | Sequence[str] | None) -> list[str]:
    """Names of the layers to normalise, apart from X."""
    if layers_normalize is None:
        return [name for name in LAYERS if name in adata.layers]
    names = [layers_normalize] if isinstance(layers_normalize, str) else list(layers_normalize)
    names = list(adata.layers) if names == ["all"] else [name for name in names if name != "X"]
    for name in names:
        check_non_negative(f"adata.layers[{name!r}]", count_layer(adata, name), MEND_COUNTS)
    return names


def _normalize(result: AnnData, layers: Iterable[str], enforce: bool) -> list[str]:
    """Scale X and the layers per cell to the median size, in place; return the names of those that were scaled."""
    scaled, processed = [], []
    for name in ("X", *layers):
        matrix = result.X if name == "X" else result.layers[name]
        if not enforce and not has_only_integers(matrix):
            processed.append(name)
            continue
        key = "initial_size" if name == "X" else f"initial_size_{name}"
        sizes = result.obs[key].to_numpy() if key in result.obs else cell_sizes(matrix)
        normalized = scale_cells(matrix, to_median_size(sizes))
        if name == "X":
            result.X = normalized
        else:
            result.layers[name] = normalized
        scaled.append(name)
    if processed:
        logger.warning(
            "Did not normalize %s, as the values look processed already (not integers). "
            "To normalize them anyway, name the layers in `layers_normalize`.",
            ", ".join(processed),
        )
    if scaled:
        logger.info("Normalized count data: %s.", ", ".join(scaled))
    return scaled


def _with_highly_variable(
    result: AnnData, logged: Any, n_top_genes: int, flavor: str, retain_genes: str | Sequence[str] | None
) -> AnnData:
    """Write what is known about the variability of the genes into ``var``."""
    if n_top_genes >= result.n_vars:
        logger.info("Marked all %d genes as highly variable: `n_top_genes` asks for no fewer.", result.n_vars)
        result.var["highly_variable"] = True
        return result
    try:
        import scanpy as sc
    except ImportError as error:
        raise ImportError(
            'Selecting highly variable genes needs scanpy. Install it with `pip install "jaxvelo[tutorial]"`, '
            "or leave out `n_top_genes`."
        ) from error
    table = sc.pp.highly_variable_genes(
        AnnData(logged, var=result.var[[]]), n_top_genes=n_top_genes, flavor=flavor, inplace=False
    )
    for key in ("means", "dispersions", "dispersions_norm", "highly_variable"):
        result.var[key] = table[key].to_numpy()
    result.var["highly_variable"] |= _retained(result, retain_genes)
    logger.info("Marked %d highly variable genes.", int(result.var["highly_variable"].sum()))
    return result


def _lacks_x(adata: AnnData) -> bool:
    """Whether the spliced counts must take the place of X."""
    return "spliced" in adata.layers and (adata.X is None or is_zero(adata.X))


def _take_spliced(result: AnnData) -> None:
    """Put the spliced counts in the place of X."""
    logger.info("Found no counts in X: taking the spliced counts.")
    result.X = result.layers["spliced"].copy()
