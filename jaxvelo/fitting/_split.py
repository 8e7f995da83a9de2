"""Which cells a kernel is fitted on, which are held out, and which belong together."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from anndata import AnnData
from jaxtyping import Bool, Int

from jaxvelo import fit
from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.cells import chosen_cells
from jaxvelo.annotated.groups import group_codes
from jaxvelo.configuration import logger
from jaxvelo.fitting._cell_blocks import cell_blocks
from jaxvelo.fitting._kernel_problem import KernelProblem

N_BLOCKS = 10
"""Blocks that the cells of an objective are cut into, to be held out or taken as independent."""
HELD_OUT_BLOCKS = 0.2
"""Part of the blocks that is held out."""


class Split(NamedTuple):
    """Masks of cells, disjoint.

    Attributes
    ----------
    training
        The cells that the kernel is fitted on.
    held_out
        The cells on which it is validated; none, if there is no validation.
    """

    training: Bool[np.ndarray, " cells"]
    held_out: Bool[np.ndarray, " cells"]

    @property
    def is_validated(self) -> bool:
        """Whether cells are held out."""
        return bool(self.held_out.any())


@dataclasses.dataclass(frozen=True)
class Groups:
    """Which cells belong together: cells of different groups tell of them independently.

    Attributes
    ----------
    name
        What the groups are: a column of ``adata.obs``, ``"blocks"``, or ``"cells"``: each is its own group, but for
        those that an item of the objective is of together.
    number
        The group of each cell, -1 for cells in none; of those, the objective has no items.
    """

    name: str
    number: Int[np.ndarray, " cells"]

    @property
    def are_cells(self) -> bool:
        """Whether cells are taken as independent."""
        return self.name == "cells"

    def count(self, cells: Bool[np.ndarray, " cells"]) -> int:
        """Number of the groups of some cells."""
        return len(np.unique(self.number[cells]))


def split_cells(problem: KernelProblem, validation: Any, groups: str | None = None) -> tuple[Split, Groups]:
    """Split the cells that the objective has items of, whole groups at a time where there are any.

    A fraction of groups or of blocks is drawn such that each class of the items (:attr:`jaxvelo.fit.Objective.classes`,
    the fates of known fates) is left among the training cells: a group that alone holds a class is not held out.

    Parameters
    ----------
    problem
        The problem, with the random seed for a fraction.
    validation
        ``None``; a fraction of the cells that the objective has items of, or of their groups; ``"blocks"``, for a fifth
        of ten blocks of the graph (:func:`jaxvelo.fitting._cell_blocks.cell_blocks`); or cells.
    groups
        Column of ``adata.obs`` that says which cells belong together.

    Returns
    -------
    The split, and what is independent of each other.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If a fraction is not one, fewer than two cells are held out, or all, a cell with items has no group, or there
        are too few groups.
    """
    known = problem.item_cells()
    n_known = int(known.sum())
    by_blocks = isinstance(validation, str) and validation == "blocks"
    if by_blocks and groups is not None:
        raise ValueError(
            f"Expected either `validation='blocks'` or `groups`, found both (`groups={groups!r}`). Pass a fraction as "
            "`validation` to hold out whole groups."
        )
    if groups is not None:
        together = _groups_of(problem.kernel.adata, groups, known)
    elif by_blocks:
        together = Groups("blocks", item_blocks(problem, known))
    else:
        together = Groups("cells", problem.units)
    if validation is None:
        return Split(known, np.zeros_like(known)), together
    if by_blocks or isinstance(validation, (float, np.floating)):
        fraction = HELD_OUT_BLOCKS if by_blocks else float(validation)
        if not 0 < fraction < 1:
            raise ValueError(f"Expected `validation` to be a fraction between 0 and 1, found `{validation}`.")
        if together.are_cells:
            held_out = _some_units(problem, known, fraction)
            if held_out is None:
                logger.warning(
                    "All items of the objective are of the same cells: none can be held out. Add an objective of "
                    "others, or pass `validation=None`"
                )
                return Split(known, np.zeros_like(known)), together
        else:
            held_out = _whole_groups(problem, known, together, fraction)
    else:
        held_out = chosen_cells(problem.kernel.adata, validation, "validation") & known
        _warn_about_torn_groups(together, held_out, known & ~held_out)
    if held_out.sum() < 2:
        raise ValueError(
            f"Expected at least two validation cells that the objective has items of, found {held_out.sum()} (it has "
            f"items of {n_known} cells). Pass a larger fraction, other cells, or `validation=None`."
        )
    if not (known & ~held_out).any():
        raise ValueError("Expected some cells to fit on, found all of them in `validation`.")
    return Split(known & ~held_out, held_out), together


def item_blocks(problem: KernelProblem, cells: Bool[np.ndarray, " cells"]) -> Int[np.ndarray, " cells"]:
    """Cut cells into blocks of the kernel's graph: the number of each cell's block, -1 for other cells."""
    return cell_blocks(problem.connectivities, cells, N_BLOCKS)


def class_counts(
    problem: KernelProblem, cells: Bool[np.ndarray, " cells"], number: Int[np.ndarray, " cells"]
) -> Int[np.ndarray, "groups classes"]:
    """How many items of each class each group of some cells has; the groups in the order of ``np.unique``.

    Of the first term of the objective with classes; without any, all items are of one class.
    """
    names = np.unique(number[cells])
    for term in fit.terms_of(problem.objective):
        counted = (np.asarray(term.weight) > 0) & cells[np.asarray(term.cell)]
        if term.classes is not None and counted.any():
            cell, known = np.asarray(term.cell)[counted], np.asarray(term.classes)[counted]
            break
    else:
        cell = np.flatnonzero(cells)
        known = np.zeros(len(cell), dtype=int)
    counts = np.zeros((len(names), int(known.max()) + 1), dtype=int)
    np.add.at(counts, (np.searchsorted(names, number[cell]), known), 1)
    return counts


def _groups_of(adata: AnnData, key: str, known: np.ndarray) -> Groups:
    if key in ("cells", "blocks"):
        raise ValueError(
            f"Expected `groups` to be another column of `adata.obs`, found {key!r}, which means each cell or stretch "
            "of the graph for itself. Rename the column."
        )
    names, number = group_codes(adata, key)
    without = np.flatnonzero(known & (number < 0))
    if len(without):
        raise ValueError(
            f"Expected a group in `adata.obs[{key!r}]` for each cell that the objective has items of, found "
            f"{len(without)} without, such as {listed(adata.obs_names[without[:3]])}. Give them one, or leave them out "
            "of the objective."
        )
    found = np.unique(number[known])
    if len(found) < 2:
        raise ValueError(
            f"Expected at least two groups in `adata.obs[{key!r}]` among the cells that the objective has items of, "
            f"found one, {names[found[0]]!r}: nothing can be said about others. Leave `groups` out, and pass "
            "`validation='blocks'` to hold out stretches of the graph."
        )
    return Groups(key, np.where(known, number, -1))


def _some_units(problem: KernelProblem, known: np.ndarray, fraction: float) -> np.ndarray | None:
    """Mask of the cells of a fraction of the units; None if there is only one."""
    first = np.unique(problem.units[known], return_index=True)[1]
    if len(first) < 2:
        return None
    order = np.random.default_rng(problem.seed).permutation(np.flatnonzero(known)[np.sort(first)])
    n_units = len(order)
    # Of cells alone, as many as are asked for, which may be none; of few sets, at least one.
    wanted = round(fraction * n_units) if n_units == known.sum() else max(1, round(fraction * n_units))
    return known & np.isin(problem.units, problem.units[order[:wanted]])


def _whole_groups(problem: KernelProblem, known: np.ndarray, groups: Groups, fraction: float) -> np.ndarray:
    """Mask of the cells of a fraction of the groups, one at least, such that each class is left."""
    names = np.unique(groups.number[known])
    counts = class_counts(problem, known, groups.number)
    wanted, left = max(1, round(fraction * len(names))), counts.sum(axis=0)
    wanted = min(wanted, len(names) - 1)
    chosen: list[int] = []
    for number in np.random.default_rng(problem.seed).permutation(len(names)):
        if len(chosen) < wanted and not ((left > 0) & (left == counts[number])).any():
            left = left - counts[number]
            chosen.append(int(number))
    if len(names) < 2:
        raise ValueError(
            "Expected cells with items in at least two places of the graph, found all in one. Pass a fraction as "
            "`validation`, or `validation=None`."
        )
    if not chosen:
        what = "block of the graph" if groups.name == "blocks" else f"group of `adata.obs[{groups.name!r}]`"
        raise ValueError(
            f"Expected a {what} that can be held out, found that each of the {len(names)} alone holds a fate (a class) "
            "of the objective. Label more of them, say by `validation` which cells to hold out, or pass "
            "`validation=None`."
        )
    return known & np.isin(groups.number, names[chosen])


def _warn_about_torn_groups(groups: Groups, held_out: np.ndarray, training: np.ndarray) -> None:
    both = np.intersect1d(groups.number[held_out], groups.number[training])
    if not groups.are_cells and len(both):
        logger.warning(
            "%d groups of `adata.obs[%r]` have cells both among those held out and among those to fit on: the held-out "
            "cells are not independent of the fit. Hold out whole groups",
            len(both), groups.name,
        )  # fmt: skip
