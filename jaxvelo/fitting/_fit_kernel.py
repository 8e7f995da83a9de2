"""Kernel parameters fitted to an objective."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxvelo import fit
from jaxvelo.annotated.arguments import check_integer, is_number
from jaxvelo.annotated.progress_bar import progress_bar
from jaxvelo.configuration import logger, timed
from jaxvelo.fitting._change import change_by_fit
from jaxvelo.fitting._descent import Descender, Descent, Restraint, continued
from jaxvelo.fitting._doubts import doubtful_labels, doubts
from jaxvelo.fitting._fit_result import FitResult
from jaxvelo.fitting._folds import inner_folds
from jaxvelo.fitting._kernel_problem import KernelProblem, check_kernel_and_objective, objective_name
from jaxvelo.fitting._penalty import Penalty, choose_penalty
from jaxvelo.fitting._prior import CANDIDATE_PRIORS, Prior, choose_prior, count_independent, prior_factor
from jaxvelo.fitting._resumption import check_same_restraints, checked_state
from jaxvelo.fitting._scores import as_doubles, gains_of, item_losses, scores_of
from jaxvelo.fitting._split import Groups, Split, split_cells
from jaxvelo.fitting._starts import starting_points
from jaxvelo.kernels import KernelExpression

OUTSIDE = 30.0
"""Factor of the mean square change of what is predicted of the cells of which the items tell nothing: a change of 0.01
costs as much as 0.003 of the loss."""


def fit_kernel(
    kernel: KernelExpression,
    objective: fit.Loss,
    *,
    train: Mapping[str, Any] | Sequence[str] | None = None,
    optimizer: optax.GradientTransformation | None = None,
    steps: int = 200,
    validation: Any = 0.2,
    groups: str | None = None,
    penalty: float | None = None,
    prior: float | None = None,
    outside: float = OUTSIDE,
    starts: int | Sequence[Mapping[str, Any]] | None = None,
    patience: int | None = 50,
    seed: int = 0,
    progress: bool = True,
    resume: FitResult | None = None,
) -> FitResult:
    r"""Fit softmax scales, kernel weights, numbers of kernels and gene weights to what is known, by gradient descent.

    The kernel itself stays as it is. A fit starts from the automatic softmax scale and the weights of the kernel.

    Parameters
    ----------
    kernel
        A computed kernel or combination of kernels.
    objective
        What to make small, from :mod:`jaxvelo.objectives`.
    train
        What to fit: names, or a dictionary that says how they differ among cells,

        - ``"scale"``: the softmax scale; one (``True``), one for the cells of which the objective's items tell
          something and one for the others (``"apart"``, and if only named), one for each level of a key in
          ``adata.obs``, or a smooth function on the graph (``"smooth"``);
        - ``"weights"``: of the terms of each sum, likewise;
        - ``"numbers"``: of other kernels, one for all cells (``True``): ``b`` and ``nu`` of a soft
          :class:`~jaxvelo.kernels.PseudotimeKernel`, ``conn_weight`` of a :class:`~jaxvelo.kernels.RealTimeKernel`;
        - ``"gene_weights"``: in the similarity, with a penalty that keeps them ``"near_one"`` (``True``) or makes them
          ``"sparse"``, see :class:`jaxvelo.fit.Parametrization`.

        Scale, weights and numbers if ``None``, as far as the kernel has them. What is not fitted stays as it is in the
        kernel.
    optimizer
        Any optax optimiser; :func:`jaxvelo.fit.quasi_newton` if ``None``, which learns the curvature of the loss and
        ends by itself. Parameters are logarithms of scales and gene weights, and logits of weights.
    steps
        Largest number of steps, each of one loss and its gradient; with ``resume``, those done before included.
    validation
        Cells to hold out: a fraction of the cells that the objective has items of, drawn with ``seed``; ``"blocks"``,
        for whole stretches of the neighbour graph, two of about ten; cells, as indices, names, a mask or ``{"clusters":
        "Beta"}``; or ``None``. Then nothing is said about whether the fitted kernel is better: it always is on the
        cells that it was fitted on.
    groups
        Column of ``adata.obs`` that says which cells belong together, such as those of a donor, a batch, a clone or a
        simulation: cells of one group resemble each other, and say little about other groups. Then whole groups are
        held out, a fraction ``validation`` of them, and groups, not cells, are taken as independent in what is chosen
        by validation and in standard errors. A group that alone holds one of the known fates is not held out.
    penalty
        Factor of the penalty of the gene weights; chosen by validation within the training cells if ``None``.
    prior
        Standard deviation of the normal prior of log scales and logits of weights about those of the convention: 0.7
        takes a doubled scale for usual, 0.1 nearly keeps the convention, infinity is none. If ``None``, the narrowest
        that does as well as the best on groups, or stretches of the graph, that are left out of the training cells.
    outside
        Labels tell of the cells that chains from the labelled cells visit, and nothing of others, such as those before
        the first labels. There, what is predicted (fates, or future sets) is to stay as by the convention: the factor
        of its mean square change in the loss. Zero does not hold it.
    starts
        Number of starts: from the kernel's weights, from equal weights, and further ones at random around these. Or
        where to start, as dictionaries with ``"softmax_scale"`` and ``"weights"`` (of the terms, or of the first of
        two); what is left out is as in the kernel. They are optimised side by side, and that of the smallest training
        loss is taken. ``None``: one; two if a weight of the kernel that is fitted is below 0.15, from where the way may
        end in a local minimum, unless gene weights are fitted too.
    patience
        Stop after so many steps without an improvement of the loss by 0.01 %; never if ``None``.
    seed
        Random seed, of everything: the same seed gives the same result.
    progress
        Whether to show a progress bar.
    resume
        A result to go on from, of the same kernel, objective and arguments; the same result then as in one go. That
        its parameters still have the losses that they had is checked: other data are an error.

    Returns
    -------
    The fitted kernel, its parameters and how it compares on held-out cells, see :class:`FitResult`. A
    KeyboardInterrupt ends the optimisation early, with the best of what was reached; while the penalty is being chosen,
    it ends the call.

    Raises
    ------
    ValueError
        If an argument is not one of the above, there are fewer than two validation cells, terminal cells cannot be
        reached, or the loss is not finite at the start. If it stops being finite later, a warning names step and
        parameters, and the best ones before it are kept.
    TypeError
        If ``resume`` is no result of a fit.

    Examples
    --------
    >>> objective = jv.objectives.FateLikelihood(adata, "true_fate", "term_states_fwd")
    >>> train = ["scale", "weights", "gene_weights"]
    >>> result = jv.tl.fit_kernel(kernel, objective, train=train, penalty=0.1, prior=3.0, steps=5)
    >>> result.scores["training"] < result.scores["training_convention"]
    True
    """
    descender = Descender.checked(optimizer, steps, patience)
    check_integer("seed", seed, least=0)
    if penalty is not None and not (is_number(penalty) and np.isfinite(penalty) and penalty >= 0):
        raise ValueError(f"Expected `penalty` to be finite and not negative, or None, found `{penalty}`.")
    if resume is not None and not isinstance(resume, FitResult):
        raise TypeError(f"Expected `resume` to be a result of `fit_kernel`, found `{type(resume).__name__}`.")
    if prior is not None and not (is_number(prior) and prior > 0):
        raise ValueError(f"Expected `prior` to be a positive standard deviation, or None, found `{prior!r}`.")
    if not (is_number(outside) and np.isfinite(outside) and outside >= 0):
        raise ValueError(f"Expected `outside` to be finite and not negative, found `{outside!r}`.")
    check_kernel_and_objective(kernel, objective)
    with timed(f"Fitting kernel to `{objective_name(objective)}`"):
        problem = KernelProblem.of(kernel, objective, train, int(seed), keeps_outside=outside > 0)
        losses_before, outlooks_before = item_losses(problem.problem, problem.start)
        problem = problem.keeping(outlooks_before)
        if resume is None:
            split, together = split_cells(problem, validation, groups)
        else:
            split, together = Split(resume.training, resume.validation), Groups(resume.groups, resume.group)
            check_same_restraints(resume, prior, penalty, outside, groups)
        needs_folds = (prior is None and problem.has_prior) or (penalty is None and problem.has_gene_weights)
        folds = inner_folds(problem, split.training, together) if needs_folds and resume is None else []
        if prior is not None or not problem.has_prior:
            deviation = Prior(float(np.inf if prior is None else prior))
        elif resume is not None:
            deviation = Prior(resume.prior, resume.priors)
        else:
            deviation = choose_prior(problem, folds, together, descender, outside, progress)
            logger.info("Using `prior=%g` for scales and weights", deviation.deviation)
        factor = prior_factor(deviation.deviation, count_independent(problem, together, split))
        restraint = Restraint(0.0, factor, outside)
        if penalty is not None or not problem.has_gene_weights:
            chosen = Penalty(float(penalty or 0.0))
        elif resume is not None:
            chosen = Penalty(resume.penalty, resume.penalties)
        else:
            chosen = choose_penalty(problem, folds, descender, restraint, progress)
            logger.info("Using `penalty=%g` for gene weights", chosen.factor)
        first = starting_points(problem, starts)
        state = None if resume is None else checked_state(resume, first, problem, descender.optimizer)
        with _bar(descender.steps, progress, "Fitting") as report:
            restraint = restraint._replace(genes=chosen.factor)
            descent = descender.minimize(problem.problem, first, split, restraint, state, report)
        descent = continued(descent, None if resume is None else resume.history)
        return _result(
            problem, split, together, deviation, chosen, restraint, descent, as_doubles(losses_before), outlooks_before
        )


def _result(
    problem: KernelProblem,
    split: Split,
    groups: Groups,
    prior: Prior,
    penalty: Penalty,
    restraint: Restraint,
    descent: Descent,
    losses_before: Sequence[np.ndarray],
    outlooks_before: Sequence[Any],
) -> FitResult:
    """What was found, compared with losses of items and outlooks by the convention."""
    _warn_about_failures(problem, descent)
    best = descent.best
    losses_after, outlooks_after = item_losses(problem.problem, best)
    losses_after = as_doubles(losses_after)
    scores = scores_of(problem.objective, split, groups, losses_before, losses_after)
    if not split.is_validated:
        logger.warning(
            "No cells were held out (`validation=None`): the loss on the training cells does not tell whether the "
            "fitted kernel is better"
        )
    errors: dict[str, np.ndarray] = {}
    if problem.has_errors:
        # A prior that was chosen narrow pulls, but does not know: the errors are those that the widest one leaves.
        # That items of a group depend on each other is in the clustered errors: here, each is one observation.
        deviation = CANDIDATE_PRIORS[-1] if prior.candidates else prior.deviation
        wide = prior_factor(deviation, problem.count_observations(split.training))
        covariance, _ = fit.laplace_covariance(problem.problem, best, split.training, wide, restraint.outside)
        covariance = jax.device_put(covariance.astype(jnp.result_type(float)))
        errors = problem.named(*fit.standard_errors(problem.problem, best, covariance))
        if not groups.are_cells:
            clustered = fit.clustered_covariance(problem.problem, best, split.training, groups.number, covariance)
            clustered = jax.device_put(clustered.astype(covariance.dtype))
            by_group = problem.named(*fit.standard_errors(problem.problem, best, clustered))
            errors = {name: np.asarray(np.maximum(error, by_group[name])) for name, error in errors.items()}
    parameters, convention, fitted = (
        problem.readable(best),
        problem.readable(problem.start),
        problem.fitted_kernel(best),
    )
    change = change_by_fit(problem, fitted, outlooks_before, outlooks_after)
    doubtful = doubtful_labels(problem.objective, problem.connectivities, outlooks_before)
    gains = gains_of(losses_before, losses_after)
    said = doubts(problem, split, groups, parameters, convention, gains, scores, change, doubtful)
    for doubt in said:
        logger.warning("%s", doubt)
    return FitResult(
        kernel=fitted,
        objective=problem.name,
        parameters=parameters,
        convention=convention,
        standard_errors=errors,
        levels=problem.levels,
        genes=problem.gene_names(parameters),
        history=descent.history,
        scores=scores,
        training=split.training,
        validation=split.held_out,
        groups=groups.name,
        group=groups.number,
        outside=restraint.outside,
        prior=prior.deviation,
        priors=prior.candidates,
        changed=change.quantity,
        change=change.size,
        fates=change.fates,
        fate_names=change.fate_names,
        doubtful=doubtful,
        doubts=said,
        penalty=penalty.factor,
        penalties=penalty.candidates,
        start=descent.start,
        step=descent.step,
        failed=np.asarray(descent.state.failed),
        state=descent.state,
    )


def _warn_about_failures(problem: KernelProblem, descent: Descent) -> None:
    """Log the starts whose loss was not finite, or raise a ValueError if no loss was finite."""
    for number, step, parameters in descent.failures():
        wrong = problem.readable(parameters)
        shown = {name: value.round(4).tolist() for name, value in wrong.items() if not name.startswith("gene_weights")}
        why = problem.problem.why_not_finite(jax.device_put(parameters))
        reason = f" {why}" if why else ""
        where = f"the loss or its gradient is not finite at step {step}, with {shown}"
        if not descent.is_finite:
            raise ValueError(
                f"Expected a finite loss, found that {where}.{reason} Check the objective, or start elsewhere by "
                "`starts`."
            )
        logger.warning("Start %d: %s.%s Keeping the best parameters before it", number, where, reason)


@contextlib.contextmanager
def _bar(steps: int, progress: bool, description: str) -> Iterator[Any]:
    """Show a progress bar; gives the function that moves it."""
    with progress_bar(steps, description, "steps", progress, leave=True) as bar:

        def report(done: int, history: fit.LossHistory) -> None:
            bar.n = done
            bar.set_postfix(loss=f"{np.nanmin(history.loss[-1]):.4f}" if np.isfinite(history.loss[-1]).any() else "-")

        yield report
        if bar.n:  # it may have ended by itself
            bar.total = bar.n
            bar.refresh()
