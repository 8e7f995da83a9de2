"""Expression and velocity, read from AnnData."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from jax.sharding import NamedSharding, PartitionSpec

from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.arrays import place_of, read_array
from jaxvelo.annotated.checksums import checksum
from jaxvelo.annotated.genes import chosen_genes, velocity_genes
from jaxvelo.configuration import logger
from jaxvelo.graph import NeighborGraph
from jaxvelo.graph._aligned import empty_aligned, is_aligned
from jaxvelo.graph._buckets import next_size
from jaxvelo.transitions import Features

LARGE = 1 << 29
"""Bytes from which on an array is not padded, as compiling a program for its very shape takes less than a copy. If it
is aligned (:mod:`jaxvelo.graph._aligned`), of the right type, and all its genes are in use, it is used where it is.
Kernels read others in blocks (:mod:`jaxvelo.annotated.features_in_blocks`)."""


class FeatureData:
    """Expression and velocity on the genes that are used.

    Large arrays are not copied where that can be: while these data are in use, such arrays must not be changed.

    Parameters
    ----------
    adata
        Annotated data.
    attr
        ``"layers"`` or ``"obsm"``.
    xkey, vkey
        Keys of expression and velocity.
    gene_subset
        Key in ``adata.var``, boolean mask or names of the genes; ``adata.var["{vkey}_genes"]`` if there is one and
        this is ``None``.

    Attributes
    ----------
    name
        Name that tells these features from others of the same data.
    genes
        Names of the genes; of features in ``adata.obsm``, their numbers.
    x, v
        The arrays, shape ``(cells, genes)``, in the floating-point type that JAX uses.
    """

    def __init__(
        self,
        adata: AnnData,
        attr: str = "layers",
        xkey: str | None = "Ms",
        vkey: str | None = "velocity",
        gene_subset: str | Sequence[str] | np.ndarray | None = None,
    ):
        x, v = read_array(adata, xkey, attr), read_array(adata, vkey, attr)
        places = place_of(xkey, attr), place_of(vkey, attr)
        check_together(x, v, *places)
        if attr == "obsm" and gene_subset is not None:
            logger.warning("`gene_subset` is for layers, not for `adata.obsm`. Using all features")
            gene_subset = None
        genes = None if attr == "obsm" else selected_genes(adata, vkey, gene_subset, x.shape[1])
        columns = np.arange(x.shape[1]) if genes is None else np.flatnonzero(genes)
        names = np.arange(x.shape[1]) if attr == "obsm" else adata.var_names.to_numpy()
        self._take(x, v, columns, names, places, name_of_features(attr, xkey, vkey, gene_subset, genes))

    @classmethod
    def of_arrays(
        cls, x: Any, v: Any, columns: np.ndarray, names: np.ndarray, places: tuple[str, str], name: str
    ) -> FeatureData:
        """Those of some columns of arrays that were read from two places before, with the names of all columns."""
        data = cls.__new__(cls)
        data._take(x, v, columns, names, places, name)
        return data

    def _take(self, x: Any, v: Any, columns: np.ndarray, names: np.ndarray, places: tuple[str, str], name: str) -> None:
        dtype = np.dtype(jnp.result_type(float))
        padded_v = _padded_columns(v, columns, dtype)
        valid = _valid_genes(padded_v[: v.shape[0], : len(columns)], places[1])
        if not valid.all():
            columns = columns[valid]
            padded_v = _padded_columns(v, columns, dtype)
        padded_x = _padded_columns(x, columns, dtype)
        self.genes = names[columns]
        n_cells, n_genes = x.shape[0], len(columns)
        self._padded = padded_x, padded_v
        self.x, self.v = padded_x[:n_cells, :n_genes], padded_v[:n_cells, :n_genes]
        _check_expression(padded_x, places[0])
        self.name = name

    @property
    def n_genes(self) -> int:
        """Number of genes."""
        return self.x.shape[1]

    @property
    def dtype(self) -> np.dtype:
        """Type of the arrays."""
        return self.x.dtype

    def features(self, pad: bool = True, graph: NeighborGraph | None = None, shared: bool = False) -> Features:
        """Arrays for the device.

        Parameters
        ----------
        pad
            Whether to pad them to sizes of a ladder, so that data sets of similar size share programs.
        graph
            Graph whose devices get them; the default device if ``None``.
        shared
            Whether these devices share them as the graph says, see :attr:`NeighborGraph.halo
            <jaxvelo.graph.NeighborGraph.halo>`; otherwise each gets all.
        """
        x, v = self._padded if pad else (np.ascontiguousarray(self.x), np.ascontiguousarray(self.v))
        is_padded = pad and x.shape != self.x.shape
        n_genes = np.asarray(self.x.shape[1], np.int32) if is_padded or (pad and x.nbytes < LARGE) else None
        mesh = None if graph is None else graph.pattern.mesh
        everywhere = None if mesh is None else NamedSharding(mesh, PartitionSpec())
        if shared and graph is not None and graph.halo is not None:
            return Features.on_devices(x, v, graph.halo, jax.device_put(n_genes, everywhere))
        return jax.device_put(Features(x, v, n_genes), everywhere)  # type: ignore[arg-type]


def check_together(x: Any, v: Any, x_place: str, v_place: str) -> None:
    """Raise a ValueError unless expression and velocity are numbers, and of the same shape."""
    for array, place in ((x, x_place), (v, v_place)):
        if np.dtype(array.dtype).kind not in "fiub":
            raise ValueError(
                f"Expected numbers in `{place}`, found the type {array.dtype}. Convert them, or pass another key."
            )
    if x.shape != v.shape:
        raise ValueError(
            f"Expected expression and velocity of the same shape, found {x.shape} in `{x_place}` and {v.shape} in "
            f"`{v_place}`. Pass keys that belong together."
        )


def name_of_features(attr: str, xkey: str | None, vkey: str | None, gene_subset: Any, genes: np.ndarray | None) -> str:
    """Name that tells features from others of the same data; ``genes`` is the mask of those that were chosen."""
    is_default = attr == "layers" and gene_subset is None
    name = vkey if is_default and xkey == "Ms" and vkey is not None else f"{attr}:{xkey}:{vkey}"
    return name if is_default or genes is None else f"{name}:{checksum(genes):08x}"


def _valid_genes(v: np.ndarray, where: str) -> np.ndarray:
    """Return which genes have finite velocities in all cells; at least 2 must."""
    with np.errstate(invalid="ignore", over="ignore"):
        valid = np.isfinite(v.sum(axis=0))
    if valid.all() and len(valid) >= 2:
        return valid
    valid = np.isfinite(v).all(axis=0)
    check_valid(valid, ~np.isfinite(v).any(axis=1), where)
    return valid


def check_valid(valid: np.ndarray, empty: np.ndarray, where: str) -> None:
    """Raise a ValueError unless 2 genes are valid, which names cells without any value; say how many others are not."""
    n_valid = int(np.count_nonzero(valid))
    if n_valid < 2:
        numbers = np.flatnonzero(empty)
        cells = f" Cells {listed(numbers, 5)} have no finite velocity at all: remove them." if len(numbers) else ""
        raise ValueError(
            f"Expected at least 2 genes with finite velocities in `{where}`, found {n_valid} of {len(valid)}.{cells} "
            "Otherwise choose other genes, or compute the velocities anew."
        )
    if n_valid < len(valid):
        n_invalid = len(valid) - n_valid
        logger.warning("Leaving out %d genes whose velocity in `%s` is not finite in all cells", n_invalid, where)


def selected_genes(adata: AnnData, vkey: str | None, subset: Any, n_genes: int) -> np.ndarray | None:
    """Boolean mask of the chosen genes, ``None`` for all."""
    if n_genes != adata.n_vars:
        raise ValueError(f"Expected {adata.n_vars} genes, found {n_genes}.")
    if subset is not None:
        return chosen_genes(adata, subset, "gene_subset")
    # Not every tool that comes here has an argument for genes; all take those that are marked.
    remedy = f"Compute velocities anew, or mark genes in `adata.var['{vkey}_genes']` by true and false."
    marked = velocity_genes(adata, vkey, remedy)
    if marked is not None and not marked.any():
        raise ValueError(
            f"Expected `adata.var['{vkey}_genes']` to choose some of the {adata.n_vars} genes, found none. {remedy}"
        )
    return marked


def is_large_copy(array: Any, n_genes: int, dtype: np.dtype) -> bool:
    """Whether so many of the genes of an array are a copy for the device, and a large one."""
    if array.shape[0] * n_genes * dtype.itemsize < LARGE:
        return False
    is_all = isinstance(array, np.ndarray) and array.dtype == dtype and n_genes == array.shape[1]
    return not (is_all and is_aligned(array))


def _padded_columns(array, columns: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Copy the columns into an array of a size of the ladder, padded by zeros, which the device can use as it is.

    A large array is not padded; it is returned itself if the device can use it.
    """
    n_cells, n_genes = array.shape[0], len(columns)
    is_large = n_cells * n_genes * dtype.itemsize >= LARGE
    if is_large and not is_large_copy(array, n_genes, dtype):
        return array
    padded = empty_aligned((n_cells, n_genes) if is_large else (next_size(n_cells), next_size(n_genes)), dtype)
    if not isinstance(array, np.ndarray):
        padded[:n_cells, :n_genes] = in_type(sp.csr_matrix(array)[:, columns], dtype).toarray()
    elif array.dtype == dtype and n_genes:
        # Whole rows at once, with the first column in place of the padding: many times faster than a part of each row.
        repeated = np.concatenate([columns, np.full(padded.shape[1] - n_genes, columns[0])])
        np.take(array, repeated, axis=1, out=padded[:n_cells], mode="clip")
    else:
        padded[:n_cells, :n_genes] = in_type(np.take(array, columns, axis=1), dtype)
    padded[:, n_genes:] = 0
    padded[n_cells:] = 0
    return padded


def in_type(values: Any, dtype: np.dtype) -> Any:
    """The values in the type in which they are used; what is too large for it is infinite there."""
    with np.errstate(over="ignore"):
        return values.astype(dtype, copy=False)


def surely_finite(values: np.ndarray) -> bool:
    """Whether the sum of values is finite, so that all are; found without an array of booleans as large as theirs."""
    with np.errstate(invalid="ignore", over="ignore"):
        return bool(np.isfinite(values.sum()))


def _check_expression(x: np.ndarray, where: str) -> None:
    if not surely_finite(x) and not np.isfinite(x).all():
        cells, genes = np.nonzero(~np.isfinite(x))
        raise ValueError(
            f"Expected finite expression in `{where}`, found {len(cells)} values that are not, the first in cell "
            f"{cells[0]}. Compute the moments anew, or remove these genes or cells ({len(set(genes))} genes, "
            f"{len(set(cells))} cells)."
        )
