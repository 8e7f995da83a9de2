"""The optimiser loop: compiled steps under a loop on the host, for one start or several."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from jaxvelo.fit._evaluation import DescentSetting, evaluation, loss_of
from jaxvelo.fit._parameters import Parameters
from jaxvelo.fit._problem import Problem
from jaxvelo.fit._quasi_newton import QuasiNewtonState
from jaxvelo.graph._precision import full_precision

REPORTED = 10
"""So many steps are taken between two reports."""


class DescentState(eqx.Module):
    """Where a run is: all that is needed to go on.

    Attributes
    ----------
    parameters, optimizer
        Parameters of the next step, and the optimiser's state.
    best, best_loss, best_step
        Parameters of the smallest loss so far, that loss, penalties included, and its step.
    reference_loss, reference_step
        Loss and step since when there was no improvement beyond the tolerance.
    step
        Number of steps done.
    stalled
        Whether the run has stopped early: by patience, or as the optimiser sees nothing left to gain.
    failed
        Step at which loss or gradient were not finite; -1 if none was. The run stops there, unless its optimiser takes
        steps back.

    Examples
    --------
    >>> runs = jv.fit.DescentSetting(jnp.ones((1, 150)), jnp.ones((1, 150)), *jnp.zeros((4, 1)))
    >>> starts = jax.tree.map(lambda leaf: leaf[None], parametrization.start())
    >>> state, _ = jv.fit.minimize(fit_problem, starts, runs, jv.fit.quasi_newton(), steps=5)
    >>> state.step.tolist(), state.failed.tolist(), state.best.log_scales[0].shape
    ([5], [-1], (1, 1))
    """

    parameters: Parameters
    optimizer: optax.OptState
    best: Parameters
    best_loss: Float[Array, ""]
    best_step: Int[Array, ""]
    reference_loss: Float[Array, ""]
    reference_step: Int[Array, ""]
    step: Int[Array, ""]
    stalled: Bool[Array, ""]
    failed: Int[Array, ""]


class LossHistory(NamedTuple):
    """Losses of each step and run, shape ``(steps, runs)``, finite or not; NaN after a run has stopped.

    Attributes
    ----------
    loss
        What is minimised: the training loss and penalties.
    training, validation
        Loss on the training and on the validation cells.

    Examples
    --------
    >>> history = jv.fit.LossHistory(*np.array([[[0.9], [0.5], [0.6]], [[0.9], [0.5], [0.6]], [[1.0], [0.7], [0.6]]]))
    >>> history.loss.shape, int(history.validation[:, 0].argmin())
    ((3, 1), 2)
    """

    loss: np.ndarray
    training: np.ndarray
    validation: np.ndarray


def minimize(
    problem: Problem,
    starts: Parameters,
    runs: DescentSetting,
    optimizer: optax.GradientTransformation,
    steps: int,
    patience: int | None = None,
    tolerance: float = 1e-4,
    state: DescentState | None = None,
    report: Callable[[int, LossHistory], None] | None = None,
) -> tuple[DescentState, LossHistory]:
    r"""Minimise the loss of a problem by any optax optimiser, from one start or several.

    .. math:: \min_\theta \; L(\theta) + |L| \sum_p a_p P_p(\theta)

    with the loss :math:`L` on the training cells, the sum :math:`|L|` of the sizes of its coefficients, and the
    penalties :math:`P_p` and factors :math:`a_p` of :class:`DescentSetting`. One step of each run after another, not
    side by side: so all runs, and all that differ only in their cells and penalties, share two programs, one that
    evaluates the loss and its gradient, and one that makes a step of it.

    Parameters
    ----------
    problem
        What is fitted to what.
    starts, runs
        Start and cells of each run; a leading axis counts the runs.
    optimizer
        The optimiser. :func:`quasi_newton` may take steps back: with it, a loss that is not finite ends a run only if
        no loss before it was.
    steps
        Number of steps to have done in the end, those of ``state`` included. Each step is one loss and gradient, and
        what else the optimiser asks for.
    patience
        Stop a run after so many steps without a relative improvement of ``tolerance``; never if ``None``.
    tolerance
        Smallest improvement, relative to the loss, that counts as one.
    state
        Go on from here, in place of ``starts``.
    report
        Called every ten steps, and at the end, with the number of steps done and the history so far. A
        KeyboardInterrupt here or anywhere in the loop ends the optimisation; what was reached is returned.

    Returns
    -------
    state : DescentState
        Of all runs, along a leading axis. Each run remembers its best parameters, whatever happens after: a loss that
        is not finite ends it, see :attr:`DescentState.failed`.
    history : LossHistory
        Of the steps done in this call.

    Examples
    --------
    >>> runs = jv.fit.DescentSetting(jnp.ones((1, 150)), jnp.ones((1, 150)), *jnp.zeros((4, 1)))
    >>> starts = jax.tree.map(lambda leaf: leaf[None], parametrization.start())
    >>> state, history = jv.fit.minimize(fit_problem, starts, runs, jv.fit.quasi_newton(), steps=5)
    >>> history.loss.shape, bool(state.best_loss[0] < history.loss[0, 0])
    ((5, 1), True)
    """
    if state is None:
        state = _begin(starts, optimizer)
    n_runs = runs.gene_penalty.shape[0]
    states, settings = ([_run(tree, jnp.asarray(i)) for i in range(n_runs)] for tree in (state, runs))
    wait = jnp.asarray(np.iinfo(np.int32).max if patience is None else patience, jnp.int32)
    relative = jnp.asarray(tolerance, dtype=float)
    rows: list[np.ndarray] = []
    done = int(np.max(np.asarray(state.step)))

    def history() -> LossHistory:
        return LossHistory(*np.asarray(rows).reshape(len(rows), n_runs, 3).transpose(2, 0, 1))

    try:
        while any(running := [_is_running(run, steps) for run in states]):
            row = np.full((n_runs, 3), np.nan)
            moved = list(states)
            for i in np.flatnonzero(running):
                moved[i], row[i] = _step(problem, settings[i], states[i], optimizer, wait, relative)
            states = moved
            rows.append(row)
            done += 1
            if report is not None and (done % REPORTED == 0 or done == steps):
                report(done, history())
    except KeyboardInterrupt:
        pass
    return _stacked(states), history()


def _is_running(state: DescentState, limit: int) -> bool:
    return int(state.failed) < 0 and not bool(state.stalled) and int(state.step) < limit


def _step(problem, setting, state, optimizer, patience, tolerance) -> tuple[DescentState, np.ndarray]:
    """One step of one run, and its losses."""
    found = evaluation(problem, state.parameters, setting)
    losses = np.asarray(jax.device_get((found.loss, found.training, found.validation)))
    return _move(problem, setting, state, optimizer, found, patience, tolerance), losses


@eqx.filter_jit
def _run(tree, i: Int[Array, ""]):
    return jax.tree.map(lambda leaf: leaf[i], tree)


@eqx.filter_jit
def _stacked(states: list[DescentState]) -> DescentState:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


@eqx.filter_jit
def _begin(starts: Parameters, optimizer: optax.GradientTransformation) -> DescentState:
    def one(start: Parameters) -> DescentState:
        infinite, zero = jnp.asarray(jnp.inf, dtype=float), jnp.asarray(0, jnp.int32)
        no = jnp.asarray(False)
        return DescentState(start, optimizer.init(start), start, infinite, zero, infinite, zero, zero, no, zero - 1)

    return jax.vmap(one)(starts)


@full_precision
@eqx.filter_jit
def _move(problem, setting, state, optimizer, found, patience, tolerance) -> DescentState:
    """What a step makes of the loss and its gradient."""
    optimizer = optax.with_extra_args_support(optimizer)
    loss, gradient = found.loss, found.gradient
    finite = jnp.isfinite(loss)
    for leaf in jax.tree.leaves(gradient):
        finite = finite & jnp.all(jnp.isfinite(leaf))
    takes_back = isinstance(state.optimizer, QuasiNewtonState)
    works = finite | (takes_back & jnp.isfinite(state.best_loss))
    # Optax mixes integer counts of steps with floats, which strict promotion would forbid.
    with jax.numpy_dtype_promotion("standard"):
        updates, optimizer_state = optimizer.update(
            gradient,
            state.optimizer,
            state.parameters,
            value=loss,
            grad=gradient,
            value_fn=lambda parameters: loss_of(problem, parameters, setting)[0],
        )
    moved = optax.apply_updates(state.parameters, updates)
    is_best = finite & (loss < state.best_loss)
    known = jnp.where(jnp.isfinite(state.reference_loss), state.reference_loss, 0)
    enough = finite & (loss < state.reference_loss - tolerance.astype(loss.dtype) * jnp.abs(known))
    reference_step = jnp.where(enough, state.step, state.reference_step)
    stalled = state.step - reference_step >= patience
    if takes_back:
        stalled = stalled | optimizer_state.ended
    return DescentState(
        _choose(works, moved, state.parameters),
        _choose(works, optimizer_state, state.optimizer),
        _choose(is_best, state.parameters, state.best),
        jnp.where(is_best, loss, state.best_loss),
        jnp.where(is_best, state.step, state.best_step),
        jnp.where(enough, loss, state.reference_loss),
        reference_step,
        jnp.where(works, state.step + 1, state.step),
        works & stalled,
        jnp.where(works, state.failed, state.step),
    )


def _choose(condition: Array, yes, no):
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
