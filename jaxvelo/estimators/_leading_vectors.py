"""Leading eigenvalues and Schur vectors of a kernel's transition matrix: what macrostates are made of."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Self

import numpy as np
import scipy.sparse as sp

from jaxvelo.annotated.arguments import check_integer, listed
from jaxvelo.configuration import ignore_arguments, logger, timed
from jaxvelo.estimators._estimator import Estimator
from jaxvelo.estimators._macrostate_search import numbers_that_split
from jaxvelo.estimators._spectrum import (
    LEAST_COMPONENTS,
    check_alpha,
    eigendecomposition,
    find_schur,
    schur_eigenvalues,
)
from jaxvelo.markov import Schur

TOLERANCE = 1e-6
"""So far apart may equal Schur vectors be, whose entries are about one."""


class Decomposed(NamedTuple):
    """Schur vectors, and the transition matrix that they are of."""

    schur: Schur
    matrix: sp.csr_matrix

    def is_of(self, matrix: sp.csr_matrix) -> bool:
        """Whether they are those of a matrix."""
        a, b = self.matrix, matrix
        return a is b or all(
            np.array_equal(getattr(a, part), getattr(b, part)) for part in ("indptr", "indices", "data")
        )


def agree(vectors: np.ndarray, schur: Schur, n_states: int) -> bool:
    """Whether so many macrostates of some Schur vectors are those of others.

    Then what the first ones span is the same, and so are the weights of the cells for which they are orthonormal.
    """
    a, b = np.asarray(schur.vectors)[:, :n_states], vectors[:, :n_states]
    if a.shape != b.shape:
        return False
    rotation = (a * np.asarray(schur.initial_distribution)[:, None]).T @ b
    is_orthogonal = np.allclose(rotation.T @ rotation, np.eye(n_states), rtol=0, atol=TOLERANCE)
    return is_orthogonal and np.allclose(a @ rotation, b, rtol=0, atol=TOLERANCE)


class LeadingVectors(Estimator):
    """Methods that compute eigenvalues and Schur vectors."""

    def __init__(self, object: Any, **kwargs: Any):
        super().__init__(object, **kwargs)
        self._decomposed: Decomposed | None = None

    def compute_schur(
        self,
        n_components: int = LEAST_COMPONENTS,
        initial_distribution: Any = None,
        method: Literal["krylov", "brandts"] = "krylov",
        which: Literal["LR", "LM"] = "LR",
        alpha: float = 1.0,
        verbose: bool | None = None,
        *,
        show_progress_bar: bool = True,
    ) -> Self:
        r"""Compute leading real Schur vectors of the transition matrix, and their eigenvalues.

        .. math:: T X = X R, \qquad X^\top \mathrm{diag}(\eta) X = 1

        with the initial distribution :math:`\eta` and triangular :math:`R`, but for blocks of two rows on its diagonal,
        one for each pair of complex eigenvalues; see :func:`jaxvelo.markov.schur`.

        Parameters
        ----------
        n_components
            Number of vectors. There is one more where the last would be half of a pair of conjugate eigenvalues.
        initial_distribution
            Positive weight of each cell; equal ones if :obj:`None`.
        method
            Accepted for scripts written for CellRank, where ``"brandts"`` makes the matrix dense; one method here.
        which
            The largest real parts, ``"LR"``, or magnitudes, ``"LM"``.
        alpha
            Weight of the distance of an eigenvalue from one in the eigengap.
        verbose
            Without effect.
        show_progress_bar
            Whether to show a bar, in products with the matrix, if it takes longer than a second.

        Returns
        -------
        The estimator, with :attr:`schur_vectors`, :attr:`schur_matrix` and :attr:`eigendecomposition`.

        Raises
        ------
        ValueError
            If an argument is out of range.
        ArithmeticError
            If not so many vectors are found.

        Examples
        --------
        >>> g.compute_schur(n_components=10).schur_vectors.shape
        (150, 10)
        """
        if method not in ("krylov", "brandts"):
            raise ValueError(f"Expected `method` to be 'krylov' or 'brandts', found `{method!r}`.")
        ignore_arguments(method=None if method == "krylov" else method, verbose=verbose)
        with timed("Computing Schur decomposition"):
            found, fields, params = self._find_schur(
                n_components, initial_distribution, which, alpha, show_progress_bar
            )
            self._take(params, **self._outdated(found), **fields)
            self._decomposed = Decomposed(found, self.transition_matrix)
        split = numbers_that_split(found)
        if split:
            logger.info("    these numbers of macrostates would split pairs of conjugate eigenvalues: %s", split)
        return self

    def compute_eigendecomposition(
        self,
        k: int = 20,
        which: Literal["LR", "LM"] = "LR",
        alpha: float = 1.0,
        only_evals: bool = False,
        ncv: int | None = None,
    ) -> Self:
        r"""Compute leading eigenvalues of the transition matrix, with left and right eigenvectors.

        :math:`T V_r = V_r D` and :math:`T^\top V_l = V_l D` with the diagonal matrix :math:`D` of the eigenvalues.

        Parameters
        ----------
        k
            Number of eigenvalues.
        which, alpha
            As of :meth:`compute_schur`.
        only_evals
            Whether to leave out eigenvectors and stationary distribution.
        ncv
            Without effect.

        Returns
        -------
        The estimator, with :attr:`eigendecomposition`.

        Raises
        ------
        ValueError
            If an argument is out of range.
        ArithmeticError
            If not all eigenvalues are found.

        Examples
        --------
        >>> found = g.compute_eigendecomposition(k=5).eigendecomposition
        >>> round(float(found["D"][0].real), 3)
        1.0
        """
        ignore_arguments(ncv=ncv)
        with timed("Computing eigendecomposition of the transition matrix"):
            found = eigendecomposition(self.transition_matrix, k, which, alpha, only_evals)
            self._take({"eigendecomposition": found["params"]}, eigendecomposition=found)
        return self

    def _find_schur(
        self, n_components: int, initial_distribution: Any, which: Any, alpha: Any, shows_progress: bool
    ) -> tuple[Schur, dict[str, Any], dict[str, Any]]:
        """Schur vectors, as they are, as results, and with the parameters of these."""
        names = self.adata.obs_names
        found = find_schur(self.transition_matrix, n_components, which, initial_distribution, names, shows_progress)
        eigenvalues = schur_eigenvalues(found, which, check_alpha(alpha))
        fields = {
            "schur_vectors": np.asarray(found.vectors),
            "schur_matrix": np.asarray(found.matrix),
            "eigendecomposition": eigenvalues,
        }
        params = {"n_components": n_components, "which": which, "alpha": alpha}
        if initial_distribution is not None:
            params["initial_distribution"] = np.asarray(found.initial_distribution)
        return found, fields, {"schur_vectors": params, "eigendecomposition": eigenvalues["params"]}

    def _enough_schur(
        self, n_states: int, given: dict[str, Any], shows_progress: bool
    ) -> tuple[Schur, dict[str, Any], dict[str, Any]]:
        """Schur vectors for so many states: those that are there, or new ones, with the results to write."""
        needed = min(n_states, len(self))
        if self._decomposed is not None and not given:
            if not self._decomposed.is_of(self.transition_matrix):
                logger.info("    the transition matrix is another than before: computing its Schur vectors")
            elif len(self._decomposed.schur.matrix) >= needed:
                return self._decomposed.schur, {}, {}
        known = ("n_components", "initial_distribution", "method", "which", "alpha", "verbose")
        unknown = [name for name in given if name not in known]
        if unknown:
            raise TypeError(
                f"Expected arguments of `compute_schur`, found {listed(unknown)}. There are {listed(known)}."
            )
        before = self._results.params.get("schur_vectors", {})
        options = {name: given.get(name, before.get(name)) for name in ("initial_distribution", "which", "alpha")}
        number = given.get("n_components", min(LEAST_COMPONENTS, len(self)))
        check_integer("n_components", number, 1)
        return self._find_schur(
            max(needed, number),
            options["initial_distribution"],
            "LR" if options["which"] is None else options["which"],
            1.0 if options["alpha"] is None else options["alpha"],
            shows_progress,
        )

    def _outdated(self, found: Schur) -> dict[str, None]:
        """Results of other leading Schur vectors than these."""
        macrostates, before = self._results.macrostates, self._results.schur_vectors
        if macrostates is None or before is None or agree(before, found, len(macrostates.names)):
            return {}
        return {"macrostates": None}
