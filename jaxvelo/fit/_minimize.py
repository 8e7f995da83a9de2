"""The optimiser loop: compiled scans of some steps under a loop on the host, for one start or several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from jaxvelo.fit._parameters import Parameters
from jaxvelo.fit._problem import Problem
from jaxvelo.graph._blocks import on_cpu
from jaxvelo.graph._precision import full_precision

CHUNK = 10
"""Steps in one compiled scan: few enough for progress to show, many enough to make the host loop cheap."""


class DescentSetting(eqx.Module):
    """What differs among runs that are optimised side by side.

    Attributes
    ----------
    training, validation
        Weight of each cell in the loss, and in the validation loss that is recorded, shape ``(cells,)``.
    gene_penalty, roughness_penalty
        Factors of the two penalties of :meth:`Parametrization.penalties`.
    prior
        Factor of :meth:`Parametrization.distance`.
    outside_penalty
        Factor of :meth:`Problem.change_outside`.
    """

    training: Float[Array, " cells"]
    validation: Float[Array, " cells"]
    gene_penalty: Float[Array, ""]
    roughness_penalty: Float[Array, ""]
    prior: Float[Array, ""]
    outside_penalty: Float[Array, ""]


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
        Whether the run has stopped early.
    failed
        Step at which loss or gradient were not finite; -1 if none was. The run stops there.
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
    """Losses of each step and run, shape ``(steps, runs)``; NaN after a run has stopped.

    Attributes
    ----------
    loss
        What is minimised: the training loss and penalties.
    training, validation
        Loss on the training and on the validation cells.
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
    """Minimise the loss of a problem by any optax optimiser, several starts in one program.

    The starts are a ``vmap`` of one; on a CPU, a loop over them.

    Parameters
    ----------
    problem
        What is fitted to what.
    starts, runs
        Start and cells of each run; a leading axis counts the runs.
    optimizer
        The optimiser.
    steps
        Number of steps to have done in the end, those of ``state`` included.
    patience
        Stop a run after so many steps without a relative improvement of ``tolerance``; never if ``None``.
    state
        Go on from here, in place of ``starts``.
    report
        Called after each chunk of steps with the number of steps done and the history so far. A KeyboardInterrupt here
        or anywhere in the loop ends the optimisation; what was reached is returned.

    Returns
    -------
    State and history of all runs. Each run remembers its best parameters, whatever happens after: a loss that is not
    finite ends it, see :attr:`DescentState.failed`.
    """
    if state is None:
        state = _begin(starts, optimizer)
    start_step = int(np.max(np.asarray(state.step)))
    limit = jnp.asarray(steps, jnp.int32)
    wait = jnp.asarray(np.iinfo(np.int32).max if patience is None else patience, jnp.int32)
    relative = jnp.asarray(tolerance, dtype=float)
    # On a CPU, a batch of gathers takes longer than one after another: 1.5 times for two runs on 3,696 cells.
    one_by_one = runs.gene_penalty.shape[0] == 1 or on_cpu()
    chunks: list[LossHistory] = []
    try:
        for done in range(start_step, steps, CHUNK):
            state, losses = _advance(problem, runs, state, optimizer, limit, wait, relative, one_by_one)
            chunks.append(LossHistory(*(np.asarray(part)[: steps - done] for part in losses)))
            if report is not None:
                report(min(done + CHUNK, steps), _joined(chunks))
            if not np.any(_running(jax.device_get(state), steps)):
                break
    except KeyboardInterrupt:
        pass
    n_runs = runs.gene_penalty.shape[0]
    return state, _joined(chunks) if chunks else LossHistory(*(np.zeros((0, n_runs)) for _ in range(3)))


def _joined(chunks: list[LossHistory]) -> LossHistory:
    return LossHistory(*(np.concatenate(parts) for parts in zip(*chunks, strict=True)))


@eqx.filter_jit
def _begin(starts: Parameters, optimizer: optax.GradientTransformation) -> DescentState:
    def one(start: Parameters) -> DescentState:
        infinite, zero = jnp.asarray(jnp.inf, dtype=float), jnp.asarray(0, jnp.int32)
        no = jnp.asarray(False)
        return DescentState(start, optimizer.init(start), start, infinite, zero, infinite, zero, zero, no, zero - 1)

    return jax.vmap(one)(starts)


def _running(state: DescentState, limit: Any) -> Any:
    return (state.failed < 0) & ~state.stalled & (state.step < limit)


@full_precision
@eqx.filter_jit
def _advance(problem, runs, state, optimizer, limit, patience, tolerance, one_by_one):
    optimizer = optax.with_extra_args_support(optimizer)

    def loss_of(parameters: Parameters, run: DescentSetting):
        sets = jnp.stack([run.training, run.validation])
        (training, validation), outlooks = problem.losses_and_outlooks(parameters, sets)
        genes, rough = problem.parametrization.penalties(parameters)
        penalty = run.gene_penalty * genes + run.roughness_penalty * rough
        penalty = penalty + run.prior * problem.parametrization.distance(parameters)
        penalty = penalty + run.outside_penalty * problem.change_outside(outlooks).astype(penalty.dtype)
        return training + penalty.astype(training.dtype), (training, validation)

    def step_of(state: DescentState, run: DescentSetting):
        (loss, parts), gradient = jax.value_and_grad(loss_of, has_aux=True)(state.parameters, run)
        finite = jnp.isfinite(loss)
        for leaf in jax.tree.leaves(gradient):
            finite = finite & jnp.all(jnp.isfinite(leaf))
        running = _running(state, limit)
        works = running & finite
        # Optax mixes integer counts of steps with floats, which strict promotion would forbid.
        with jax.numpy_dtype_promotion("standard"):
            updates, optimizer_state = optimizer.update(
                gradient,
                state.optimizer,
                state.parameters,
                value=loss,
                grad=gradient,
                value_fn=lambda p: loss_of(p, run)[0],
            )
        moved = optax.apply_updates(state.parameters, updates)
        is_best = works & (loss < state.best_loss)
        known = jnp.where(jnp.isfinite(state.reference_loss), state.reference_loss, 0)
        enough = works & (loss < state.reference_loss - tolerance.astype(loss.dtype) * jnp.abs(known))
        reference_step = jnp.where(enough, state.step, state.reference_step)
        after = DescentState(
            _choose(works, moved, state.parameters),
            _choose(works, optimizer_state, state.optimizer),
            _choose(is_best, state.parameters, state.best),
            jnp.where(is_best, loss, state.best_loss),
            jnp.where(is_best, state.step, state.best_step),
            jnp.where(enough, loss, state.reference_loss),
            reference_step,
            jnp.where(works, state.step + 1, state.step),
            state.stalled | (works & (state.step - reference_step >= patience)),
            jnp.where(running & ~finite, state.step, state.failed),
        )
        return after, tuple(jnp.where(running, part, jnp.nan) for part in (loss, *parts))

    def step_of_all(state: DescentState, _):
        if one_by_one:
            return jax.lax.map(lambda pair: step_of(*pair), (state, runs))
        return jax.vmap(step_of)(state, runs)

    return jax.lax.scan(step_of_all, state, length=CHUNK)


def _choose(condition: Array, yes, no):
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
