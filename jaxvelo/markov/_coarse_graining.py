"""Macrostates: memberships of cells in few states between which a chain moves slowly."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.optimize import fmin

from jaxvelo.graph._host import call_on_host
from jaxvelo.graph._precision import full_precision
from jaxvelo.markov._enclosing_simplex import ROUNDING, enclosing_simplex, inner_simplex
from jaxvelo.markov._schur import Schur

Method = Literal["gradient", "nelder-mead"]
EFFORT = 2000


class CoarseGraining(NamedTuple):
    r"""A chain of few states in place of many cells.

    Attributes
    ----------
    memberships
        :math:`\chi = X A`, how much each cell belongs to each state, shape ``(cells, states)``. They sum to one, and
        are not negative: what is by rounding, above -1e-9 (in single precision -1e-5), was set to zero.
    rotation
        :math:`A`, shape ``(states, states)``.
    transition_matrix
        :math:`(\chi^T D \chi)^{-1} \chi^T D T \chi = A^{-1} R A`, with :math:`D` the initial distribution on the
        diagonal, shape ``(states, states)``. Rows sum to one; entries may be negative, as the states overlap.
    stationary
        :math:`\eta^T T^\infty \chi`, how much of the long-run distribution that comes from the initial one each state
        holds, shape ``(states,)``; known as well as :attr:`Schur.long_run` is.
    initial
        :math:`\chi^T \eta`, the same for the initial distribution.
    crispness
        Mean self-overlap of the states,
        :math:`\sum_j (\chi^T D \chi)_{jj} / (\chi^T \eta)_j / m`, between 0 and 1: 1 if each cell belongs to one state.
    min_chi
        Smallest membership of the inner simplex, see :func:`min_chi`.
    smallest_membership
        Before what is negative was set to zero.
    row_sum_defect
        Largest difference of a cell's memberships from the sum one.

    Examples
    --------
    >>> chain = sp.csr_matrix([[0.5, 0.49, 0.01, 0], [0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5], [0.01, 0, 0.49, 0.5]])
    >>> coarse = jv.markov.coarse_grain(jv.markov.schur(chain, 2), n_states=2)
    >>> coarse.memberships.shape, coarse.transition_matrix.sum(axis=1).round(6).tolist(), bool(coarse.crispness > 0.9)
    ((4, 2), [1.0, 1.0], True)
    """

    memberships: Any
    rotation: Any
    transition_matrix: Any
    stationary: Any
    initial: Any
    crispness: Any
    min_chi: Any
    smallest_membership: Any
    row_sum_defect: Any


def coarse_grain(
    schur: Schur,
    n_states: int,
    *,
    method: Method = "gradient",
    effort: int = EFFORT,
) -> CoarseGraining:
    r"""Macrostates by PCCA+: the crispest memberships that are combinations of the leading Schur vectors.

    Memberships :math:`\chi = X A` that are not negative and sum to one, with the largest crispness. Each of their
    columns is zero on as many cells as it has degrees of freedom, since the crispness is convex, and these cells
    determine :math:`A`; so derivatives are solutions of linear equations.

    With more than about six states, several memberships may be almost equally crisp, and which of them is the crispest
    may depend on the last digits of the vectors: look at the macrostates of neighbouring numbers too.

    NumPy arrays are computed on the host. With JAX arrays, the memberships are found on the host in double precision,
    and all results can be differentiated by the Schur vectors, their matrix and the distributions, any number of times,
    also in compiled programs.

    Parameters
    ----------
    schur
        Leading Schur vectors, at least as many as there are states.
    n_states
        Number of states :math:`m`.
    method
        ``"gradient"`` searches the corners of what is feasible, for up to about five states all of them.
        ``"nelder-mead"`` starts from the inner simplex and stops where :func:`scipy.optimize.fmin` does, as pyGPCCA's
        do: before the optimum, the more so the more states there are; for NumPy arrays alone.
    effort
        Of the functions that may become memberships, the neighbours of so many are looked at, at most, by
        ``"gradient"``. Up to about ten states need less; for more, less effort finds less crisp states sooner.

    Returns
    -------
    CoarseGraining
        The states, the largest first. Where an error is raised for NumPy arrays because of their numbers, compiled
        programs get NaN.

    Raises
    ------
    ValueError
        If there is no such method, if there are fewer vectors than states, if a pair of conjugate eigenvalues would be
        split, if there are fewer different cells than states or the crispest memberships leave a state empty, or for
        Nelder-Mead with JAX arrays.

    References
    ----------
    Röblitz & Weber (2013), Fuzzy spectral clustering by PCCA+, Adv. Data Anal. Classif. 7:147. Reuter et al. (2018),
    Generalized Markov state modeling method for nonequilibrium processes, J. Chem. Theory Comput. 14:3579.

    Examples
    --------
    >>> chain = sp.csr_matrix([[0.5, 0.49, 0.01, 0], [0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5], [0.01, 0, 0.49, 0.5]])
    >>> coarse = jv.markov.coarse_grain(jv.markov.schur(chain, 2), n_states=2)
    >>> states = coarse.memberships.argmax(axis=1)
    >>> bool(states[0] == states[1] != states[2] == states[3])
    True
    """
    if method not in get_args(Method):
        raise ValueError(f"Expected `method` to be one of {list(get_args(Method))}, found `{method!r}`.")
    _check_n_states(schur.matrix, n_states)
    vectors, matrix = schur.vectors[:, :n_states], schur.matrix[:n_states, :n_states]
    long_run = schur.long_run[:n_states]
    if isinstance(vectors, jax.Array):
        if method == "nelder-mead":
            raise ValueError("Nelder-Mead has no derivatives: pass Schur vectors as NumPy arrays.")
        return _coarse_grain_jax(vectors, matrix, schur.matrix, schur.initial_distribution, long_run, effort)
    inner = inner_simplex(vectors[:, 1:])
    try:
        if method == "nelder-mead":
            rotation = _nelder_mead(vectors, np.linalg.inv(vectors[inner]))
        else:
            rotation, _ = _crispest(vectors, effort)
    except (ArithmeticError, np.linalg.LinAlgError) as error:
        raise ValueError(
            f"Expected cells that can be told apart into {n_states} states by as many Schur vectors. {error} "
            "Ask for another number of states."
        ) from error
    return _results(vectors, matrix, schur.initial_distribution, long_run, rotation, inner)


def min_chi(schur: Schur, n_states: Sequence[int]) -> Float[np.ndarray, " counts"]:
    r"""How far the cells lie outside of the inner simplex, for several numbers of states.

    The smallest entry of :math:`X X_I^{-1}`, with the m cells :math:`I` that span the largest simplex, found one by
    one: zero if the cells fill it, negative otherwise. Numbers of states with a value close to zero fit the chain.

    Parameters
    ----------
    schur
        Leading Schur vectors as NumPy arrays.
    n_states
        Numbers of states, at most as many as there are vectors.

    Returns
    -------
    numpy.ndarray
        One number for each. NaN where the number would split a pair of conjugate eigenvalues, or the vectors do not
        tell so many cells apart.

    References
    ----------
    Röblitz & Weber (2013), section 4. Reuter et al. (2018), section 3.

    Examples
    --------
    >>> chain = sp.csr_matrix([[0.5, 0.49, 0.01, 0], [0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5], [0.01, 0, 0.49, 0.5]])
    >>> (jv.markov.min_chi(jv.markov.schur(chain, 3), [2, 3]) > -1e-6).tolist()  # two states fit, three do not
    [True, False]
    """
    found = np.full(len(n_states), np.nan)
    for place, count in enumerate(n_states):
        if not _splits_pair(schur.matrix, count):
            vectors = schur.vectors[:, :count]
            with contextlib.suppress(np.linalg.LinAlgError):
                found[place] = _min_chi(vectors, inner_simplex(vectors[:, 1:]))
    return found


def _splits_pair(matrix: Any, n_states: int) -> Any:
    return matrix[n_states, n_states - 1] != 0 if n_states < len(matrix) else False


def _check_n_states(matrix: Any, n_states: int) -> None:
    if not 1 <= n_states <= len(matrix):
        raise ValueError(f"Expected from 1 to {len(matrix)} states, as there are Schur vectors, found {n_states}.")
    if not isinstance(matrix, jax.core.Tracer) and _splits_pair(np.asarray(matrix), n_states):
        more = f" or {n_states + 1}" if n_states < len(matrix) else ""
        raise ValueError(
            f"{n_states} states would split a pair of conjugate eigenvalues. Ask for {n_states - 1}{more} states."
        )


def _results(vectors, matrix, initial, long_run, rotation, inner) -> CoarseGraining:
    xp = vectors.__array_namespace__()
    memberships = vectors @ rotation
    smallest = memberships.min()
    rounding = max(ROUNDING, 100 * float(xp.finfo(vectors.dtype).eps))
    memberships = xp.where((memberships < 0) & (memberships > -rounding), 0, memberships)
    return CoarseGraining(
        memberships=memberships,
        rotation=rotation,
        transition_matrix=xp.linalg.solve(rotation, matrix @ rotation),
        stationary=long_run @ rotation,
        initial=initial @ memberships,
        crispness=((rotation**2).sum(axis=0) / rotation[0]).mean(),
        min_chi=_min_chi(vectors, inner),
        smallest_membership=smallest,
        row_sum_defect=xp.abs(memberships.sum(axis=1) - 1).max(),
    )


def _min_chi(vectors: Any, inner: Any) -> Any:
    xp = vectors.__array_namespace__()
    return (vectors @ xp.linalg.inv(vectors[inner])).min()


@full_precision
def _coarse_grain_jax(vectors, matrix, whole, initial, long_run, effort: int) -> CoarseGraining:
    found = _find(vectors, effort)
    splits = _splits_pair(whole, vectors.shape[1])
    rotation = jnp.where(splits, jnp.nan, found.rotation)
    return _results(vectors, matrix, initial, long_run, rotation, found.inner)


class _Found(NamedTuple):
    rotation: Any
    faces: Any
    inner: Any


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _find(vectors: Float[Array, "cells states"], effort: int) -> _Found:
    def on_host(vectors: np.ndarray) -> _Found:
        exact = vectors.astype(np.float64)
        inner = inner_simplex(exact[:, 1:])
        try:
            return _Found(*_crispest(exact, effort), inner)
        except ArithmeticError:
            m = exact.shape[1]
            return _Found(np.full((m, m), np.nan), np.zeros((m, m - 1), dtype=np.int32), inner)

    m = vectors.shape[1]
    results: Any = _Found(
        jax.ShapeDtypeStruct((m, m), vectors.dtype),
        jax.ShapeDtypeStruct((m, m - 1), jnp.int32),
        jax.ShapeDtypeStruct((m,), jnp.int32),
    )
    return call_on_host(on_host, results, vectors)


@_find.defjvp
@full_precision
def _find_jvp(effort, primals, tangents):
    r"""Column j of the rotation stays zero on the cells of face j, and the columns keep their sum.

    With :math:`X_j` the rows of these cells, :math:`X_j \dot a_j = -\dot X_j a_j` and :math:`\sum_j \dot a_j = 0`. Any
    solution of the first is :math:`p_j + t_j a_j`; the second is :math:`A t = -\sum_j p_j`.
    """
    (vectors,), (moved,) = primals, tangents
    found = _find(vectors, effort)
    columns = found.rotation.T
    change = -jnp.einsum("jkl,jl->jk", moved[found.faces], columns)
    particular = jnp.linalg.solve(vectors[found.faces][:, :, 1:], change[:, :, None])[:, :, 0]
    particular = jnp.pad(particular, ((0, 0), (1, 0)))
    along = jnp.linalg.solve(found.rotation, -particular.sum(axis=0))
    still = np.zeros(found.faces.shape, jax.dtypes.float0), np.zeros(found.inner.shape, jax.dtypes.float0)
    return found, _Found((particular + along[:, None] * columns).T, *still)


def _crispest(vectors: np.ndarray, effort: int) -> tuple[np.ndarray, np.ndarray]:
    """The rotation with the largest crispness, and the cells on which each of its columns is zero."""
    n_states = vectors.shape[1]
    if n_states == 1:
        return np.ones((1, 1)), np.zeros((1, 0), dtype=np.int32)
    points = np.ascontiguousarray(vectors[:, 1:])
    faces = enclosing_simplex(points, effort)
    corners = np.linalg.solve(points[faces], -vectors[faces][:, :, :1])[:, :, 0]
    columns = np.column_stack([np.ones(n_states), corners]).T
    weights = np.linalg.solve(columns, np.eye(n_states)[0])
    order = np.argsort(-weights, kind="stable")
    return (columns * weights)[:, order], faces[order].astype(np.int32)


def _nelder_mead(vectors: np.ndarray, start: np.ndarray) -> np.ndarray:
    r"""Search of the free entries of the rotation, :math:`A_{ij}` with :math:`i, j > 1`, without derivatives."""
    n_states = len(start)
    if n_states == 1:
        return np.ones((1, 1))

    def fill(free: np.ndarray) -> np.ndarray:
        rotation = np.empty((n_states, n_states))
        rotation[1:, 1:] = free.reshape(n_states - 1, n_states - 1)
        rotation[1:, 0] = -rotation[1:, 1:].sum(axis=1)
        rotation[0] = -(vectors[:, 1:] @ rotation[1:]).min(axis=0)
        return rotation / rotation[0].sum()

    def fuzziness(free: np.ndarray) -> float:
        rotation = fill(free)
        return n_states - float(((rotation**2).sum(axis=0) / rotation[0]).sum())

    return fill(fmin(fuzziness, start[1:, 1:].ravel(), disp=False))
