"""Filtering and normalising counts that stay on disk: read two or three times, some rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.arrays import place_of
from jaxvelo.annotated.checksums import checksum
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
from jaxvelo.annotated.disk_arrays import (
    check_readable,
    evenly_spaced,
    identity_of,
    is_on_disk,
    read_in_ranges,
    read_rows,
)
from jaxvelo.annotated.entries import layer_names
from jaxvelo.annotated.layer_files import LayerFile, layer_folder
from jaxvelo.configuration import logger
from jaxvelo.pp._count_layers import COUNT_LAYERS, LAYERS, MEND_COUNTS, initial_size, size_key
from jaxvelo.pp._count_matrices import (
    chosen_to_normalize,
    holds_counts,
    note_logarithms,
    read_counts,
    require_cells_and_genes,
    states_of,
)
from jaxvelo.pp._gene_filter import passing, shared_counts
from jaxvelo.pp._highly_variable_genes import mark_highly_variable, ranked_by_dispersion, sums_of_genes
from jaxvelo.pp._state_of_counts import State

Transform = Callable[[Any, slice], Any]


class Choices(NamedTuple):
    """Arguments of :func:`jaxvelo.pp.filter_and_normalize`, checked."""

    bounds: dict[str, float | None]
    retained: np.ndarray
    targets: list[str]
    n_top_genes: int | None
    subset_highly_variable: bool
    flavor: str
    log: bool
    target: np.ndarray | None
    given: np.ndarray | None
    use_initial_size: bool
    enforce: bool | None


def x_or_counts_on_disk(adata: AnnData) -> bool:
    """Whether X or a layer of counts is to be read in pieces."""
    arrays = [adata.X, *(adata.layers[name] for name in COUNT_LAYERS if name in adata.layers)]
    return any(is_on_disk(array) for array in arrays)


def filtered_on_disk(adata: AnnData, bounds: dict[str, float | None], retained: np.ndarray) -> AnnData:
    """Filter genes as :func:`jaxvelo.pp.filter_genes` does of counts in memory, and write what is left to files.

    Parameters
    ----------
    adata
        Annotated data.
    bounds
        Least and largest numbers, by the names of the arguments.
    retained
        Mask of the genes that are kept in any case.
    """
    matrices, statistics, _ = _counts_of(adata)
    keep = passing(statistics.totals, retained, **bounds)
    states = _states(adata, matrices)
    raw = [name for name, state in states.items() if state.kind == "raw"]
    obs = adata.obs.copy()
    for name in raw:
        obs[size_key(name)] = initial_size(adata, name, statistics.sizes[name])
    genes = np.flatnonzero(keep)
    arrays = {name: adata.layers[name] for name in layer_names(adata)}
    if adata.X is not None:
        arrays["X"] = adata.X
    written = dict(arrays)
    if len(genes) < adata.n_vars:
        folder = layer_folder(list(arrays.values()))
        for name, matrix in arrays.items():
            read = partial(_pieces, matrix, name, is_count=name in matrices)
            origin = ["genes", identity_of(matrix, place_of(name, "layers")), checksum(genes)]
            written[name] = _write(folder, name, read, lambda piece, _: piece[:, genes], matrix, genes, origin)
    return _with_genes(adata, genes, obs, dict(adata.uns), written)


def normalized_on_disk(adata: AnnData, choices: Choices) -> AnnData:
    """Filter genes, normalise cells, mark highly variable genes and take logarithms, as of counts in memory.

    In memory are some numbers of each cell and of each gene, and the rows that are read at a time. What changes is
    written to files, sparse where it was sparse. What X and the layers hold is told from evenly spaced cells.
    """
    matrices, statistics, x_is_spliced = _counts_of(adata, choices.targets)
    if "X" not in matrices:
        raise ValueError("Found neither `adata.X` nor `adata.layers['spliced']`: there are no counts to normalise.")
    keep = passing(statistics.totals, choices.retained, **choices.bounds)

    states = _states(adata, matrices, choices.targets)
    raw, chosen = chosen_to_normalize(states, choices.targets, choices.enforce)
    sizes = {name: initial_size(adata, name, statistics.sizes[name]) for name in dict.fromkeys([*chosen, *raw])}
    obs = adata.obs.copy()
    for name, size in sizes.items():
        obs[size_key(name)] = size

    factors: dict[str, np.ndarray] = {}
    for name in chosen:
        if choices.given is not None:
            size = choices.given
        elif choices.use_initial_size:
            size = sizes[name]
        else:
            size = np.concatenate([cell_sizes(piece[:, keep]) for _, piece in _pieces(matrices[name], name)])
        factors[name] = to_size(size, choices.target)
    if x_is_spliced:
        logger.info("Found no counts in X: taking the spliced counts.")
    if chosen:
        logger.info("Normalized count data: %s.", ", ".join(chosen))

    def scaled(name: str, piece: Any, rows: slice) -> Any:
        return scale_cells(piece, factors[name][rows]) if name in factors else piece

    is_linear = holds_counts(states["X"], "X" in chosen)
    var = adata.var[keep].copy()
    if is_linear or choices.n_top_genes is not None:
        of_x = is_linear or states["X"].kind != "scaled"
        n_counts: list[np.ndarray] = []
        total, squares = np.zeros(len(var)), np.zeros(len(var))
        basis = "X" if of_x else "spliced"
        for rows, piece in _pieces(matrices[basis], basis):
            values = scaled(basis, piece[:, keep], rows)
            n_counts.append(cell_sizes(values))
            logarithms = log1p(values) if is_linear or not of_x else values
            for whole, found in zip((total, squares), sums_of_genes(logarithms, choices.flavor), strict=True):
                whole += found
        if is_linear:
            obs["n_counts"] = np.concatenate(n_counts)
        if choices.n_top_genes is not None:
            mark_highly_variable(
                var,
                lambda n_top: ranked_by_dispersion(total, squares, adata.n_obs, n_top, choices.flavor),
                choices.n_top_genes,
                choices.retained[keep],
            )
    uns = dict(adata.uns)
    takes_logarithm = choices.log and is_linear
    if choices.log:
        note_logarithms(uns, is_linear, states["X"])
    genes = np.flatnonzero(keep)
    if choices.n_top_genes is not None and choices.subset_highly_variable:
        genes = genes[var["highly_variable"].to_numpy()]
        var = var[var["highly_variable"].to_numpy()].copy()

    def transform(name: str, piece: Any, rows: slice) -> Any:
        values = scaled(name, piece[:, genes], rows)
        return log1p(values) if name == "X" and takes_logarithm else values

    written: dict[str, Any] = {}
    arrays = {**{name: adata.layers[name] for name in layer_names(adata)}, "X": matrices["X"]}
    folder = layer_folder(list(arrays.values()))
    for name, matrix in arrays.items():
        changes = name in factors or (name == "X" and (takes_logarithm or x_is_spliced))
        if not changes and len(genes) == adata.n_vars:
            written[name] = matrix
            continue
        factor = checksum(factors[name]) if name in factors else None
        logarithm = name == "X" and takes_logarithm
        origin = ["normalized", identity_of(matrix, place_of(name, "layers")), factor, checksum(genes), logarithm]
        read = partial(_pieces, matrix, name, is_count=name in matrices)
        written[name] = _write(folder, name, read, partial(transform, name), matrix, genes, origin)
    result = _with_genes(adata, genes, obs, uns, written)
    for name in ("means", "dispersions", "dispersions_norm", "highly_variable"):
        if name in var:
            result.var[name] = var[name]
    return result


def _counts_of(adata: AnnData, targets: Sequence[str] = ()) -> tuple[dict[str, Any], _Statistics, bool]:
    """The layers of counts that there are, the ones named, and X; what is counted of them; whether X is of spliced."""
    require_cells_and_genes(adata)
    names = dict.fromkeys([*(name for name in COUNT_LAYERS if name in adata.layers), *targets])
    matrices: dict[str, Any] = {name: adata.layers[name] for name in names}
    if adata.X is not None:
        matrices["X"] = adata.X
    for name, matrix in matrices.items():
        check_readable(matrix, place_of(name, "layers"))
    statistics = _Statistics(matrices, adata.shape)
    x_is_spliced = "spliced" in matrices and statistics.is_zero.get("X", True)
    if x_is_spliced:
        matrices["X"] = matrices["spliced"]
        statistics.sizes["X"] = statistics.sizes["spliced"]
    return matrices, statistics, x_is_spliced


def _states(adata: AnnData, matrices: dict[str, Any], targets: Sequence[str] = ()) -> dict[str, State]:
    """What the matrices hold, told from evenly spaced cells."""
    cells = evenly_spaced(adata.n_obs)
    rows = {name: read_rows(matrix, cells, place_of(name, "layers")) for name, matrix in matrices.items()}
    sample = AnnData(
        rows.pop("X", None),
        obs=adata.obs.iloc[cells],
        var=adata.var[[]],
        uns={"log1p": adata.uns["log1p"]} if "log1p" in adata.uns else {},
        layers=rows,
    )
    return states_of(sample, read_counts(sample, targets))


def _with_genes(
    adata: AnnData, genes: np.ndarray, obs: pd.DataFrame, uns: dict[str, Any], written: dict[str, Any]
) -> AnnData:
    """Annotated data of some of the genes, with other matrices: X, if there is one, and layers."""
    kept = adata.raw
    shell = AnnData(
        obs=obs,
        var=adata.var,
        uns=uns,
        obsm=dict(adata.obsm),
        varm=dict(adata.varm),
        obsp=dict(adata.obsp),
        varp=dict(adata.varp),
        raw=None if kept is None else {"X": kept.X, "var": kept.var, "varm": dict(kept.varm)},
    )
    result = shell[:, genes].copy()
    for name, matrix in written.items():
        if name == "X":
            result.X = matrix
        else:
            result.layers[name] = matrix
    return result


class _Statistics:
    """Sizes of the cells, and counts of the genes, of all matrices; read once, and checked."""

    def __init__(self, matrices: dict[str, Any], shape: tuple[int, int]):
        sizes: dict[str, list[np.ndarray]] = {name: [] for name in matrices}
        self.is_zero = dict.fromkeys(matrices, True)
        counted = [*LAYERS, "shared"] if set(LAYERS) <= set(matrices) else [n for n in LAYERS if n in matrices]
        self._totals = {name: (np.zeros(shape[1]), np.zeros(shape[1], dtype=np.int64)) for name in counted}
        check = partial(_pieces, x_may_be_negative="spliced" in matrices)
        for together in zip(*(check(matrix, name) for name, matrix in matrices.items()), strict=True):
            pieces = {name: piece for name, (_, piece) in zip(matrices, together, strict=True)}
            for name, piece in pieces.items():
                sizes[name].append(cell_sizes(piece))
                self.is_zero[name] &= is_zero(piece)
            for name, (n_counts, n_cells) in self._totals.items():
                piece = shared_counts(*(pieces[key] for key in LAYERS)) if name == "shared" else pieces[name]
                n_counts += np.asarray(piece.sum(axis=0, dtype=np.float64)).ravel()
                n_cells += np.asarray((piece > 0).sum(axis=0)).ravel()
        self.sizes = {name: np.concatenate(of_pieces) for name, of_pieces in sizes.items()}
        self._missing = [name for name in LAYERS if name not in matrices]

    def totals(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Counts of each gene, and the number of cells that have any."""
        if name not in self._totals:
            raise KeyError(
                f"Expected the layers {self._missing} in `adata.layers` to filter genes by them. Read the data from a "
                "file with spliced and unspliced counts, or store them under these keys."
            )
        return self._totals[name]


