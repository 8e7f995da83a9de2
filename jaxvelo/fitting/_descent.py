"""The way down from some starts, on some cells, and where it ends."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

from jaxvelo import fit
from jaxvelo.annotated.arguments import check_integer
from jaxvelo.fitting._split import Split

# One object, as a compiled program belongs to an optimiser.
QUASI_NEWTON = fit.quasi_newton()
ROUGHNESS = 0.01
"""Factor of the penalty of parameters that are smooth functions on the graph, for the coefficients of all but the
constant."""


class Restraint(NamedTuple):
    """What keeps a fit near the convention, as factors of penalties.

    Attributes
    ----------
    genes
        Of the penalty of the gene weights.
    prior
        Of the squared distance of log scales and logits of weights, see :meth:`jaxvelo.fit.Parametrization.distance`.
    outside
        Of the change of what is predicted outside, see :meth:`jaxvelo.fit.Problem.change_outside`.
    """

    genes: float
    prior: float
    outside: float


@dataclasses.dataclass(frozen=True)
class Descent:
    """Where the optimiser stands after some steps from each start.

    Attributes
    ----------
    state
        All that is needed to go on.
    history
        Losses of each step and start, see :class:`FitResult`.
    """

    state: fit.DescentState
    history: dict[str, Float[np.ndarray, "steps starts"]]

    @functools.cached_property
    def start(self) -> int:
        """The start of the smallest loss."""
        losses = np.asarray(self.state.best_loss)
        return int(np.argmin(np.where(np.isnan(losses), np.inf, losses)))

    @property
    def step(self) -> int:
        """The step of the smallest loss."""
        return int(np.asarray(self.state.best_step)[self.start])

    @property
    def best(self) -> fit.Parameters:
        """The parameters of the smallest loss."""
        return best_of(self.state, self.start)

    @property
    def best_points(self) -> fit.Parameters:
        """The same of all starts, side by side: where to start from again."""
        return self.state.best

    @property
    def is_finite(self) -> bool:
        """Whether there was any finite loss."""
        return bool(np.isfinite(np.asarray(self.state.best_loss)[self.start]))

    @property
    def is_ended(self) -> bool:
        """Whether the first start is through, and was not interrupted."""
        return bool(self.state.failed[0] >= 0 or self.state.stalled[0])

    def failures(self) -> Iterator[tuple[int, int, fit.Parameters]]:
        """Starts whose loss was not finite, at which step, and the parameters there."""
        failed = np.asarray(self.state.failed)
        for number in np.flatnonzero(failed >= 0):
            yield (
                int(number),
                int(failed[number]),
                jax.tree.map(lambda leaf, n=number: np.asarray(leaf)[n], self.state.parameters),
            )


@dataclasses.dataclass(frozen=True)
class Descender:
    """How to go down, as the user asks for.

    Attributes
    ----------
    optimizer
        The optimiser.
    steps
        Number of steps.
    patience
        Stop after so many steps without an improvement; never if None.
    """

    optimizer: optax.GradientTransformation
    steps: int
    patience: int | None

    @classmethod
    def checked(cls, optimizer: Any, steps: Any, patience: Any) -> Descender:
        """Take the arguments of :func:`jaxvelo.tl.fit_kernel`, or raise a ValueError or TypeError."""
        check_integer("steps", steps, least=1)
        if patience is not None:
            check_integer("patience", patience, least=1)
        optimizer = QUASI_NEWTON if optimizer is None else optimizer
        if not isinstance(optimizer, optax.GradientTransformation):
            raise TypeError(
                "Expected `optimizer` to be an optax optimiser, such as `optax.adam(0.1)`, found "
                f"`{type(optimizer).__name__}`."
            )
        return cls(optimizer, steps, patience)

    def minimize(
        self,
        problem: fit.Problem,
        starts: fit.Parameters,
        split: Split,
        restraint: Restraint,
        state: fit.DescentState | None = None,
        report: Callable[[int, fit.LossHistory], None] | None = None,
    ) -> Descent:
        """Go down from each of the starts.

        Parameters
        ----------
        problem
            What is fitted to what.
        starts
            Parameters to start from; a leading axis counts them.
        split
            Cells to fit on, and to validate on.
        restraint
            What keeps the parameters near the convention.
        state
            Where to go on from, in place of the starts.
        report
            Called with the number of steps done and the losses so far.
        """
        dtype, n_starts = jnp.result_type(float), len(jax.tree.leaves(starts)[0])
        masks = (np.stack([mask] * n_starts).astype(dtype) for mask in split)
        given = (restraint.genes, ROUGHNESS, restraint.prior, restraint.outside)
        factors = (np.full(n_starts, factor, dtype) for factor in given)
        runs = jax.device_put(fit.DescentSetting(*masks, *factors))  # type: ignore[arg-type]
        state, history = fit.minimize(
            problem, starts, runs, self.optimizer, self.steps, self.patience, state=state, report=report
        )
        return Descent(state, {name: np.asarray(part) for name, part in history._asdict().items()})


def continued(descent: Descent, before: dict[str, np.ndarray] | None) -> Descent:
    """The same with the history of a fit that it goes on from."""
    if before is None:
        return descent
    return Descent(
        descent.state, {name: np.concatenate([before[name], part]) for name, part in descent.history.items()}
    )


def best_of(state: fit.DescentState, start: int) -> fit.Parameters:
    """Parameters of the smallest loss of one start."""
    return jax.device_put(jax.tree.map(lambda leaf: np.asarray(leaf)[start], state.best))
