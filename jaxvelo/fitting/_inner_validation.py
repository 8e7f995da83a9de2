"""Fits on parts of the training cells under several restraints, judged by what is left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from jaxvelo.annotated.progress_bar import progress_bar
from jaxvelo.fitting._descent import Descender, Restraint
from jaxvelo.fitting._kernel_problem import KernelProblem
from jaxvelo.fitting._split import Split
from jaxvelo.fitting._starts import starting_points

INNER_STEPS = 15
"""Steps of each of these fits, whatever those of the fit itself, which may go on later: about where the losses of what
is left out no longer change."""


def inner_losses(
    problem: KernelProblem,
    folds: Sequence[Split],
    restraints: Sequence[Sequence[Restraint]],
    descender: Descender,
    description: str,
    progress: bool,
) -> Float[np.ndarray, "restraints folds"]:
    """Loss on the cells that each fold leaves out; infinite where it is not finite.

    Parameters
    ----------
    problem
        The problem.
    folds
        What is fitted on, and left out.
    restraints
        For each fold, the restraints from the tightest to the loosest: each fit begins where the last one ended.
    descender
        How to go down.
    description, progress
        What the bar says, and whether there is one.

    Raises
    ------
    KeyboardInterrupt
        If the user interrupts, which ends the whole search.
    """
    descender = dataclasses.replace(descender, steps=INNER_STEPS)
    losses = np.full((len(restraints[0]), len(folds)), np.inf)
    with progress_bar(losses.size, description, "fits", progress) as bar:
        # One after another and not side by side: they share the program of the fit itself.
        for f, fold in enumerate(folds):
            start = starting_points(problem, 1)
            for i, restraint in enumerate(restraints[f]):
                descent = descender.minimize(problem.problem, start, fold, restraint)
                if not descent.is_ended and descent.state.step[0] < descender.steps:
                    raise KeyboardInterrupt  # which the optimisation took for its own end
                loss = descent.history["validation"][int(descent.state.best_step[0]), 0]
                losses[i, f] = loss if np.isfinite(loss) else np.inf
                if descent.is_finite:
                    start = descent.best_points
                bar.update()
    return losses
