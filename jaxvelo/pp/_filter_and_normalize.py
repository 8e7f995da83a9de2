"""Filter genes, normalise cells, mark highly variable genes, under scVelo's names."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from jaxvelo.annotated.arguments import check_integer, listed
from jaxvelo.annotated.counts import (
    cell_sizes,
    log1p,
    scale_cells,
    to_size,
)
from jaxvelo.annotated.disk_arrays import require_no_copy
from jaxvelo.annotated.entries import layer_names, read_numbers, require_anndata
from jaxvelo.annotated.names import is_name, places_by_name
from jaxvelo.annotated.order import aligned
from jaxvelo.configuration import accepts_data, logger
from jaxvelo.pp._count_layers import (
    COUNT_LAYERS,
    initial_size,
    size_key,
)
from jaxvelo.pp._count_matrices import chosen_to_normalize, holds_counts, note_logarithms, read_counts, states_of
from jaxvelo.pp._gene_filter import passing, totals_of_genes
from jaxvelo.pp._highly_variable_genes import FLAVORS, highly_variable_genes, mark_highly_variable
from jaxvelo.pp._in_place import replace_content
from jaxvelo.pp._normalize_on_disk import Choices, filtered_on_disk, normalized_on_disk, x_or_counts_on_disk


@accepts_data
def filter_genes(
    adata: AnnData,
    min_counts: float | None = None,
    min_cells: float | None = None,
    max_counts: float | None = None,
    max_cells: float | None = None,
    min_counts_u: float | None = None,
    min_cells_u: float | None = None,
    max_counts_u: float | None = None,
    max_cells_u: float | None = None,
    min_shared_counts: float | None = None,
    min_shared_cells: float | None = None,
    retain_genes: str | Iterable[str] | None = None,
    copy: bool = False,
) -> AnnData | None:
    r"""Keep the genes with enough counts, and not too many.

    Spliced counts of gene :math:`g` are :math:`\sum_i s_{ig}` over the cells, unspliced ones :math:`\sum_i u_{ig}`, and
    shared ones :math:`\sum_{i: s_{ig} > 0, u_{ig} > 0} (s_{ig} + u_{ig})`.

    Counts that are on disk stay there: they are read some rows at a time, and what is left is written to files of its
    own, all layers of them, sparse where they were sparse.

    Parameters
    ----------
    adata
        Counts in ``adata.layers["spliced"]`` and ``["unspliced"]``, and in ``adata.X``.
    min_counts, min_cells, max_counts, max_cells
        Least and largest number of spliced counts, and of cells with any. The bounds themselves pass.
    min_counts_u, min_cells_u, max_counts_u, max_cells_u
        The same for unspliced counts.
    min_shared_counts, min_shared_cells
        The same for the spliced and unspliced counts together, of the cells that have both.
    retain_genes
        Names of genes to keep in any case. Names that no gene has are left out with a warning; where several genes
        have one name, all of them are kept.
    copy
        Return a filtered copy and leave ``adata`` as it is.

    Returns
    -------
    anndata.AnnData or None
        The copy if ``copy``. Otherwise ``adata`` itself has fewer genes. The sizes of the cells before the filter, of
        what holds raw counts, are in ``.obs["initial_size"]``, ``["initial_size_spliced"]`` and
        ``["initial_size_unspliced"]``. Sizes that are there already are kept, unless they cannot be those of these
        counts, which is a warning.

    Raises
    ------
    KeyError
        If a layer is missing, or all retained genes are.
    ValueError
        If ``adata`` is backed by a file as anndata opens it, counts are negative or not finite, a bound is no number,
        or no gene is left.
    OSError
        If layers on disk cannot be read or written.

    Examples
    --------
    >>> jv.pp.filter_genes(counts, min_shared_counts=100)
    >>> counts.shape
    (150, 20)
    """
    require_no_copy(require_anndata(adata), copy)
    bounds = {
        "min_counts": min_counts,
        "min_cells": min_cells,
        "max_counts": max_counts,
        "max_cells": max_cells,
        "min_counts_u": min_counts_u,
        "min_cells_u": min_cells_u,
        "max_counts_u": max_counts_u,
        "max_cells_u": max_cells_u,
        "min_shared_counts": min_shared_counts,
        "min_shared_cells": min_shared_cells,
    }
    if x_or_counts_on_disk(adata):
        replace_content(adata, filtered_on_disk(adata, bounds, _retained(adata, retain_genes)))
        return None
    counts = read_counts(adata)
    keep = passing(partial(totals_of_genes, adata), _retained(adata, retain_genes), **bounds)
    states = states_of(adata, counts)
    raw = [name for name, state in states.items() if state.kind == "raw"]
    sizes = {name: initial_size(adata, name, cell_sizes(counts.of(name))) for name in raw}
    result = adata[:, keep].copy()
    for name, size in sizes.items():
        result.obs[size_key(name)] = size
    if copy:
        return result
    replace_content(adata, result)
    return None


@accepts_data
def filter_and_normalize(
    adata: AnnData,
    min_counts: float | None = None,
    min_counts_u: float | None = None,
    min_cells: float | None = None,
    min_cells_u: float | None = None,
    min_shared_counts: float | None = None,
    min_shared_cells: float | None = None,
    n_top_genes: int | None = None,
    retain_genes: str | Iterable[str] | None = None,
    subset_highly_variable: bool = True,
    flavor: str = "seurat",
    log: bool = True,
    layers_normalize: str | Iterable[str] | None = None,
    copy: bool = False,
    *,
    counts_per_cell_after: float | np.ndarray | None = None,
    counts_per_cell: str | np.ndarray | None = None,
    use_initial_size: bool = True,
    enforce: bool | None = None,
) -> AnnData | None:
    r"""Filter genes, normalise cells, find highly variable genes, and log-transform ``X``.

    Each of ``X``, spliced, unspliced and, where there are any, ambiguous is scaled per cell to the median size,
    :math:`x_{ig} \leftarrow x_{ig} \operatorname{median}_j(n_j) / n_i`, where :math:`n_i` is the number of counts of
    cell :math:`i` in that matrix before the filter. Without ``X``, or if it is all zero, the spliced counts take its
    place.

    What is normalised already stays as it is. Whether the layers are, is decided for all of them at once and said in
    the log: raw counts need be no whole numbers, as ambient RNA may have been subtracted or molecules shared out among
    genes, but a molecule is worth the same in all their cells. See ``enforce`` to decide yourself. ``X`` may hold
    something else than the layers: scaled values (some are negative) stay as they are, with a warning, and genes are
    then chosen by the spliced counts.

    Counts that are on disk, as :func:`jaxvelo.read` gives them with ``backed=True``, stay there: they are read some
    rows at a time, and what changes is written to files of its own, sparse where it was sparse. Values are those of
    counts in memory to the last bit.

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
        ``"seurat"`` or ``"cell_ranger"``, the dispersion of :func:`scanpy.pp.highly_variable_genes`. Only genes
        that are expressed are chosen.
    log
        Whether to replace ``X`` by :math:`\log(1 + x)`, unless it is logarithmised or scaled already. The layers are
        never logarithmised.
    layers_normalize
        Layers to normalise in place of these, ``"all"`` for all layers. They, and ``X``, are normalised whatever they
        look like, unless ``enforce`` says otherwise. Names that no layer has are left out with a warning.
    copy
        Return a copy and leave ``adata`` as it is.
    counts_per_cell_after
        Size to scale the cells to, one number or one for each cell, in place of the median size.
    counts_per_cell
        Sizes of the cells, or the column of ``adata.obs`` with them, in place of the numbers of counts.
    use_initial_size
        Whether the sizes are those before the filter, or those of the genes that are left.
    enforce
        True normalises whatever the values look like, False normalises nothing, None decides by the values.

    Returns
    -------
    anndata.AnnData or None
        The copy if ``copy``. Otherwise ``adata`` itself is changed: ``X``, the layers, ``.obs["initial_size"]``,
        ``["initial_size_spliced"]``, ``["initial_size_unspliced"]`` (of what held raw counts, before the filter),
        ``.obs["n_counts"]`` (of ``X`` before the logarithm; not if it was logarithmised or scaled already); with
        ``n_top_genes`` also ``.var["highly_variable"]``, ``["means"]``, ``["dispersions"]``, ``["dispersions_norm"]``.
        A view becomes an AnnData of its own; its parent stays as it is.

    Raises
    ------
    KeyError
        If a layer is missing, or all retained genes or all layers to normalise are.
    ValueError
        If ``adata`` is not in memory, counts are negative or not finite, no gene is left, an argument is out of range,
        or some layers are logarithmised and others are not.

    Notes
    -----
    Equal to scVelo 0.3.4, with the selection and logarithm of its versions before 0.3. Other than there, whether a
    matrix holds raw counts is not judged by whether five cells hold whole numbers, ambiguous counts are normalised with
    the others, and ``enforce=False`` is an order.

    Examples
    --------
    >>> jv.pp.filter_and_normalize(counts, min_shared_counts=20, n_top_genes=10)
    >>> counts.shape, "log1p" in counts.uns
    ((150, 10), True)
    """
    require_no_copy(require_anndata(adata), copy)
    if flavor not in FLAVORS:
        raise ValueError(f"Expected `flavor` to be one of {FLAVORS}, found `{flavor!r}`.")
    if n_top_genes is not None:
        check_integer("n_top_genes", n_top_genes, 1)
    target = None if counts_per_cell_after is None else _per_cell(adata, counts_per_cell_after, "counts_per_cell_after")
    if isinstance(counts_per_cell, str):
        remedy = "Pass the key of a column with the sizes of the cells, or the sizes, as `counts_per_cell`."
        counts_per_cell = read_numbers(adata.obs, counts_per_cell, "adata.obs", remedy)
    given = None if counts_per_cell is None else _per_cell(adata, counts_per_cell, "counts_per_cell")
    if enforce is None and layers_normalize is not None:
        enforce = True

    targets = _layers_to_normalize(adata, layers_normalize)
    bounds = {
        "min_counts": min_counts,
        "min_counts_u": min_counts_u,
        "min_cells": min_cells,
        "min_cells_u": min_cells_u,
        "min_shared_counts": min_shared_counts,
        "min_shared_cells": min_shared_cells,
    }
    if x_or_counts_on_disk(adata):
        choices = Choices(
            bounds,
            _retained(adata, retain_genes),
            targets,
            n_top_genes,
            subset_highly_variable,
            flavor,
            log,
            target,
            given,
            use_initial_size,
            enforce,
        )
        replace_content(adata, normalized_on_disk(adata, choices))
        return None
    counts = read_counts(adata, targets)
    if counts.x is None:
        raise ValueError("Found neither `adata.X` nor `adata.layers['spliced']`: there are no counts to normalise.")
    retained = _retained(adata, retain_genes)
    keep = passing(partial(totals_of_genes, adata), retained, **bounds)
    states = states_of(adata, counts)
    raw, chosen = chosen_to_normalize(states, targets, enforce)
    sizes = {name: initial_size(adata, name, cell_sizes(counts.of(name))) for name in dict.fromkeys([*chosen, *raw])}

    result = adata[:, keep].copy()
    for name, size in sizes.items():
        result.obs[size_key(name)] = size
    kept = {name: counts.of(name)[:, keep] for name in ("X", *counts.layers)}
    for name in chosen:
        size = given if given is not None else sizes[name] if use_initial_size else cell_sizes(kept[name])
        kept[name] = scale_cells(kept[name], to_size(size, target))
        if name != "X":
            result.layers[name] = kept[name]
    if counts.x_is_spliced:
        logger.info("Found no counts in X: taking the spliced counts.")
    if counts.x_is_spliced or "X" in chosen:
        result.X = kept["X"]
    if chosen:
        logger.info("Normalized count data: %s.", ", ".join(chosen))

    is_linear = holds_counts(states["X"], "X" in chosen)
    if is_linear:
        result.obs["n_counts"] = cell_sizes(kept["X"])
    logarithms = log1p(kept["X"]) if is_linear else kept["X"]
    if n_top_genes is not None:
        # Scaled values have lost what makes one gene vary more than another.
        basis = log1p(kept["spliced"]) if states["X"].kind == "scaled" else logarithms
        rank = partial(highly_variable_genes, basis, flavor=flavor)
        mark_highly_variable(result.var, rank, n_top_genes, retained[keep])
    if log:
        if is_linear:
            result.X = logarithms
        note_logarithms(result.uns, is_linear, states["X"])
    if n_top_genes is not None and subset_highly_variable:
        result = result[:, result.var["highly_variable"].to_numpy()].copy()
    if copy:
        return result
    replace_content(adata, result)
    return None


def _retained(adata: AnnData, retain_genes: str | Iterable[str] | None) -> np.ndarray:
    """Mask of the genes to be kept in any case."""
    names: list[Any] = [] if retain_genes is None else [retain_genes] if is_name(retain_genes) else list(retain_genes)
    mask = np.zeros(adata.n_vars, dtype=bool)
    mask[_present(names, adata.var_names, "retain_genes", "adata.var_names")] = True
    return mask


def _present(names: list[str], known: pd.Index, argument: str, where: str) -> list[int]:
    """Return the places of names, all of one that is there several times; absent ones are a warning.

    It is an error if none is there.
    """
    found = places_by_name(known, names)
    absent = [name for name, places in found if not places]
    if absent and len(absent) == len(names):
        raise KeyError(
            f"Expected the names in `{argument}` to be in `{where}`, did not find {listed(absent)}. "
            f"There are {listed(known, 5)}. Name some of these, or leave the argument out."
        )
    if absent:
        logger.warning("Leaving out of `%s` what is not in `%s`: %s.", argument, where, listed(absent))
    return list(dict.fromkeys(place for _, places in found for place in places))


def _layers_to_normalize(adata: AnnData, layers_normalize: str | Iterable[str] | None) -> list[str]:
    """Names of the layers to normalise, apart from X."""
    if layers_normalize is None:
        return [name for name in COUNT_LAYERS if name in adata.layers]
    known = layer_names(adata)
    names = [layers_normalize] if isinstance(layers_normalize, str) else list(layers_normalize)
    names = known if names == ["all"] else [name for name in names if name != "X"]
    places = _present(names, pd.Index(known, dtype=object), "layers_normalize", "adata.layers")
    return [known[place] for place in places]


def _per_cell(adata: AnnData, value: Any, name: str) -> np.ndarray:
    """Check one positive number, or one for each cell, zero for cells without counts."""
    numbers = aligned(value, adata.obs_names, name) if isinstance(value, pd.Series) else np.asarray(value)
    if numbers.dtype.kind not in "iuf" or numbers.shape not in ((), (adata.n_obs,)):
        raise ValueError(
            f"Expected `{name}` to be a number or {adata.n_obs} numbers, one for each cell, "
            f"found the type {numbers.dtype} and the shape {numbers.shape}."
        )
    if not (np.isfinite(numbers).all() and (numbers >= 0).all() and (numbers > 0).any()):
        raise ValueError(f"Expected `{name}` to be positive and finite, found {listed(np.atleast_1d(numbers), 5)}.")
    return np.broadcast_to(numbers, (adata.n_obs,))
