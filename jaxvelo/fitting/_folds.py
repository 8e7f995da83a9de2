"""Folds of the training cells, for choices that are made by validation within them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from jaxvelo.fitting._kernel_problem import KernelProblem
from jaxvelo.fitting._split import Groups, Split, class_counts, item_blocks

N_FOLDS = 3


def inner_folds(
    problem: KernelProblem, training: Bool[np.ndarray, " cells"], groups: Groups, n_folds: int = N_FOLDS
) -> list[Split]:
    """Leave out each part of the training cells once: whole groups, or stretches of the graph.

    Groups, or blocks of the training cells where cells are taken as independent
    (:func:`jaxvelo.fitting._cell_blocks.cell_blocks`), are dealt to the folds, those that mostly hold one class one
    after the other, into no more folds than the rarest of these classes has groups. So each fold has its part of each:
    what a fit learns of the shares of the classes would otherwise be wrong for just the groups that are left out. Then
    the choice is about cells unlike those fitted on. Where a class has a single group, such as the only simulation with
    a rare fate, one fold leaves it out: the fit on the others, which has not seen that class, is judged by how it
    predicts it, which speaks for staying with the convention.

    Parameters
    ----------
    problem
        The problem, with the random seed.
    training
        The cells to take apart.
    groups
        Which cells belong together.
    n_folds
        Largest number of folds.

    Returns
    -------
    The folds; none if there are fewer than two groups or blocks.
    """
    # Items of several cells would be torn by blocks.
    has_sets = len(np.unique(groups.number[training])) < training.sum()
    number = item_blocks(problem, training) if groups.are_cells and not has_sets else groups.number
    names = np.unique(number[training])
    if len(names) < 2:
        return []
    main_class = class_counts(problem, training, number).argmax(axis=1)
    of_rarest = np.unique(main_class, return_counts=True)[1].min()
    n_folds = min(n_folds, len(names), of_rarest if of_rarest > 1 else n_folds)
    # At random, then sorted by their class: those of one class come one after the other, in random order.
    order = np.random.default_rng(problem.seed + 1).permutation(len(names))
    order = order[np.argsort(main_class[order], kind="stable")]
    folds = []
    for fold in range(n_folds):
        left_out = training & np.isin(number, names[order[fold::n_folds]])
        folds.append(Split(training & ~left_out, left_out))
    return folds
