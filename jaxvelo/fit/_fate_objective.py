"""What all objectives have in common that look at fates."""

from __future__ import annotations

import abc
import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxvelo.fit._objective import Objective, Transitions
from jaxvelo.markov import Outcome, absorption_probabilities, cannot_reach, expected_visits


class FateObjective(Objective):
    """An objective of the fate probabilities of given terminal cells.

    Attributes
    ----------
    terminal
        Class of each terminal cell, -1 for all others, shape ``(cells,)``.
    n_fates
        Number of classes.
    names
        Names of the classes; numbers if there are none.
    """

    terminal: eqx.AbstractVar[Int[Array, " cells"]]
    n_fates: eqx.AbstractVar[int]
    names: tuple[str, ...] = eqx.field(static=True, default=(), kw_only=True)

    @property
    def n_cells(self):
        """Those of ``terminal``."""
        return len(self.terminal)

    def check(self, transitions, cells):
        """All cells must reach a terminal cell.

        Raises
        ------
        ValueError
            If some cannot, see :func:`jaxvelo.markov.cannot_reach`.
        """
        lost = np.flatnonzero(cannot_reach(transitions.to_csr(), np.asarray(self.terminal)))
        if len(lost):
            names = ", ".join(repr(str(cells[i])) for i in lost[:5]) + (", ..." if len(lost) > 5 else "")
            raise ValueError(
                f"Expected all cells to reach a terminal cell, found {len(lost)} that cannot: [{names}]. Make some of "
                "them terminal, remove them, or add a `ConnectivityKernel`."
            )

    def fates(self, transitions: Transitions) -> Float[Array, "cells fates"]:
        """Fate probabilities, whose gradient is implicit, see :func:`jaxvelo.markov.absorption_probabilities`.

        Parameters
        ----------
        transitions
            The transition matrix, the only member of a tuple.

        Returns
        -------
        jax.Array
            Shape ``(cells, fates)``; NaN where they are not known within their tolerance.
        """
        found = absorption_probabilities(transitions[0], self.terminal, self.n_fates, needs_times=False)
        return jnp.where(found.outcome == Outcome.SOLVED, found.probabilities, jnp.nan)

    @abc.abstractmethod
    def losses_of(self, fates: Float[Array, "cells fates"]) -> Float[Array, " items"]:
        """Loss of each item, given the fate probabilities."""

    def item_losses(self, transitions, features, key):
        """Those of :meth:`losses_of`."""
        return self.losses_of(self.fates(transitions))

    def outlook(self, transitions):
        """Fate probabilities."""
        return self.fates(transitions)

    @property
    def outlook_names(self):
        """Those of the fates."""
        return self.names or tuple(map(str, range(self.n_fates)))

    def unnamed(self):
        """Without the names of the fates."""
        return dataclasses.replace(self, names=())

    def given_cells(self):
        """Terminal cells."""
        return np.asarray(self.terminal) >= 0

    def losses_and_outlook(self, transitions, features, key):
        """Both from one solution."""
        fates = self.fates(transitions)
        return self.losses_of(fates), fates

    def evidence(self, transitions):
        """Visits of chains from the items' cells until a terminal one is reached, whose own fate is known as well."""
        starts, terminal = np.zeros(len(self.terminal)), np.asarray(self.terminal)
        starts[self.cells_with_items] = 1
        return expected_visits(transitions.to_csr(), terminal, starts) + (terminal >= 0)

    def why_not_finite(self, transitions):
        """What keeps the fates from being known."""
        found = absorption_probabilities(transitions[0], self.terminal, self.n_fates)
        return "" if found.outcome == Outcome.SOLVED else Outcome(int(found.outcome)).explanation
