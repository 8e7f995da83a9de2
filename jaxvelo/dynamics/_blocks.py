"""Compiled programs over (cells, genes) arrays of any size, in blocks of one shape."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from jaxvelo.graph._blocks import filled_up, on_cpu, stream_rows

# One shape for all data sets: neither memory nor compilation depends on their size. On a CPU, a block of some arrays
# stays in the cache of a processor core; for another device, that would be many transfers of little.
N_CELLS, DEVICE_N_CELLS, N_GENES = 1024, 4096, 32


def in_blocks(
    program: Callable[..., Sequence[jax.Array]],
    genes: Any,
    *arrays: Float[np.ndarray, "cells genes"],
    n_results: int,
) -> list[Float[np.ndarray, "cells genes"]]:
    """Run a program on blocks and put its results together.

    Parameters
    ----------
    program
        Function of what belongs to the genes and of arrays, both of a block, that returns arrays of the same shape.
        Cells and genes must not depend on each other: the last of them are repeated to fill a block.
    genes
        Pytree of arrays whose first axis are the genes.
    arrays
        Arrays of shape (cells, genes).
    n_results
        Number of arrays that the program returns.

    Returns
    -------
    list of numpy.ndarray
        Results of shape (cells, genes), of the type of the first array.
    """
    n_cells, n_genes = arrays[0].shape
    n_at_once = N_CELLS if on_cpu() else DEVICE_N_CELLS
    results = [np.empty((n_cells, n_genes), dtype=arrays[0].dtype) for _ in range(n_results)]
    for first_gene in range(0, n_genes, N_GENES):
        columns = slice(first_gene, first_gene + N_GENES)
        of_genes = jax.tree.map(lambda x, columns=columns: filled_up(np.asarray(x)[columns], N_GENES, 0), genes)
        of_columns = (filled_up(x[:, columns], N_GENES, 1) for x in arrays)
        found = stream_rows(partial(program, of_genes), n_at_once, *of_columns)
        for result, values in zip(results, found, strict=True):
            result[:, columns] = values[:, : n_genes - first_gene]
    return results