def _pieces(
    matrix: Any, name: str, is_count: bool = True, x_may_be_negative: bool = True
) -> Iterator[tuple[slice, Any]]:
    """Rows of a matrix, some at a time, checked where they are counts."""
    where = place_of(name, "layers")
    for rows, found in read_in_ranges(matrix, where):
        piece = readable(where, found)
        if name == "X" and x_may_be_negative:
            check_finite(where, piece, MEND_COUNTS)
        elif is_count:
            check_non_negative(where, piece, MEND_COUNTS)
        yield rows, piece


def _write(
    folder: Any,
    name: str,
    read: Callable[[], Iterator[tuple[slice, Any]]],
    transform: Transform,
    matrix: Any,
    genes: np.ndarray,
    origin: Sequence[Any],
) -> Any:
    """Write what is made of the rows of a matrix to a file: sparse if they are."""
    where = place_of(name, "layers")
    example = transform(readable(where, read_rows(matrix, np.arange(1), where)), slice(0, 1))
    n_stored = None
    if sp.issparse(example):
        n_stored = sum(int(sp.csr_matrix(piece[:, genes]).nnz) for _, piece in read())
    layer = LayerFile(folder, name, (matrix.shape[0], len(genes)), example.dtype, list(origin), n_stored)
    if not layer.is_whole:
        try:
            for rows, piece in read():
                if rows.start < layer.position:  # written before
                    continue
                values = transform(piece, rows)
                values = sp.csr_matrix(values) if sp.issparse(values) else values
                layer.write(np.arange(rows.start, rows.stop), values, rows.stop)
        finally:
            layer.close()
    return layer.finish()
