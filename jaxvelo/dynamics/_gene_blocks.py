"""Genes that are computed at a time on the host, so that memory does not grow with both cells and genes."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Shaped

N_NUMBERS = 2**19
"""Numbers that an array of (cells, genes) may have, 4 MB in double precision, if it is of more than one gene."""


def gene_blocks(n_cells: int, n_genes: int) -> Iterator[slice]:
    """Columns of arrays of shape (cells, genes), some at a time."""
    n_at_once = max(1, N_NUMBERS // max(n_cells, 1))
    return (slice(first, min(first + n_at_once, n_genes)) for first in range(0, n_genes, n_at_once))


def cells_together(values: Shaped[np.ndarray, "cells genes"]) -> Shaped[np.ndarray, "cells genes"]:
    """Hold the values of a gene one after another: a sum over cells does not depend on the genes it is taken with then.

    Where the genes of a cell are one after another, many genes are summed cell by cell, but a single one in pairs.
    """
    return np.asfortranarray(values)
