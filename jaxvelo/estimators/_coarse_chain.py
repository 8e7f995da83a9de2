"""The macrostates as a Markov chain of their own."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd


@dataclasses.dataclass(frozen=True)
class CoarseChain:
    """A Markov chain on the macrostates, with their names.

    Attributes
    ----------
    transition_matrix
        From the states in the rows to those in the columns. Its rows sum to one; entries may be a little negative.
    stationary
        Long-run distribution.
    initial
        Distribution of the cells over the states.
    crispness
        How clearly the cells belong to one macrostate each, from 0 to 1; ``None`` if not known.
    """

    transition_matrix: pd.DataFrame
    stationary: pd.Series | None
    initial: pd.Series
    crispness: float | None = None

    @property
    def stability(self) -> pd.Series:
        """Probability of each state to stay."""
        return pd.Series(np.diag(self.transition_matrix), index=self.transition_matrix.index)
