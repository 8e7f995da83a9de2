"""Kernel parameters fitted to an objective."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from jaxvelo import fit
from jaxvelo.annotated.arguments import check_integer, is_number
from jaxvelo.configuration import logger, timed
from jaxvelo.fitting._fit_result import FitResult
from jaxvelo.fitting._kernel_problem import KernelProblem, check_kernel_and_objective, split_cells
from jaxvelo.graph import full_precision, worker_threads
from jaxvelo.kernels import KernelExpression

# One object, as a compiled program belongs to an optimiser.
ADAM = optax.adam(0.1)
PENALTIES = (0.1, 0.3, 1.0, 3.0, 100.0)
"""Factors of the penalty among which the inner validation chooses; by the last, gene weights stay where they are."""
INNER_FOLDS = 3
SMALL_WEIGHT = 0.15
"""Share of a term in a sum below which a fit starts from equal weights too."""
ROUGHNESS = 0.01
"""Factor of the penalty of parameters that are smooth functions on the graph, for the coefficients of all but the
constant."""
RESUME_TOLERANCE = 1e-4
"""Largest difference of two losses of the same parameters, relative to the mean size of the losses of the items; above
zero, as devices round differently."""


def fit_kernel(
    kernel: KernelExpression,
    objective: fit.Loss,
    *,
    train: Mapping[str, Any] | Sequence[str] | None = None,
    optimizer: optax.GradientTransformation | None = None,
    steps: int = 200,
    validation: Any = 0.2,
    penalty: float | None = None,
    starts: int | Sequence[Mapping[str, Any]] | None = None,
    patience: int | None = 50,
    seed: int = 0,
    progress: bool = True,
    resume: FitResult | None = None,
) -> FitResult:
    r"""Fit softmax scales, kernel weights and gene weights to what is known, by gradient descent.

    The kernel itself stays as it is. A fit starts from the automatic softmax scale and the weights of the kernel.

    Parameters
    ----------
    kernel
        A computed kernel or combination of kernels.
    objective
        What to make small, from :mod:`jaxvelo.objectives`.
    train
        What to fit: names, or a dictionary that says how they differ among cells,

        - ``"scale"``: the softmax scale; one (``True``), one for each level of a key in ``adata.obs``, or a smooth
          function on the graph (``"smooth"``);
        - ``"weights"``: of the terms of each sum, likewise;
        - ``"gene_weights"``: in the similarity, with a penalty that keeps them ``"near_one"`` (``True``) or makes them
          ``"sparse"``, see :class:`jaxvelo.fit.Parametrization`.

        Scale and weights if ``None``, as far as the kernel has them. What is not fitted stays as it is in the kernel.
    optimizer
        Any optax optimiser; Adam with learning rate 0.1 if ``None``. Parameters are logarithms of scales and gene
        weights, and logits of weights.
    steps
        Number of steps; with ``resume``, those done before included.
    validation
        Cells to hold out: a fraction of the cells that the objective has items of, drawn with ``seed``; or cells, as
        indices, names, a mask or ``{"clusters": "Beta"}``; or ``None``. Then nothing is said about whether the fitted
        kernel is better: it always is on the cells that it was fitted on.
    penalty
        Factor of the penalty of the gene weights; chosen by validation within the training cells if ``None``.
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
    """
    check_integer("steps", steps, least=1)
    check_integer("seed", seed, least=0)
    if patience is not None:
        check_integer("patience", patience, least=1)
    if penalty is not None and not (is_number(penalty) and np.isfinite(penalty) and penalty >= 0):
        raise ValueError(f"Expected `penalty` to be finite and not negative, or None, found `{penalty}`.")
    optimizer = ADAM if optimizer is None else optimizer
    if not isinstance(optimizer, optax.GradientTransformation):
        raise TypeError(
            "Expected `optimizer` to be an optax optimiser, such as `optax.adam(0.1)`, found "
            f"`{type(optimizer).__name__}`."
        )
    if resume is not None and not isinstance(resume, FitResult):
        raise TypeError(f"Expected `resume` to be a result of `fit_kernel`, found `{type(resume).__name__}`.")
    check_kernel_and_objective(kernel, objective)
    with timed(f"Fitting kernel to `{_name(objective)}`"):
        setup = KernelProblem.of(kernel, objective, train, jax.random.key(int(seed)))
        if resume is None:
            training, held_out = split_cells(setup, validation, seed)
        else:
            training, held_out = resume.training, resume.validation
        has_genes = "gene_weights" in setup.problem.parametrization.train
        inner: dict[str, np.ndarray] = {}
        if has_genes and penalty is None:
            if resume is None:
                inner = _inner_validation(setup, training, optimizer, steps, patience, seed, progress)
                penalty = float(inner["candidates"][np.argmin(inner["loss"])])
                logger.info("Using `penalty=%g` for gene weights", penalty)
            else:
                inner, penalty = resume.penalties, resume.penalty
        factor = float(penalty or 0.0)
        first = _starts(setup, starts, seed)
        n_starts = len(jax.tree.leaves(first)[0])
        runs = _runs([(training, held_out)] * n_starts, [factor] * n_starts)
        state = None if resume is None else _checked_state(resume, first, setup)
        with worker_threads(1) as submit, _bar(steps, progress, "Fitting") as report:
            # Compiled while the fit itself is.
            before = submit(_item_losses, setup.problem, setup.start)
            if setup.has_errors:
                submit(_covariance, setup.problem, setup.start, training)
            state, history = fit.minimize(
                setup.problem, first, runs, optimizer, steps, patience, state=state, report=report
            )
            losses_before = before.result()
        recorded = {name: np.asarray(part) for name, part in history._asdict().items()}
        if resume is not None:
            recorded = {name: np.concatenate([resume.history[name], part]) for name, part in recorded.items()}
        # The last scan of steps goes on, without effect, after all starts have stopped.
        failed = np.asarray(state.failed)
        n_steps = int(np.max(np.where(failed >= 0, failed + 1, np.asarray(state.step))))
        recorded = {name: part[:n_steps] for name, part in recorded.items()}
        return _result(setup, state, recorded, losses_before, training, held_out, factor, inner, seed)


def _inner_validation(setup, training, optimizer, steps, patience, seed, progress) -> dict[str, np.ndarray]:
    """Loss of each candidate for the penalty on cells held out within the training cells."""
    cells = np.random.default_rng(seed + 1).permutation(np.flatnonzero(training))
    n_folds = min(INNER_FOLDS, len(cells))
    if n_folds < 2:
        raise ValueError(
            f"Expected at least two training cells to choose `penalty` by, found {len(cells)}. Pass a `penalty`."
        )
    start = _starts(setup, 1, seed)
    losses = np.full((len(PENALTIES), n_folds), np.nan)
    n_cells = len(training)
    with tqdm(total=losses.size, desc="Choosing penalty", disable=not progress, leave=False) as bar:
        # One after another and not side by side: they share the program of the fit itself.
        for (i, factor), fold in ((c, f) for c in enumerate(PENALTIES) for f in range(n_folds)):
            inner = np.zeros(n_cells, dtype=bool)
            inner[cells[fold::n_folds]] = True
            runs = _runs([(training & ~inner, inner)], [factor])
            state, history = fit.minimize(setup.problem, start, runs, optimizer, steps, patience)
            if state.failed[0] < 0 and not state.stalled[0] and state.step[0] < steps:
                raise KeyboardInterrupt  # which the optimisation took for its own end
            losses[i, fold] = history.validation[int(state.best_step[0]), 0]
            bar.update()
    losses = np.where(np.isfinite(losses), losses, np.inf)
    return {
        "candidates": np.asarray(PENALTIES),
        "loss": losses.mean(axis=1),
        "loss_se": losses.std(axis=1) / np.sqrt(n_folds),
    }


def _runs(masks: Sequence[tuple[np.ndarray, np.ndarray]], factors: Sequence[float]) -> fit.Run:
    dtype = jnp.result_type(float)
    training, held_out = (np.stack(sets).astype(dtype) for sets in zip(*masks, strict=True))
    rough = np.full(len(factors), ROUGHNESS, dtype)
    return jax.device_put(fit.Run(training, held_out, np.asarray(factors, dtype), rough))  # type: ignore[arg-type]


def _starts(setup: KernelProblem, starts: Any, seed: int) -> fit.Parameters:
    """Start parameters; a leading axis counts the starts. On the host: each small step would be compiled."""
    first: fit.Parameters = jax.tree.map(np.asarray, setup.start)
    if starts is None:
        # From a very small weight, the way down may end in a local minimum.
        starts = 2 if any(share < SMALL_WEIGHT for share in setup.shares()) and not first.log_gene_weights else 1
    if isinstance(starts, (int, np.integer)) and not isinstance(starts, bool):
        check_integer("starts", starts, least=1)
        rng = np.random.default_rng(seed + 2)
        equal: Any = tuple(map(np.zeros_like, first.weight_logits))
        points = [first, fit.Parameters(first.log_scales, equal, first.log_gene_weights)][: int(starts)]
        for _ in range(int(starts) - len(points)):
            scales, weights = jax.tree.map(lambda leaf: leaf + rng.normal(size=leaf.shape), (first.log_scales, equal))
            points.append(fit.Parameters(scales, weights, first.log_gene_weights))
    elif isinstance(starts, Sequence) and not isinstance(starts, str) and len(starts):
        points = [_start_at(first, point) for point in starts]
    else:
        raise ValueError(f"Expected `starts` to be a number or a list of dictionaries, found `{starts!r}`.")
    return jax.tree.map(lambda own, *leaves: jax.device_put(np.stack(leaves).astype(own.dtype)), first, *points)


def _start_at(first: fit.Parameters, point: Mapping[str, Any]) -> fit.Parameters:
    if not isinstance(point, Mapping):
        raise ValueError(f"Expected each of `starts` to be a dictionary, found `{point!r}`.")
    unknown = set(point) - {"softmax_scale", "weights"}
    if unknown:
        raise ValueError(f"Expected a start with 'softmax_scale' and 'weights', found {sorted(unknown)}.")

    def at_scale(leaf):
        value = point["softmax_scale"]
        if not is_number(value) or not (np.isfinite(value) and value > 0):
            raise ValueError(f"Expected a positive `softmax_scale` to start from, found `{value}`.")
        return leaf + (np.log(value) - leaf[0])

    def at_weights(leaf):
        weights = np.atleast_1d(np.asarray(point["weights"], dtype=np.float64))
        if weights.shape == (1,):
            weights = np.array([weights[0], 1 - weights[0]])
        if weights.shape != (leaf.shape[1] + 1,) or not (np.isfinite(weights).all() and (weights > 0).all()):
            raise ValueError(
                f"Expected {leaf.shape[1] + 1} positive weights to start from, found `{point['weights']}`."
            )
        return leaf + (np.log(weights[:-1] / weights[-1]) - leaf[0])[None]

    return fit.Parameters(
        tuple(map(at_scale, first.log_scales)) if "softmax_scale" in point else first.log_scales,
        tuple(map(at_weights, first.weight_logits)) if "weights" in point else first.weight_logits,
        first.log_gene_weights,
    )


def _checked_state(resume: FitResult, first: fit.Parameters, setup: KernelProblem) -> fit.State:
    if resume.state is None:
        raise ValueError("Expected a result of `fit_kernel` to resume, found one read from AnnData: fit anew.")
    shapes, expected = (
        [(jax.tree_util.keystr(path), leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(parameters)]
        for parameters in (resume.state.parameters, first)
    )
    if shapes != expected:
        raise ValueError("Expected the same kernel, `train` and `starts` as of the fit to resume, found others.")
    if len(resume.training) != setup.kernel.shape[0]:
        raise ValueError(
            f"Expected the kernel of the fit to resume, on {len(resume.training)} cells, found one on "
            f"{setup.kernel.shape[0]}."
        )
    if resume.objective != _name(setup.objective):
        raise ValueError(
            f"Expected the objective of the fit to resume, `{resume.objective}`, found `{_name(setup.objective)}`."
        )
    losses = _as_doubles(_item_losses(setup.problem, _best(resume.state, resume.start)))
    for name, cells in (("training", resume.training), ("validation", resume.validation)):
        loss, before = _mean_loss(setup.objective, losses, cells), resume.scores[name]
        # The losses themselves may cancel each other.
        terms = zip(_shares(setup.objective, cells), losses, strict=True)
        size = sum(abs(coefficient) * share @ np.abs(part) for (coefficient, _, share), part in terms)
        if cells.any() and not abs(loss - before) <= RESUME_TOLERANCE * size:
            raise ValueError(
                f"Expected the data of the fit to resume, with a loss of {before:.6g} on the {name} cells, found one "
                f"of {loss:.6g} with its parameters. Fit anew."
            )
    return resume.state


def _best(state: fit.State, start: int) -> fit.Parameters:
    """Best parameters of one start."""
    return jax.device_put(jax.tree.map(lambda leaf: np.asarray(leaf)[start], state.best))


def _as_doubles(losses: Sequence[jax.Array]) -> list[np.ndarray]:
    return [np.asarray(part, dtype=np.float64) for part in losses]


def _result(setup, state, history, losses_before, training, held_out, factor, inner, seed) -> FitResult:
    failed, best_loss = np.asarray(state.failed), np.asarray(state.best_loss)
    start = int(np.argmin(np.where(np.isnan(best_loss), np.inf, best_loss)))
    for number in np.flatnonzero(failed >= 0):
        wrong = setup.readable(jax.tree.map(lambda leaf, n=number: np.asarray(leaf)[n], state.parameters))
        shown = {name: value.round(4).tolist() for name, value in wrong.items() if not name.startswith("gene_weights")}
        where = f"the loss or its gradient is not finite at step {failed[number]}, with {shown}"
        if not np.isfinite(best_loss[start]):
            raise ValueError(
                f"Expected a finite loss, found that {where}. Check the objective, or start elsewhere by `starts`."
            )
        logger.warning("Start %d: %s. Keeping the best parameters before it", number, where)
    best, problem = _best(state, start), setup.problem
    item_losses = [_as_doubles(losses) for losses in (losses_before, _item_losses(problem, best))]
    scores = {
        f"{name}{suffix}": _mean_loss(setup.objective, losses, cells)
        for name, cells in (("training", training), ("validation", held_out))
        for suffix, losses in zip(("_convention", ""), item_losses, strict=True)
    }
    gains = [old - new for old, new in zip(*item_losses, strict=True)]
    scores["validation_gain"] = _mean_loss(setup.objective, gains, held_out)
    scores["validation_gain_se"] = _standard_error(setup.objective, gains, held_out)
    if not held_out.any():
        logger.warning(
            "No cells were held out (`validation=None`): the loss on the training cells does not tell whether the "
            "fitted kernel is better"
        )
    errors: dict[str, np.ndarray] = {}
    if setup.has_errors:
        covariance = _covariance(problem, best, training)
        errors = setup.named(*fit.standard_errors(problem, best, covariance))
    parameters = setup.readable(best)
    genes = {
        name: setup.velocity_kernels[i].genes.astype(str).astype(object)
        for i, name in enumerate(name for name in parameters if name.startswith("gene_weights"))
    }
    fitted = setup.fitted_kernel(best, seed)
    return FitResult(
        kernel=fitted,
        objective=_name(setup.objective),
        parameters=parameters,
        convention=setup.readable(setup.start),
        standard_errors=errors,
        levels=setup.levels,
        genes=genes,
        history=history,
        scores=scores,
        training=training,
        validation=held_out,
        penalty=factor,
        penalties=inner,
        start=start,
        step=int(np.asarray(state.best_step)[start]),
        failed=failed,
        state=state,
    )


def _covariance(problem: fit.Problem, parameters: fit.Parameters, training: np.ndarray) -> jax.Array:
    covariance, _ = fit.laplace_covariance(problem, parameters, jax.device_put(training.astype(jnp.result_type(float))))
    return covariance


@full_precision
@eqx.filter_jit
def _item_losses(problem: fit.Problem, parameters: fit.Parameters):
    return problem.item_losses(parameters)


def _shares(objective: fit.Loss, cells: np.ndarray) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Coefficient of each term, cell of each of its items, and part that the item has in the mean over ``cells``."""
    coefficients = np.asarray(fit.coefficients_of(objective), dtype=np.float64)
    for coefficient, term in zip(coefficients, fit.terms_of(objective), strict=True):
        cell = np.asarray(term.cell)
        weight = np.asarray(term.weight, dtype=np.float64) * cells[cell]
        yield coefficient, cell, weight / (weight.sum() or 1)


