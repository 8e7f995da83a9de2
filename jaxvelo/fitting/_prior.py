"""How far scales and weights may go from the convention, given or chosen by validation within the training cells."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
from tqdm import tqdm

from jaxvelo.fitting._descent import Descender, Restraint
from jaxvelo.fitting._folds import inner_folds
from jaxvelo.fitting._kernel_problem import KernelProblem
from jaxvelo.fitting._split import Groups, Split
from jaxvelo.fitting._starts import starting_points

CANDIDATE_PRIORS = (0.1, 0.3, 1.0, 3.0)
"""Standard deviations among which the inner validation chooses, in units of log scales and logits: with the first,
parameters stay where they are; with the last, a scale may be twenty times the automatic one."""
INNER_FOLDS = 3
INNER_STEPS = 50


@dataclasses.dataclass(frozen=True)
class Prior:
    """The prior of log scales and logits of weights, normal about those of the convention.

    Attributes
    ----------
    deviation
        Its standard deviation; infinite if there is none.
    candidates
        How it was chosen: ``"candidates"``, ``"loss"`` of each, and ``"loss_se"``, the standard error of its difference
        from the smallest; empty if it was given.
    """

    deviation: float
    candidates: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


def choose_prior(
    problem: KernelProblem, split: Split, groups: Groups, descender: Descender, outside: float, progress: bool
) -> Prior:
    """Take the narrowest prior that is as good as the best, on parts of the training cells that are left out.

    These are whole groups or stretches of the graph, see :func:`inner_folds`, so that the choice is about cells unlike
    those fitted on. As good as the best is what is worse by no more than the standard error of the difference over the
    folds (the one-standard-error rule, Hastie et al. 2009, section 7.10): in doubt, the convention.

    Raises
    ------
    ValueError
        If there are fewer than two training cells, or groups of them.
    KeyboardInterrupt
        If the user interrupts, which ends the whole search.
    """
    folds = inner_folds(problem, split.training, INNER_FOLDS, groups)
    # So that the choice does not depend on how many steps the fit itself takes before it goes on.
    descender = dataclasses.replace(descender, steps=INNER_STEPS)
    losses = np.full((len(CANDIDATE_PRIORS), len(folds)), np.nan)
    with tqdm(total=losses.size, desc="Choosing prior", disable=not progress, leave=False) as bar:
        # From the narrowest to the widest, each from where the last one ended.
        starts = [starting_points(problem, 1)] * len(folds)
        for (i, deviation), (f, fold) in itertools.product(enumerate(CANDIDATE_PRIORS), enumerate(folds)):
            restraint = Restraint(0.0, prior_factor(problem, deviation, groups, fold), outside)
            descent = descender.minimize(problem.problem, starts[f], fold, restraint)
            if not descent.is_ended and descent.state.step[0] < descender.steps:
                raise KeyboardInterrupt  # which the optimisation took for its own end
            losses[i, f] = descent.history["validation"][int(descent.state.best_step[0]), 0]
            if descent.is_finite:
                starts[f] = descent.best_points
            bar.update()
    losses = np.where(np.isfinite(losses), losses, np.inf)
    mean = losses.mean(axis=1)
    best = int(np.argmin(mean))
    with np.errstate(invalid="ignore"):
        worse = losses - losses[best]
        error = worse.std(axis=1, ddof=1) / np.sqrt(len(folds)) if len(folds) > 1 else np.zeros(len(losses))
        chosen = int(np.argmax(mean - mean[best] <= error))
    candidates = {"candidates": np.asarray(CANDIDATE_PRIORS), "loss": mean, "loss_se": error}
    return Prior(float(CANDIDATE_PRIORS[chosen]), candidates)


def prior_factor(problem: KernelProblem, deviation: float, groups: Groups, split: Split) -> float:
    r"""Factor of the squared distance from the convention in a mean loss.

    .. math:: \frac{c}{2 s^2 n}

    with the standard deviation s, the number n of independent observations that the loss is the mean of, which are the
    groups of the training cells, and the size c of the loss, :attr:`KernelProblem.loss_unit`.
    """
    return problem.loss_unit / (2 * deviation**2 * groups.count(split.training))
