"""Generalised Perron cluster cluster analysis of a kernel's transition matrix, under CellRank's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
import pandas as pd

from jaxvelo.annotated.arguments import check_integer, listed
from jaxvelo.annotated.names import text_of
from jaxvelo.configuration import ignore_arguments, logger, timed
from jaxvelo.estimators._absorbed_cells import check_solver, fates_of, times_of
from jaxvelo.estimators._coarse_chain import CoarseChain
from jaxvelo.estimators._early_identification import EarlyIdentification
from jaxvelo.estimators._fate_consequences import FateConsequences
from jaxvelo.estimators._fate_plots import FatePlots
from jaxvelo.estimators._fate_storage import FateStorage
from jaxvelo.estimators._given_states import (
    check_overlap,
    check_renaming,
    states_of_cells,
    states_of_macrostates,
)
from jaxvelo.estimators._initial_choice import choose_initial
from jaxvelo.estimators._leading_vectors import Decomposed
from jaxvelo.estimators._macrostate_search import (
    Range,
    Search,
    best_number,
    check_optimizer,
    find_macrostates,
    read_n_states,
    whole_pairs,
)
from jaxvelo.estimators._mixtures import plain_names
from jaxvelo.estimators._state_set import States
from jaxvelo.estimators._terminal_criteria import (
    Choice,
    Evidence,
    check_criterion,
    choose_terminal,
    criterion_meant,
    explained,
)


class GPCCA(EarlyIdentification, FateConsequences, FatePlots, FateStorage):
    r"""Macrostates, terminal states and fates of a Markov chain on cells.

    The leading real Schur vectors :math:`X` of the transition matrix, :math:`T X = X R`, span what changes slowest. A
    rotation :math:`A` of some of them makes memberships :math:`\chi = X A` of the cells in macrostates, non-negative
    and summing to one, that are as crisp as can be (Reuter et al. 2018, 2019). Some macrostates are terminal, and the
    probabilities of a cell to end in each of them are its fates.

    Results are attributes, :obj:`None` before they are computed, and entries of :attr:`adata`, where CellRank finds
    them. Each method computes first and writes then: what fails leaves all as it was. What is computed anew removes
    what depended on the old.

    Parameters
    ----------
    object
        A kernel with a transition matrix; or what :class:`~jaxvelo.kernels.PrecomputedKernel` takes: an AnnData object,
        a matrix, a key in ``adata.obsp``, or a direction.
    **kwargs
        Further arguments of :class:`~jaxvelo.kernels.PrecomputedKernel`.

    Notes
    -----
    The names, the arguments and the keys are CellRank 2.3's. What differs, on purpose:

    1. Memberships are crisper: the search that CellRank's dependency makes ends early for many states.
       ``compute_macrostates(optimizer="nelder-mead")`` makes the same search.
    2. At least 20 Schur vectors are computed, so that there is an eigengap to see; CellRank computes as many as there
       are states. Neither PETSc nor dense matrices are needed.
    3. With several classes of cells that lead to no others, the stationary distribution is that of a process that
       starts in the initial distribution; there, an eigensolver returns any mixture.
    4. Fates are certified: where they are not known within ``tol``, or a cell reaches no terminal state, there is an
       error that says why. ``tol`` is the largest error of a probability.
    5. Initial states may be set without losing fates, which do not depend on them.
    6. ``predict_terminal_states(method="eigengap_coarse")`` chooses at least one state; CellRank chooses all where its
       count is zero.
    7. Choosing terminal states logs which were chosen, which were not, and why; without an argument, by
       ``method="retention"``, which is right more often than CellRank's ``"stability"``.
    8. Lineages are in the order of the terminal states, or of ``keys``; in CellRank with ``keys`` in any.
    9. Terminal states given as clusters have the clusters' colours.
    10. Files hold no pickled objects.
    11. ``predict_initial_states`` ranks macrostates by their long run only if that tells: of those that are left for
        good, of which next to nothing is left, it chooses those that are left first.
    12. Tables of memberships and fates are arrays with names of the columns only: ``lineage[...]`` always chooses a
        table, all operations of NumPy give plain arrays, and there are no ``reduce``, ``plot_pie``, ``view`` and
        changes in place.
    13. The curve of :meth:`tsi` stands in ``adata.uns`` too.

    References
    ----------
    Reuter et al. (2018), J. Chem. Theory Comput. 14:3579. Reuter et al. (2019), J. Chem. Phys. 150:174103. Roeblitz &
    Weber (2013), Adv. Data Anal. Classif. 7:147. Lange et al. (2022), Nat. Methods 19:159.

    Examples
    --------
    >>> g = jv.estimators.GPCCA(kernel)
    >>> g.compute_macrostates(n_states=3, cluster_key="clusters").predict_terminal_states()
    GPCCA[...]
    >>> sorted(g.terminal_states.cat.categories)
    ['Fate A', 'Fate B']
    >>> g.compute_fate_probabilities().fate_probabilities.shape
    (150, 2)
    """

    def compute_macrostates(
        self,
        n_states: int | Sequence[int] | None = None,
        n_cells: int | None = 30,
        cluster_key: str | Mapping[str, str] | None = None,
        weight_key: str | None = None,
        *,
        optimizer: Literal["gradient", "nelder-mead"] = "gradient",
        show_progress_bar: bool = True,
        **kwargs: Any,
    ) -> Self:
        """Compute macrostates: sets of cells between which the process changes slowly.

        Parameters
        ----------
        n_states
            Number of macrostates; two numbers to choose between by the minChi criterion; or :obj:`None` for as many as
            there are eigenvalues before the eigengap. There is one more where a pair of conjugate eigenvalues would be
            split.
        n_cells
            Number of cells that stand for each macrostate; all that belong to it most if :obj:`None`.
        cluster_key
            Clusters to name and colour macrostates after: a key in ``adata.obs``; or ``{"obsm": key}`` of a data frame
            with proportions of clusters for each cell.
        weight_key
            Key in ``adata.obs`` of the weights of the cells, for proportions.
        optimizer
            How memberships are searched for: ``"gradient"`` for the crispest, or ``"nelder-mead"`` as pyGPCCA does;
            see :func:`jaxvelo.markov.coarse_grain`.
        show_progress_bar
            As of :meth:`compute_schur`.
        **kwargs
            Arguments of :meth:`compute_schur`, whose vectors are computed if there are not enough.

        Returns
        -------
        The estimator, with :attr:`macrostates`, :attr:`macrostates_memberships` and :attr:`coarse_T`.

        Raises
        ------
        KeyError, TypeError, ValueError
            If an argument is out of range, or there are too few cells, or no clusters.
        ArithmeticError
            If not enough Schur vectors are found.

        Examples
        --------
        >>> g.compute_macrostates(n_states=3, cluster_key="clusters")
        GPCCA[...]
        >>> sorted(g.macrostates.cat.categories)
        ['Fate A', 'Fate B', 'Progenitor']
        """
        check_optimizer(optimizer)
        if n_cells is not None:
            check_integer("n_cells", n_cells, 1)
        wanted = read_n_states(n_states)
        most = 2 if wanted is None else wanted.most if isinstance(wanted, Range) else wanted
        found, fields, params = self._enough_schur(most, kwargs, show_progress_bar)
        if wanted is None:
            decomposition: Any = fields.get("eigendecomposition", self._results.eigendecomposition)
            wanted = decomposition["eigengap"] + 1
        number = whole_pairs(found, best_number(found, wanted) if isinstance(wanted, Range) else wanted)
        with timed(f"Computing {number} macrostates"):
            search = Search(number, optimizer)
            states, coarse = find_macrostates(
                self.adata, self.transition_matrix, found, search, n_cells, cluster_key, weight_key
            )
            given = {"n_states": number, "n_cells": n_cells, "optimizer": optimizer, "weight_key": weight_key}
            params["macrostates"] = {**given, "cluster_key": _plain_key(cluster_key)}
            self._take(params, **fields, macrostates=states, coarse=coarse)
            self._decomposed = Decomposed(found, self.transition_matrix)
        return self

    def predict_terminal_states(
        self,
        method: Literal["retention", "stability", "top_n", "eigengap", "eigengap_coarse"] | None = None,
        n_cells: int = 30,
        alpha: float | None = 1,
        stability_threshold: float | None = None,
        n_states: int | None = None,
        allow_overlap: bool = False,
    ) -> Self:
        r"""Choose terminal states among the macrostates.

        The probability of a state to stay is :math:`(T_c)_{jj}` with the coarse transition matrix :math:`T_c`. With
        :math:`\lambda_{k+1}` the first eigenvalue behind the gap, retention asks for :math:`(T_c^t)_{jj} \geq 0.6`
        after :math:`t = 1 / (1 - \lambda_{k+1})` steps, and that walks from all cells are still found there by the time
        when the state would have lost its own.

        Parameters
        ----------
        method
            ``"retention"``: those that keep most of their cells until all processes behind the eigengap are over, and
            that others come to in this time; beginnings are none. ``"stability"``: those with a probability to stay of
            at least ``stability_threshold``, 0.96 unless given. ``"top_n"``: the ``n_states`` most stable.
            ``"eigengap"``: as many of these as there are eigenvalues before the gap. ``"eigengap_coarse"``: those
            before a gap of the probabilities to stay. None: ``"stability"`` or ``"top_n"`` if their number is given,
            otherwise ``"retention"``.
        n_cells
            Number of cells that stand for each.
        alpha
            Weight of the distance from one in a gap.
        stability_threshold, n_states
            See above.
        allow_overlap
            Whether cells may stand for an initial state too.

        Returns
        -------
        The estimator, with :attr:`terminal_states`.

        Raises
        ------
        RuntimeError
            If there are no macrostates.
        ValueError
            If an argument is out of range, no state is found, or cells overlap.

        References
        ----------
        Lange et al. (2022) for stability and the eigengap; retention is our own.

        Examples
        --------
        >>> sorted(g.predict_terminal_states().terminal_states.cat.categories)
        ['Fate A', 'Fate B']
        """
        macrostates, coarse = self._require_macrostates(), self._require_coarse()
        criterion = criterion_meant(stability_threshold, n_states) if method is None else method
        check_criterion(criterion)
        if coarse is None:
            logger.warning("There is one macrostate only: it is the terminal state")
            choice = Choice(macrostates.names, "being the only one")
        else:
            decomposition = self._results.eigendecomposition
            values = None if decomposition is None else np.asarray(decomposition["D"])
            memberships = np.asarray(macrostates.memberships)
            evidence = Evidence(
                self.transition_matrix, coarse, memberships, values, alpha, stability_threshold, n_states, n_cells
            )
            choice = choose_terminal(criterion, evidence)
            logger.info("%s", explained(choice, coarse))
        params = {"method": criterion, "n_cells": n_cells, "alpha": alpha, "allow_overlap": allow_overlap}
        params |= {"stability_threshold": stability_threshold, "n_states": n_states}
        states = states_of_macrostates(macrostates, choice.names, n_cells, "top_n")
        return self._set_states("terminal", states, allow_overlap, params)

    def predict_initial_states(self, n_states: int = 1, n_cells: int = 30, allow_overlap: bool = False) -> Self:
        r"""Choose as initial states the macrostates where the process is most rarely in the long run.

        Where several are left for good, so that next to nothing of them is left, those that are entered least.

        A state is entered :math:`\sum_{i \neq j} p_i T_{ij} / (p_j (1 - T_{jj}))` times for each time that it is left,
        with the initial distribution :math:`p` over the macrostates and their transition matrix :math:`T`.

        Parameters
        ----------
        n_states
            Number of initial states.
        n_cells
            Number of cells that stand for each.
        allow_overlap
            Whether cells may stand for a terminal state too.

        Returns
        -------
        The estimator, with :attr:`initial_states`.

        Raises
        ------
        RuntimeError
            If there are no macrostates.
        ValueError
            If an argument is out of range, or cells overlap.

        References
        ----------
        Lange et al. (2022) for the long run.

        Examples
        --------
        >>> list(g.predict_initial_states().initial_states.cat.categories)
        ['Progenitor']
        """
        macrostates, coarse = self._require_macrostates(), self._require_coarse()
        check_integer("n_states", n_states, 1)
        if n_states > len(macrostates.names):
            raise ValueError(
                f"Expected `n_states` of at most the {len(macrostates.names)} macrostates, found {n_states}. Compute "
                "more by `.compute_macrostates()`."
            )
        names = macrostates.names
        if coarse is not None:
            names, reason = choose_initial(coarse, n_states)
            logger.info("    %s", reason)
        params = {"n_states": n_states, "n_cells": n_cells, "allow_overlap": allow_overlap}
        states = states_of_macrostates(macrostates, names, n_cells, "top_n")
        return self._set_states("initial", states, allow_overlap, params)

    def set_terminal_states(
        self,
        states: str | Sequence[str] | Mapping[str, Sequence[Any]] | pd.Series | None = None,
        n_cells: int = 30,
        allow_overlap: bool = False,
        cluster_key: str | Mapping[str, str] | None = None,
        weight_key: str | None = None,
        agg: Literal["top_n", "union"] = "top_n",
    ) -> Self:
        """Say which states are terminal.

        Parameters
        ----------
        states
            Names of macrostates, ``["Alpha, Beta", "Epsilon"]`` with two taken together, or :obj:`None` for all. Or
            cells: a dictionary from states to names of cells, ``{"clusters": ["Alpha", "Beta"]}`` with a key in
            ``adata.obs``, or a categorical series that is missing for cells of no state.
        n_cells
            Number of cells that stand for each, of macrostates.
        allow_overlap
            Whether cells may stand for an initial state too.
        cluster_key, weight_key
            Clusters to name states after that are given by cells; as of :meth:`compute_macrostates`.
        agg
            Which cells stand for macrostates taken together: those that belong most to all, ``"top_n"``, or those of
            each, ``"union"``.

        Returns
        -------
        The estimator, with :attr:`terminal_states`.

        Raises
        ------
        RuntimeError
            If there are no macrostates, for their names.
        KeyError, TypeError, ValueError
            If a name or a cell is unknown, cells overlap, or there are too few.

        Examples
        --------
        >>> list(g.set_terminal_states(["Fate B", "Fate A"]).terminal_states.cat.categories)
        ['Fate B', 'Fate A']
        >>> cells = {"late": adata.obs_names[adata.obs["true_time"] > 22]}
        >>> list(g.set_terminal_states(cells).terminal_states.cat.categories)
        ['late']
        """
        found = self._given_states(states, n_cells, cluster_key, weight_key, agg)
        return self._set_states("terminal", found, allow_overlap, {"n_cells": n_cells, "allow_overlap": allow_overlap})

    def set_initial_states(
        self,
        states: str | Sequence[str] | Mapping[str, Sequence[Any]] | pd.Series | None = None,
        n_cells: int = 30,
        allow_overlap: bool = False,
        cluster_key: str | Mapping[str, str] | None = None,
        weight_key: str | None = None,
        agg: Literal["top_n", "union"] = "top_n",
    ) -> Self:
        """Say which states are initial.

        Parameters
        ----------
        states, n_cells, cluster_key, weight_key, agg
            As of :meth:`set_terminal_states`.
        allow_overlap
            Whether cells may stand for a terminal state too.

        Returns
        -------
        The estimator, with :attr:`initial_states`.

        Raises
        ------
        RuntimeError, KeyError, TypeError, ValueError
            As :meth:`set_terminal_states` does.

        Examples
        --------
        >>> list(g.set_initial_states(["Progenitor"]).initial_states.cat.categories)
        ['Progenitor']
        """
        found = self._given_states(states, n_cells, cluster_key, weight_key, agg)
        return self._set_states("initial", found, allow_overlap, {"n_cells": n_cells, "allow_overlap": allow_overlap})

    def rename_terminal_states(self, old_new: Mapping[str, str]) -> Self:
        """Give terminal states other names; fates are removed, as for other states.

        Parameters
        ----------
        old_new
            New names by the old ones, ``{"Alpha": "alpha cells"}``; others stay.

        Returns
        -------
        The estimator, with :attr:`terminal_states` renamed.

        Raises
        ------
        RuntimeError
            If there are no terminal states.
        TypeError, ValueError
            If ``old_new`` is no dictionary, an old name is unknown, or a name would be there twice.

        Examples
        --------
        >>> list(g.rename_terminal_states({"Fate A": "Alpha"}).terminal_states.cat.categories)
        ['Alpha', 'Fate B']
        """
        return self._rename_states("terminal", old_new)

    def rename_initial_states(self, old_new: Mapping[str, str]) -> Self:
        """Give initial states other names.

        Parameters
        ----------
        old_new
            New names by the old ones; others stay.

        Returns
        -------
        The estimator, with :attr:`initial_states` renamed.

        Raises
        ------
        RuntimeError, TypeError, ValueError
            As :meth:`rename_terminal_states` does.

        Examples
        --------
        >>> g = g.set_initial_states(["Progenitor"]).rename_initial_states({"Progenitor": "Root"})
        >>> list(g.initial_states.cat.categories)
        ['Root']
        """
        return self._rename_states("initial", old_new)

    def compute_fate_probabilities(
        self,
        keys: Sequence[str] | None = None,
        solver: str = "gmres",
        use_petsc: bool | None = None,
        n_jobs: int | None = None,
        backend: str | None = None,
        show_progress_bar: bool = True,
        tol: float = 1e-6,
        preconditioner: str | None = None,
        check_sum_tol: float = 1e-3,
    ) -> Self:
        r"""Compute the probability of each cell to end in each terminal state.

        .. math:: F_{ik} = \sum_j T_{ij} F_{jk}, \qquad F_{ik} = \delta_{kl} \text{ for cells } i \text{ of state } l;

        see :func:`jaxvelo.markov.absorption_probabilities`.

        Parameters
        ----------
        keys
            Names of terminal states, ``["Alpha, Beta"]`` with two taken together; all if :obj:`None`. Others are cells
            like all others then.
        solver, use_petsc, n_jobs, backend, preconditioner
            Accepted for scripts written for CellRank, and without effect.
        show_progress_bar
            Whether to show a bar, in equations, if it takes longer than a second.
        tol
            Largest error of a probability.
        check_sum_tol
            Largest difference of a cell's probabilities from the sum one.

        Returns
        -------
        The estimator, with :attr:`fate_probabilities`.

        Raises
        ------
        RuntimeError
            If there are no terminal states.
        KeyError, ValueError
            If a name is unknown, a tolerance is out of range, or a cell reaches no terminal state.
        ArithmeticError
            If the probabilities are not known within the tolerances.

        Examples
        --------
        >>> fates = g.compute_fate_probabilities().fate_probabilities
        >>> fates.names.tolist(), bool(np.allclose(fates.sum(axis=1), 1))
        (['Fate A', 'Fate B'], True)
        """
        check_solver(solver)
        ignore_arguments(use_petsc=use_petsc, n_jobs=n_jobs, backend=backend, preconditioner=preconditioner)
        states = self._ends(keys)
        with timed("Computing fate probabilities"):
            found = fates_of(self.transition_matrix, states, tol, check_sum_tol, show_progress_bar)
            params = {"keys": plain_names(keys), "tol": tol, "check_sum_tol": check_sum_tol}
            params["names"] = found.names.tolist()
            self._take({"fate_probabilities": params}, fate_probabilities=found)
        return self

    def compute_absorption_times(
        self,
        keys: Sequence[str] | None = None,
        calculate_variance: bool = False,
        solver: str = "gmres",
        use_petsc: bool | None = None,
        n_jobs: int | None = None,
        backend: str | None = None,
        show_progress_bar: bool = True,
        tol: float = 1e-6,
        preconditioner: str | None = None,
    ) -> Self:
        """Compute how many steps each cell takes to each terminal state, given that it ends there.

        See :func:`jaxvelo.markov.absorption_times` for the equations.

        Parameters
        ----------
        keys
            As of :meth:`compute_fate_probabilities`.
        calculate_variance
            Whether to give their variance too.
        solver, use_petsc, n_jobs, backend, preconditioner
            Accepted for scripts written for CellRank, and without effect.
        show_progress_bar
            Whether to show a bar, in equations, if it takes longer than a second.
        tol
            Largest relative error.

        Returns
        -------
        The estimator, with :attr:`absorption_times`.

        Raises
        ------
        RuntimeError, KeyError, ValueError, ArithmeticError
            As :meth:`compute_fate_probabilities` does.

        Examples
        --------
        >>> steps = g.compute_absorption_times().absorption_times
        >>> list(steps.columns)
        ['Fate A_mean', 'Fate B_mean']
        """
        check_solver(solver)
        ignore_arguments(use_petsc=use_petsc, n_jobs=n_jobs, backend=backend, preconditioner=preconditioner)
        states = self._ends(keys)
        with timed("Computing absorption times"):
            found = times_of(self.transition_matrix, states, tol, calculate_variance, show_progress_bar)
            params = {"keys": plain_names(keys), "calculate_variance": calculate_variance, "tol": tol}
            self._take({"absorption_times": params}, absorption_times=found)
        return self

    def fit(
        self,
        n_states: int | Sequence[int] | None = None,
        n_cells: int | None = 30,
        cluster_key: str | Mapping[str, str] | None = None,
        weight_key: str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Compute Schur vectors and macrostates, as :meth:`compute_macrostates` does.

        Parameters
        ----------
        n_states, n_cells, cluster_key, weight_key, **kwargs
            As of :meth:`compute_macrostates`.

        Returns
        -------
        The estimator, with :attr:`macrostates`.

        Raises
        ------
        KeyError, TypeError, ValueError, ArithmeticError
            As :meth:`compute_macrostates` does.

        Examples
        --------
        >>> sorted(g.fit(n_states=3, cluster_key="clusters").macrostates.cat.categories)
        ['Fate A', 'Fate B', 'Progenitor']
        """
        return self.compute_macrostates(n_states, n_cells, cluster_key, weight_key, **kwargs)

    def predict(self, *args: Any, **kwargs: Any) -> Self:
        """Choose terminal states, as :meth:`predict_terminal_states` does.

        Parameters
        ----------
        *args, **kwargs
            As of :meth:`predict_terminal_states`.

        Returns
        -------
        The estimator, with :attr:`terminal_states`.

        Raises
        ------
        RuntimeError, ValueError
            As :meth:`predict_terminal_states` does.

        Examples
        --------
        >>> sorted(g.predict(method="top_n", n_states=2).terminal_states.cat.categories)
        ['Fate A', 'Fate B']
        """
        return self.predict_terminal_states(*args, **kwargs)

    def _require_coarse(self) -> CoarseChain | None:
        """The macrostates as a chain, ``None`` for a single one; says if they are of another transition matrix."""
        if self._decomposed is not None and not self._decomposed.is_of(self.transition_matrix):
            logger.warning(
                "The macrostates are those of another transition matrix than the kernel has now. Compute them anew by "
                "`.compute_macrostates()`"
            )
        coarse, number = self._results.coarse, len(self._require_macrostates().names)
        if coarse is None and number > 1:
            raise RuntimeError(
                f"Expected the transition matrix of the {number} macrostates in `adata.uns[{self._keys.coarse!r}]`, "
                "found none. Compute them anew by `.compute_macrostates()`, or set the states by their names."
            )
        return coarse

    def _given_states(self, states: Any, n_cells: int, cluster_key: Any, weight_key: Any, agg: str) -> States:
        if isinstance(states, pd.Series | Mapping):
            return states_of_cells(self.adata, states, cluster_key, weight_key)
        return states_of_macrostates(self._require_macrostates(), states, n_cells, agg)

    def _set_states(self, kind: str, states: States, allow_overlap: bool, params: dict[str, Any]) -> Self:
        other = "initial" if kind == "terminal" else "terminal"
        if not allow_overlap:
            check_overlap(states, getattr(self._results, f"{other}_states"), (kind, other))
        name = f"{kind}_states"
        self._take({name: params}, **{name: states})
        return self

    def _rename_states(self, kind: str, new_names: Mapping[str, str]) -> Self:
        name = f"{kind}_states"
        states = getattr(self._results, name)
        if states is None:
            raise RuntimeError(f"Compute {kind} states first as `.predict_{name}()` or `.set_{name}()`.")
        check_renaming(states, new_names, kind)
        if not new_names:
            return self
        renamed = {old: text_of(new) for old, new in new_names.items()}
        self._take({name: self._results.params.get(name, {})}, **{name: states.renamed(renamed)})
        return self

    def _ends(self, keys: Any) -> States:
        """Terminal states that a user names, all if ``None``."""
        states = self._results.terminal_states
        if states is None:
            raise RuntimeError(
                "Compute terminal states first as `.predict_terminal_states()` or `.set_terminal_states()`."
            )
        wanted = states.names if keys is None else [keys] if isinstance(keys, str) else list(keys)
        if not wanted:
            raise ValueError(
                f"Expected names of terminal states in `keys`, found none. There are {listed(states.names)}."
            )
        return states.chosen(wanted)


def _plain_key(key: Any) -> Any:
    return dict(key) if isinstance(key, Mapping) else key
