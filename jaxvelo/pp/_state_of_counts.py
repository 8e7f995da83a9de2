"""Raw counts, or processed already? Told from the values themselves, for all layers together.

Counts need not be whole numbers: alevin and kallisto share out molecules that fit several genes, SoupX, CellBender and
decontX subtract what was in the soup. Nor need normalised cells have equal sizes: genes were perhaps left out since.
What remains true is what one molecule is worth. In raw counts it is worth the same in every cell; in normalised ones
it is worth less, the larger the cell was.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import scipy.sparse as sp

from jaxvelo.annotated.counts import cell_sizes, stored_values

Kind = Literal["raw", "normalized", "logarithmized", "scaled", "unknown"]
ADVICE = "To choose otherwise, pass `enforce=True` or `enforce=False` (on the command line `--normalize yes` or `no`)."

# Sizes of cells that differ by less than this (coefficient of variation) have been made equal.
_EQUAL = 0.01
# The logarithm of one plus more counts than a cell has.
MOST_LOGARITHM = 20.0
# The share of whole numbers above which the others are what was shared out or subtracted.
_MANY_WHOLE = 0.5
# In how many cells the small values are how much the same, as differences of logarithms, in raw counts.
_MOST, _ABOUT_THE_SAME = 0.6, 0.2
# Evenly spaced cells that are enough to see what a molecule is worth, and stored values that a cell needs for that.
_MOST_CELLS, _LEAST_CELLS_WITH_VALUES, _LEAST_VALUES = 2000, 10, 5


class State(NamedTuple):
    """What a matrix holds, why one thinks so, and whether the values leave no other reading."""

    kind: Kind
    reason: str
    certain: bool = True


def state_of(matrix: Any, stored_sizes: np.ndarray | None = None) -> State:
    """Tell whether a matrix holds raw counts.

    Parameters
    ----------
    matrix
        Finite values, as :func:`jaxvelo.annotated.counts.readable` returns them.
    stored_sizes
        What is known of the sizes of the cells before genes were left out and cells normalised.
    """
    values = stored_values(matrix)
    values = values[values != 0]
    if not len(values):
        return State("unknown", "there are no counts", certain=False)
    if (values < 0).any():
        return State("scaled", "some values are negative")
    whole = _share_of_whole(values)
    if whole == 1:
        return State("raw", "whole numbers")
    if whole >= _MANY_WHOLE:
        return State("raw", f"{whole:.0%} of the values are whole numbers")
    if _is_equal(cell_sizes(matrix)):
        return State("normalized", "all cells have the same size")
    may_be_logarithms = values.max() <= MOST_LOGARITHM
    if may_be_logarithms:
        if _share_of_whole(np.expm1(values)) >= _MANY_WHOLE:
            return State("logarithmized", "exp(x) - 1 gives whole numbers")
        if _is_equal(cell_sizes(matrix.expm1() if sp.issparse(matrix) else np.expm1(matrix))):
            return State("logarithmized", "exp(x) - 1 gives all cells the same size")

    chosen = slice(None, None, -(-matrix.shape[0] // _MOST_CELLS))
    cells = sp.csr_matrix((matrix.tocsr() if sp.issparse(matrix) else matrix)[chosen])
    if (unit := _common_unit(cells)) is not None:
        if unit > 0:
            return State("raw", f"all cells hold multiples of {unit:.3g}")
        return State("normalized", "each cell holds multiples of a number of its own")
    if may_be_logarithms and _common_unit(cells.expm1()) is not None:
        return State("logarithmized", "exp(x) - 1 gives, in each cell, multiples of one number")
    sizes = None if stored_sizes is None else stored_sizes[chosen]
    trend = _worth_of_a_molecule(cells, sizes)
    if may_be_logarithms and trend >= 0 and _worth_of_a_molecule(cells.expm1(), sizes) < 0:
        return State("logarithmized", "exp(x) - 1 makes a single molecule worth less in large cells", certain=False)
    if trend > 0:
        return State("raw", "a single molecule is worth the same in small and in large cells", certain=False)
    if trend < 0:
        return State("normalized", "a single molecule is worth less in large cells", certain=False)
    return State("unknown", "the values are no whole numbers, and do not tell", certain=False)


def _share_of_whole(values: np.ndarray) -> float:
    """Share of whole numbers, up to errors of rounding, among values that are not zero."""
    if values.dtype.kind in "iub":
        return 1.0
    nearest = np.rint(values)
    return float(np.mean((np.abs(values - nearest) < 1e-3) & (nearest != 0)))


def _is_equal(sizes: np.ndarray) -> bool:
    """Whether all cells that have counts have as many."""
    sizes = sizes[sizes > 0].astype(float)
    return bool(sizes.std() < _EQUAL * sizes.mean())


def _common_unit(cells: sp.csr_matrix) -> float | None:
    """Return the number that the values of all cells are multiples of; 0 if each has its own, None if they have none.

    A cell's number is its smallest value. The largest values say little, because they are rounded.
    """
    filled = np.flatnonzero(np.diff(cells.indptr))
    units = np.ones(cells.shape[0])
    units[filled] = np.minimum.reduceat(cells.data, cells.indptr[filled]) if len(filled) else 1.0
    rows = np.repeat(np.arange(cells.shape[0]), np.diff(cells.indptr))
    multiples = cells.data / units[rows]
    small = multiples < 20.5
    n_small = np.bincount(rows[small], minlength=len(units))
    n_off = np.bincount(rows[small & (np.abs(multiples - np.rint(multiples)) > 0.02)], minlength=len(units))
    telling = n_small >= 3
    fits = telling & (n_off == 0)
    if telling.sum() < 3 or fits.sum() < telling.sum() / 2:
        return None
    logs = np.log(units[fits])
    middle = np.median(logs)
    same = np.mean(np.abs(logs - middle) < 0.02)
    if same >= 0.5:
        return float(np.exp(middle))
    return 0.0 if same < 0.25 else None


def _worth_of_a_molecule(cells: sp.csr_matrix, stored_sizes: np.ndarray | None) -> int:
    """Compare the small values of a cell with those of others: 1 if raw, -1 if normalised, 0 if one cannot tell.

    In raw counts they are about the same in most cells. In normalised ones they go with the inverse of the sequencing
    depth: the slope of their logarithm over that of the depth is -1. For the depth stands the number of genes that a
    cell has, or its stored size where that is another than the present one.
    """
    n_genes = np.diff(cells.indptr)
    rows = np.repeat(np.arange(len(n_genes)), n_genes)
    used = n_genes >= _LEAST_VALUES
    if used.sum() < _LEAST_CELLS_WITH_VALUES:
        return 0
    # A tenth of a cell's values are smaller: the smallest ones may be rests of what was subtracted.
    small = cells.data[np.lexsort((cells.data, rows))][(cells.indptr[:-1] + n_genes // 10)[used]]
    depths = [n_genes[used]]
    if stored_sizes is not None:
        ratio = stored_sizes[used] / cell_sizes(cells)[used]
        if np.isfinite(ratio).all() and ratio.min() > 0 and np.abs(ratio - 1).max() > 1e-3:
            depths.append(stored_sizes[used])
    if any(_falls(small, depth) for depth in depths):
        return -1
    return int(np.mean(np.abs(np.log(small / np.median(small))) < _ABOUT_THE_SAME) >= _MOST)


def _falls(small: np.ndarray, depth: np.ndarray) -> bool:
    """Whether the slope of the logarithms is below -1/2, by two standard errors."""
    x, y = np.log(depth), np.log(small)
    x, y = x - x.mean(), y - y.mean()
    if np.std(x) < 0.02:
        return False
    slope = x @ y / (x @ x)
    error = np.sqrt(np.sum((y - slope * x) ** 2) / (len(x) - 2) / (x @ x))
    return bool(slope + 2 * error < -0.5)


def together(states: Mapping[str, State]) -> dict[str, State]:
    """Decide for layers that belong together: what some of them surely hold, all of them hold.

    Only where the values of one surely say the one thing, and those of another the other, they stay different.
    """
    # That small values shrink with the depth is not seen by chance; that they seem not to may be due to few genes.
    sure = {name for name, state in states.items() if state.certain or state.kind in ("normalized", "logarithmized")}
    voters = [name for name in states if name in sure] or [name for name in states if states[name].kind != "unknown"]
    if len({states[name].kind for name in voters}) == 1:
        example = states[voters[0]]
        others = example._replace(reason=f"as {voters[0]}")
    else:
        others = State("unknown", "the values are no whole numbers, and the other layers do not tell", certain=False)
    return {name: state if name in voters else others for name, state in states.items()}