def _mean_loss(objective: fit.Loss, losses: Sequence[np.ndarray], cells: np.ndarray) -> float:
    if not cells.any():
        return float("nan")
    terms = zip(_shares(objective, cells), losses, strict=True)
    return float(sum(coefficient * share @ loss for (coefficient, _, share), loss in terms))


def _standard_error(objective: fit.Loss, losses: Sequence[np.ndarray], cells: np.ndarray) -> float:
    """Standard error of the mean loss over cells, which are taken to be independent."""
    if not cells.any():
        return float("nan")
    deviation = np.zeros(len(cells))
    for (coefficient, cell, share), loss in zip(_shares(objective, cells), losses, strict=True):
        np.add.at(deviation, cell, coefficient * share * (loss - share @ loss))
    n_cells = int(cells.sum())
    return float(np.sqrt(np.sum(deviation**2) * n_cells / max(n_cells - 1, 1)))


def _name(objective: fit.Loss) -> str:
    terms = zip(np.asarray(fit.coefficients_of(objective)), fit.terms_of(objective), strict=True)
    return " + ".join(("" if c == 1 else f"{c:.3g} * ") + type(term).__name__ for c, term in terms)


@contextlib.contextmanager
def _bar(steps: int, progress: bool, description: str) -> Iterator[Any]:
    """Show a progress bar; gives the function that moves it."""
    with tqdm(total=steps, desc=description, disable=not progress) as bar:

        def report(done: int, history: fit.History) -> None:
            bar.n = done
            bar.set_postfix(loss=f"{np.nanmin(history.loss[-1]):.4f}" if np.isfinite(history.loss[-1]).any() else "-")

        yield report
