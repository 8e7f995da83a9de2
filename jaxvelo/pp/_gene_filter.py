"""Which genes have enough counts, and not too many."""

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.arguments import is_number
from jaxvelo.configuration import logger
from jaxvelo.pp._count_layers import LAYERS, read_layer


def passing(
    totals: Callable[[str], tuple[np.ndarray, np.ndarray]], retained: np.ndarray, **bounds: float | None
) -> np.ndarray:
    """Mask of the genes whose counts are within the bounds, or that are retained.

    ``totals`` gives, for ``"spliced"``, ``"unspliced"`` or ``"shared"``, how many counts each gene has, in how many
    cells.
    """
    for name, bound in bounds.items():
        if bound is not None and (not is_number(bound) or np.isnan(bound)):
            raise ValueError(f"Expected `{name}` to be a number or None, found `{bound!r}`.")
    n_vars = len(retained)
    keep = np.ones(n_vars, dtype=bool)
    for name, prefix, suffix in (("spliced", "", ""), ("unspliced", "", "_u"), ("shared", "shared_", "")):
        least_counts, least_cells = bounds.get(f"min_{prefix}counts{suffix}"), bounds.get(f"min_{prefix}cells{suffix}")
        most_counts, most_cells = bounds.get(f"max_{prefix}counts{suffix}"), bounds.get(f"max_{prefix}cells{suffix}")
        if least_counts is least_cells is most_counts is most_cells is None:
            continue
        n_counts, n_cells = totals(name)
        passed, words = np.ones(n_vars, dtype=bool), []
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
        raise ValueError(f"None of the {n_vars} genes passes the filter ({given}). Change the bounds.")
    return keep


def totals_of_genes(adata: AnnData, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Counts of each gene in a layer, or of those shared by both, and the number of cells that have any."""
    matrix = shared_counts(*(read_layer(adata, key) for key in LAYERS)) if name == "shared" else read_layer(adata, name)
    n_counts, n_cells = (np.asarray(m.sum(axis=0)).ravel() for m in (matrix, matrix > 0))
    return n_counts, n_cells


def shared_counts(spliced: Any, unspliced: Any) -> Any:
    """Spliced plus unspliced counts, where both are there."""
    # As floats, because the sum of two small integers may not fit into their type.
    spliced, unspliced = (sp.csr_matrix(counts, dtype=float) for counts in (spliced, unspliced))
    return (spliced + unspliced).multiply((spliced > 0).multiply(unspliced > 0)).tocsr()
