"""The penalty of gene weights, given or chosen by validation within the training cells."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxvelo.configuration import logger
from jaxvelo.fitting._descent import Descender, Restraint
from jaxvelo.fitting._inner_validation import inner_losses
from jaxvelo.fitting._kernel_problem import KernelProblem
from jaxvelo.fitting._split import Split

CANDIDATE_PENALTIES = (0.03, 0.1, 0.3, 1.0, 100.0)
"""Factors of the penalty among which the inner validation chooses; by the last, gene weights stay where they are."""


@dataclasses.dataclass(frozen=True)
class Penalty:
    """A penalty of the gene weights.

    Attributes
    ----------
    factor
        Its factor.
    candidates
        How it was chosen: ``"candidates"``, and ``"loss"`` and ``"loss_se"`` of each; empty if it was given.
    """

    factor: float
    candidates: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


def choose_penalty(
    problem: KernelProblem, folds: Sequence[Split], descender: Descender, restraint: Restraint, progress: bool
) -> Penalty:
    """Take the penalty of the smallest loss on cells held out within the training cells, see :func:`inner_folds`.

    Raises
    ------
    KeyboardInterrupt
        If the user interrupts, which ends the whole search.
    """
    if not folds:
        logger.warning(
            "Too few training cells to choose `penalty` by: using %g, which keeps gene weights at one. Leave out fewer "
            "cells or groups, or pass a `penalty`",
            CANDIDATE_PENALTIES[-1],
        )
        return Penalty(CANDIDATE_PENALTIES[-1])
    tightest_first = [restraint._replace(genes=factor) for factor in CANDIDATE_PENALTIES[::-1]]
    restraints = [tightest_first] * len(folds)
    losses = inner_losses(problem, folds, restraints, descender, "Choosing penalty", progress)[::-1]
    candidates = {
        "candidates": np.asarray(CANDIDATE_PENALTIES),
        "loss": losses.mean(axis=1),
        "loss_se": losses.std(axis=1) / np.sqrt(len(folds)),
    }
    return Penalty(float(CANDIDATE_PENALTIES[int(np.argmin(candidates["loss"]))]), candidates)
