"""Filter genes, normalise cells, mark highly variable genes, under scVelo's names."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.arguments import check_integer, is_number, listed
from jaxvelo.annotated.counts import (
    cell_sizes,
    check_finite,
    check_non_negative,
    is_zero,
    log1p,
    readable,
    scale_cells,
    to_size,
)
from jaxvelo.annotated.entries import layer_names, read_numbers, require_anndata
from jaxvelo.annotated.names import is_name, places_by_name
from jaxvelo.annotated.order import aligned
from jaxvelo.configuration import accepts_data, logger
from jaxvelo.pp._count_layers import (
    COUNT_LAYERS,
    LAYERS,
    MEND_COUNTS,
    initial_size,
    read_layer,
    report,
    size_key,
    states_of_layers,
    stored_size,
)
from jaxvelo.pp._highly_variable_genes import FLAVORS, highly_variable_genes
from jaxvelo.pp._in_place import replace_content, require_in_memory
from jaxvelo.pp._state_of_counts import MOST_LOGARITHM, State, state_of


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
    """Keep the genes with enough counts, and not too many.

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
        If ``adata`` is not in memory, counts are negative or not finite, a bound is no number, or no gene is left.
    """
    counts = _read(require_anndata(adata))
    keep = _passing(
        adata,
        _retained(adata, retain_genes),
        min_counts=min_counts,
        min_cells=min_cells,
        max_counts=max_counts,
        max_cells=max_cells,
        min_counts_u=min_counts_u,
        min_cells_u=min_cells_u,
        max_counts_u=max_counts_u,
        max_cells_u=max_cells_u,
        min_shared_counts=min_shared_counts,
        min_shared_cells=min_shared_cells,
    )
    states = _states(adata, counts)
    raw = [name for name, state in states.items() if state.kind == "raw"]
    sizes = {name: initial_size(adata, name, counts.of(name)) for name in raw}
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
    """
    require_anndata(adata)
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
    counts = _read(adata, targets)
    if counts.x is None:
        raise ValueError("Found neither `adata.X` nor `adata.layers['spliced']`: there are no counts to normalise.")
    retained = _retained(adata, retain_genes)
    keep = _passing(
        adata,
        retained,
        min_counts=min_counts,
        min_counts_u=min_counts_u,
        min_cells=min_cells,
        min_cells_u=min_cells_u,
        min_shared_counts=min_shared_counts,
        min_shared_cells=min_shared_cells,
    )
    states = _states(adata, counts)
    raw = [name for name, state in states.items() if state.kind == "raw"]
    if enforce is None:
        _report(states)
        chosen = [name for name in ("X", *targets) if name in raw]
    else:
        chosen = [name for name in ("X", *targets) if enforce and (name != "X" or states["X"].kind != "scaled")]
    if states["X"].kind == "scaled":
        logger.warning("Left X as it is, as it is scaled: %s. Genes are chosen by spliced counts.", states["X"].reason)
    sizes = {name: initial_size(adata, name, counts.of(name)) for name in dict.fromkeys([*chosen, *raw])}

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

    is_linear = "X" in chosen or states["X"].kind == "raw" or (states["X"].kind == "normalized" and states["X"].certain)
    if is_linear:
        result.obs["n_counts"] = cell_sizes(kept["X"])
    logarithms = log1p(kept["X"]) if is_linear else kept["X"]
    if n_top_genes is not None:
        # Scaled values have lost what makes one gene vary more than another.
        basis = log1p(kept["spliced"]) if states["X"].kind == "scaled" else logarithms
        _mark_highly_variable(result, basis, n_top_genes, flavor, retained[keep])
    if log:
        _put_logarithms(result, logarithms if is_linear else None, states["X"])
    if n_top_genes is not None and subset_highly_variable:
        result = result[:, result.var["highly_variable"].to_numpy()].copy()
    if copy:
        return result
    replace_content(adata, result)
    return None


class _Counts(NamedTuple):
    """The matrices as they are read, checked: layers by name, and X, in whose place the spliced counts may stand."""

    layers: dict[str, Any]
    x: Any
    x_is_spliced: bool

    def of(self, name: str) -> Any:
        """Return a layer, or X."""
        return self.x if name == "X" else self.layers[name]


def _read(adata: AnnData, names: Iterable[str] = ()) -> _Counts:
    """Read the layers of counts that there are, the ones named, and X."""
    require_in_memory(adata)
    if 0 in adata.shape:
        raise ValueError(f"Expected cells and genes in `adata`, found {adata.n_obs} cells and {adata.n_vars} genes.")
    there = [name for name in COUNT_LAYERS if name in adata.layers]
    layers = {name: read_layer(adata, name) for name in dict.fromkeys([*there, *names])}
    if not set(LAYERS) <= set(layers):
        logger.warning("Did not find spliced and unspliced counts in `adata.layers`: velocities will not be possible.")
    x = None if adata.X is None else readable("adata.X", adata.X)
    if "spliced" not in layers:
        if x is not None:
            check_non_negative("adata.X", x, MEND_COUNTS)
        return _Counts(layers, x, x_is_spliced=False)
    if x is None or is_zero(x):
        return _Counts(layers, layers["spliced"], x_is_spliced=True)
    check_finite("adata.X", x, MEND_COUNTS)
    return _Counts(layers, x, x_is_spliced=False)


