"""How far scales and weights may go from the convention, given or chosen by validation within the training cells."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxvelo.configuration import logger
from jaxvelo.fitting._descent import Descender, Restraint
from jaxvelo.fitting._inner_validation import inner_losses
from jaxvelo.fitting._kernel_problem import KernelProblem
from jaxvelo.fitting._split import Groups, Split

CANDIDATE_PRIORS = (0.1, 0.3, 1.0, 3.0)
"""Standard deviations among which the inner validation chooses, in units of log scales and logits: with the first,
parameters stay where they are; with the last, a scale may be twenty times the automatic one."""
UNCHOSEN = 0.7
"""Where there is nothing to choose by: a scale that is doubled or halved is nothing unusual."""


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
    problem: KernelProblem,
    folds: Sequence[Split],
    groups: Groups,
    descender: Descender,
    outside: float,
    progress: bool,
) -> Prior:
    """Take the narrowest prior that is as good as the best, on parts of the training cells that are left out.

    These are whole groups or stretches of the graph, see :func:`inner_folds`, so that the choice is about cells unlike
    those fitted on. As good as the best is what is worse by no more than the standard error of the difference over the
    folds (the one-standard-error rule, Hastie et al. 2009, section 7.10): in doubt, the convention.

    Raises
    ------
    KeyboardInterrupt
        If the user interrupts, which ends the whole search.
    """
    if not folds:
        logger.warning(
            "Too few training cells to choose `prior` by: using %g. Leave out fewer cells or groups, or pass a `prior`",
            UNCHOSEN,
        )
        return Prior(UNCHOSEN)
    restraints = [
        [Restraint(0.0, prior_factor(deviation, count), outside) for deviation in CANDIDATE_PRIORS]
        for count in (count_independent(problem, groups, fold) for fold in folds)
    ]
    losses = inner_losses(problem, folds, restraints, descender, "Choosing prior", progress)
    mean = losses.mean(axis=1)
    best = int(np.argmin(mean))
    with np.errstate(invalid="ignore"):
        worse = losses - losses[best]
        error = worse.std(axis=1, ddof=1) / np.sqrt(len(folds)) if len(folds) > 1 else np.zeros(len(losses))
        chosen = int(np.argmax(mean - mean[best] <= error))
    candidates = {"candidates": np.asarray(CANDIDATE_PRIORS), "loss": mean, "loss_se": error}
    return Prior(float(CANDIDATE_PRIORS[chosen]), candidates)


def prior_factor(deviation: float, n_observations: float) -> float:
    r"""Factor of the squared distance from the convention in a loss that is the mean of n independent observations.

    .. math:: \frac{1}{2 s^2 n}

    with the standard deviation s.
    """
    return 1 / (2 * deviation**2 * n_observations)


def count_independent(problem: KernelProblem, groups: Groups, split: Split) -> float:
    """Number of independent observations of the training cells: groups, or items where cells are independent."""
    return problem.count_observations(split.training) if groups.are_cells else groups.count(split.training)
