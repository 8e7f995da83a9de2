"""How early known terminal states are found, as the number of macrostates grows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.progress_bar import watched
from jaxvelo.configuration import logger


def identify_terminal_states(
    macrostates: Callable[[int], Sequence[str]],
    n_macrostates: int,
    terminal_states: Sequence[str],
    show_progress_bar: bool = True,
) -> pd.DataFrame:
    """Count, for each number of macrostates, the known terminal states among them.

    Parameters
    ----------
    macrostates
        Gives the names of so many macrostates; raises a ValueError if there are none of that number (as where it would
        split a pair of complex eigenvalues). It is called for the largest number first, so that a decomposition that
        serves all numbers is made once.
    n_macrostates
        Largest number of macrostates.
    terminal_states
        Names of the clusters that are known to be terminal.
    show_progress_bar
        Whether to show a bar.

    Returns
    -------
    The curve, largest number first, with the columns of CellRank's: ``"number_of_macrostates"``,
    ``"identified_terminal_states"`` and ``"optimal_identification"``, what could be found at most. A number without
    macrostates counts as the next smaller one with; none as zero.

    Raises
    ------
    ValueError
        If there are macrostates of no number.
    """
    numbers = range(n_macrostates, 0, -1)
    identified, failures = [], {}
    for n in watched(numbers, len(numbers), "Identification", "numbers of states", shown=show_progress_bar):
        try:
            names = macrostates(n)
        except ValueError as error:
            failures[n] = error
            identified.append(np.nan)
        else:
            identified.append(float(len(identified_among(names, terminal_states))))
    if len(failures) == n_macrostates:
        raise ValueError(
            f"Expected macrostates of some number up to {n_macrostates}, found none. {failures[n_macrostates]}"
        ) from failures[n_macrostates]
    if failures:
        logger.warning(
            "There are no %s macrostates: counting what fewer identify. %s",
            listed(failures), failures[max(failures)],
        )  # fmt: skip
    curve = pd.DataFrame(
        {
            "number_of_macrostates": np.array(numbers, dtype=float),
            "identified_terminal_states": pd.Series(identified).bfill().fillna(0.0),
            "optimal_identification": np.minimum(numbers, len(set(terminal_states))).astype(float),
        }
    )
    curve.index = curve.index.astype(str)
    return curve


def identified_among(macrostates: Sequence[str], terminal_states: Sequence[str]) -> set[str]:
    """Terminal states that some macrostate is named by, alone or with a number: ``"Beta"``, ``"Beta_2"``."""
    known = set(terminal_states)
    names = set(macrostates)
    without_number = {name.rpartition("_")[0] for name in names if name.rpartition("_")[2].isdecimal()}
    return known & (names | without_number)


def tsi_score(curve: pd.DataFrame, n_macrostates: int | None = None) -> float:
    r"""Score of the identification of terminal states, 1 if all are found as soon as there are enough macrostates.

    .. math:: \mathrm{TSI} = \frac{\sum_{n=1}^{N} f(n)}{\sum_{n=1}^{N} \min(n, m)}

    where :math:`f(n)` of :math:`m` terminal states are found among :math:`n` macrostates: the area under the curve, as
    a part of that under the best one (Weiler et al. 2024, CellRank 2).

    Parameters
    ----------
    curve
        See :func:`identify_terminal_states`.
    n_macrostates
        :math:`N`, the largest number of macrostates that counts; all of the curve by default.
    """
    counted = curve if n_macrostates is None else curve[curve["number_of_macrostates"] <= n_macrostates]
    return float(counted["identified_terminal_states"].sum() / counted["optimal_identification"].sum())