def _states(adata: AnnData, counts: _Counts) -> dict[str, State]:
    """Tell what the layers of counts hold, together, and what X holds, which may be something else."""
    layers = {name: matrix for name, matrix in counts.layers.items() if name in COUNT_LAYERS}
    states = states_of_layers(adata, layers)
    if counts.x is None:
        return states
    if counts.x_is_spliced or _is_sum_of(counts.x, layers):
        own = states["spliced"]
    else:
        own = state_of(counts.x, stored_size(adata, "X"))
        if own.kind == "raw" and not own.certain and counts.x.max() <= MOST_LOGARITHM:
            # Nearly always, X holds logarithms where its values are so small and no whole numbers.
            own = State("unknown", "the values are small and no whole numbers, as logarithms are", certain=False)
    if "log1p" in adata.uns:
        if own.kind in ("raw", "normalized") and own.certain:
            logger.warning("Found `adata.uns['log1p']`, as if X were logarithmized, but it is not: %s.", own.reason)
        elif not own.certain and counts.x.max() <= MOST_LOGARITHM:
            own = State("logarithmized", "as `adata.uns['log1p']` says")
    return states | {"X": own}


def _report(states: dict[str, State]) -> None:
    """Say in the log for what X and the layers are taken."""
    x = states["X"]
    layers = {name: state for name, state in states.items() if name != "X"}
    if {state.kind for state in layers.values()} == {x.kind}:
        report({"X": x, **layers})
        return
    report(layers)
    if x.kind == "logarithmized":
        logger.info("Took X for logarithmized: %s.", x.reason)
    elif x.kind != "scaled":
        report({"X": x})


def _is_sum_of(x: Any, layers: dict[str, Any]) -> bool:
    """Whether X holds the spliced counts, or these and the unspliced ones together."""
    sizes = cell_sizes(x)
    for names in (("spliced",), LAYERS):
        if not set(names) <= set(layers):
            continue
        if np.allclose(sum(cell_sizes(layers[name]).astype(float) for name in names), sizes, rtol=1e-4):
            difference = sum(
                (sp.csr_matrix(layers[name], dtype=float) for name in names), -sp.csr_matrix(x, dtype=float)
            )
            if abs(difference).max() <= 1e-5 * x.max():
                return True
    return False


def _passing(adata: AnnData, retained: np.ndarray, **bounds: float | None) -> np.ndarray:
    """Mask of the genes whose counts are within the bounds, or that are retained."""
    for name, bound in bounds.items():
        if bound is not None and (not is_number(bound) or np.isnan(bound)):
            raise ValueError(f"Expected `{name}` to be a number or None, found `{bound!r}`.")
    keep = np.ones(adata.n_vars, dtype=bool)
    for name, prefix, suffix in (("spliced", "", ""), ("unspliced", "", "_u"), ("shared", "shared_", "")):
        least_counts, least_cells = bounds.get(f"min_{prefix}counts{suffix}"), bounds.get(f"min_{prefix}cells{suffix}")
        most_counts, most_cells = bounds.get(f"max_{prefix}counts{suffix}"), bounds.get(f"max_{prefix}cells{suffix}")
        if least_counts is least_cells is most_counts is most_cells is None:
            continue
        matrix = _shared_counts(adata) if name == "shared" else read_layer(adata, name)
        n_counts, n_cells = (np.asarray(m.sum(axis=0)).ravel() for m in (matrix, matrix > 0))
        passed, words = np.ones(adata.n_vars, dtype=bool), []
        for number, least, most, unit in (
            (n_counts, least_counts, most_counts, "counts"),
            (n_cells, least_cells, most_cells, "cells"),
        ):
            if least is not None:
                passed &= number >= least
                words.append(f"fewer than {least} {unit}")
            if most is not None:
                passed &= number <= most
                words.append(f"more than {most} {unit}")
        dropped = int(np.sum(keep & ~(passed | retained)))
        keep &= passed | retained
        if dropped:
            logger.info("Filtered out %d genes with %s (%s).", dropped, " or ".join(words), name)
    if not keep.any():
        given = ", ".join(f"{name}={bound}" for name, bound in bounds.items() if bound is not None)
        raise ValueError(f"None of the {adata.n_vars} genes passes the filter ({given}). Change the bounds.")
    return keep


def _shared_counts(adata: AnnData) -> Any:
    """Spliced plus unspliced counts, where both are there."""
    # As floats, because the sum of two small integers may not fit into their type.
    spliced, unspliced = (sp.csr_matrix(read_layer(adata, name), dtype=float) for name in LAYERS)
    return (spliced + unspliced).multiply((spliced > 0).multiply(unspliced > 0)).tocsr()


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


def _mark_highly_variable(
    result: AnnData, logarithms: Any, n_top_genes: int, flavor: str, retained: np.ndarray
) -> None:
    """Write what is known about the variability of the genes into ``var``."""
    if n_top_genes >= result.n_vars:
        logger.info("Marked all %d genes as highly variable: `n_top_genes` asks for no fewer.", result.n_vars)
        result.var["highly_variable"] = True
        return
    table = highly_variable_genes(logarithms, n_top_genes, flavor)
    for key in table:
        result.var[key] = table[key].to_numpy()
    result.var["highly_variable"] |= retained
    marked = int(result.var["highly_variable"].sum())
    if marked < n_top_genes:
        logger.warning(
            "Marked %d highly variable genes, fewer than the %d of `n_top_genes`: the others cannot be compared with "
            "genes of a similar mean.",
            marked,
            n_top_genes,
        )
    else:
        logger.info("Marked %d highly variable genes.", marked)


def _put_logarithms(result: AnnData, logarithms: Any, state: State) -> None:
    """Replace X by its logarithm, unless that cannot be or has been done."""
    if logarithms is not None:
        result.X = logarithms
        result.uns["log1p"] = {"base": None}  # scanpy's sign that X is logarithmised
        logger.info("Logarithmized X.")
    elif state.kind == "logarithmized":
        logger.info("Did not logarithmize X, as it is logarithmized already: %s.", state.reason)
    elif state.kind != "scaled":
        logger.warning("Did not logarithmize X, as it looks processed already. To do so, call `sc.pp.log1p(adata)`.")
