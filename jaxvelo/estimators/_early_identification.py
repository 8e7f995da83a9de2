"""How early the terminal states that are known are found: the TSI score of an estimator."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from jaxvelo import pl
from jaxvelo.annotated.arguments import check_integer
from jaxvelo.annotated.plain_values import without_none
from jaxvelo.configuration import timed
from jaxvelo.estimators._leading_vectors import Decomposed, LeadingVectors, agree
from jaxvelo.estimators._macrostate_search import QUICK, Search, check_optimizer, find_macrostates, splits_pair
from jaxvelo.estimators._mixtures import plain_names
from jaxvelo.estimators._state_names import check_clusters
from jaxvelo.estimators._terminal_state_identification import identify_terminal_states, tsi_score


class EarlyIdentification(LeadingVectors):
    """Methods that score, and draw, how early known terminal states are found."""

    def __init__(self, object: Any, **kwargs: Any):
        super().__init__(object, **kwargs)
        self._identified_with: Decomposed | None = None

    def tsi(
        self,
        n_macrostates: int,
        terminal_states: Sequence[str] | None = None,
        cluster_key: str | None = None,
        *,
        n_cells: int | None = 30,
        optimizer: Literal["gradient", "nelder-mead"] = "gradient",
        show_progress_bar: bool = True,
        **kwargs: Any,
    ) -> float:
        r"""Score how early known terminal states are found as macrostates (Weiler et al. 2024).

        The estimator's own macrostates stay as they are. Those that are counted are searched for more quickly, and
        beyond five may be less crisp than those of :meth:`compute_macrostates`.

        .. math:: \mathrm{TSI} = \frac{\sum_{n=1}^{N} f(n)}{\sum_{n=1}^{N} \min(n, m)}

        where :math:`f(n)` of :math:`m` terminal states are found among :math:`n` macrostates.

        Parameters
        ----------
        n_macrostates
            Largest number of macrostates.
        terminal_states
            Names of the clusters that are known to be terminal; those of the last call if :obj:`None`.
        cluster_key
            Key of the clusters in ``adata.obs``; that of the last call if :obj:`None`.
        n_cells, optimizer, **kwargs
            As of :meth:`compute_macrostates`.
        show_progress_bar
            Whether to show a bar.

        Returns
        -------
        The score, 1 if all are found as soon as there are enough macrostates.

        Raises
        ------
        RuntimeError
            If terminal states or clusters are not given, and were not before.
        KeyError, TypeError, ValueError
            If there are no such clusters, or macrostates of no number.

        References
        ----------
        Weiler et al., CellRank 2: unified fate mapping in multiview single-cell data, Nat. Methods 2024.

        Examples
        --------
        >>> g.tsi(3, terminal_states=["Fate A", "Fate B"], cluster_key="clusters")
        1.0
        """
        check_integer("n_macrostates", n_macrostates, 1)
        if n_cells is not None:
            check_integer("n_cells", n_cells, 1)
        check_optimizer(optimizer)
        before = self._results.params.get("tsi", {})
        wanted = before.get("terminal_states") if terminal_states is None else plain_names(terminal_states)
        key = before.get("cluster_key") if cluster_key is None else cluster_key
        if wanted is None or key is None:
            raise RuntimeError("Pass `terminal_states` and `cluster_key`, the clusters that are known to be terminal.")
        wanted = [str(name) for name in wanted]
        params = {"terminal_states": wanted, "cluster_key": key, "n_cells": n_cells, "optimizer": optimizer}
        curve = self._results.tsi
        if curve is not None and len(curve) >= n_macrostates and not kwargs and self._is_known(params, n_macrostates):
            return tsi_score(curve, n_macrostates)
        check_clusters(self.adata, wanted, key)
        schur, _, _ = self._enough_schur(n_macrostates, kwargs, show_progress_bar)
        matrix = self.transition_matrix

        @functools.cache
        def names_of(number: int) -> list[str]:
            search = Search(number, optimizer, QUICK)
            return find_macrostates(self.adata, matrix, schur, search, n_cells, key, None)[0].names

        with timed(f"Identifying terminal states among up to {n_macrostates} macrostates"):
            curve = identify_terminal_states(
                lambda number: names_of(number + splits_pair(schur, number)),
                n_macrostates,
                wanted,
                show_progress_bar,
            )
            self._take({"tsi": params}, tsi=curve)
        self._identified_with = Decomposed(schur, matrix)
        return tsi_score(curve, n_macrostates)

    def plot_tsi(self, n_macrostates: int | None = None, **kwargs: Any) -> Any:
        """Draw how many terminal states are found among how many macrostates; see :func:`jaxvelo.pl.tsi`.

        Parameters
        ----------
        n_macrostates
            Largest number of macrostates that is drawn; all by default.
        **kwargs
            Arguments of :func:`jaxvelo.pl.tsi`.

        Returns
        -------
        What :func:`jaxvelo.pl.tsi` returns.

        Raises
        ------
        RuntimeError
            If :meth:`tsi` was not computed.
        KeyError, TypeError, ValueError
            As :func:`jaxvelo.pl.tsi` does.

        Examples
        --------
        >>> score = g.tsi(3, terminal_states=["Fate A", "Fate B"], cluster_key="clusters")
        >>> axes = g.plot_tsi(show=False)
        >>> axes.get_title()
        'terminal state identification'
        """
        if self._results.tsi is None:
            raise RuntimeError("Compute TSI first as `.tsi()`.")
        return pl.tsi(self._results.tsi, n_macrostates, **kwargs)

    def _is_known(self, params: dict[str, Any], n_macrostates: int) -> bool:
        """Whether the curve is that of these arguments, and of the present Schur vectors as far as these are known."""
        if without_none(params) != without_none(dict(self._results.params["tsi"])):
            return False
        made, now = self._identified_with, self._decomposed
        if made is None:
            return True
        return made.is_of(self.transition_matrix) and (
            now is None or agree(np.asarray(made.schur.vectors), now.schur, n_macrostates)
        )
