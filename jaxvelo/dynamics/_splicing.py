r"""Transcription, splicing and degradation of one gene that is switched on once and off once, in closed form.

.. math:: \dot u = \alpha - \beta u, \qquad \dot s = \beta u - \gamma s,

with transcription rate :math:`\alpha` until the switching time :math:`T` and 0 after it, from :math:`u = s = 0`. Times
and rates have any unit, as long as it is the same for both.
"""

from types import ModuleType
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxvelo.dynamics._gene_blocks import gene_blocks


def decay_difference(
    tau: Float[Any, "*#shape"], beta: Float[Any, "*#shape"], gamma: Float[Any, "*#shape"], *, xp: ModuleType = jnp
) -> Float[Any, "*shape"]:
    r"""Compute :math:`(e^{-\gamma\tau} - e^{-\beta\tau}) / (\beta - \gamma)`, the way from unspliced to spliced.

    That is the convolution of both decays. Written as
    :math:`\tau e^{-m\tau} (1 - e^{-x}) / x` with :math:`m = \min(\beta, \gamma)`, :math:`x = |\beta - \gamma| \tau`,
    it needs no difference of nearly equal numbers, overflows nowhere, and has its limit :math:`\tau e^{-\beta\tau}`
    and right derivatives at :math:`\beta = \gamma`.

    Parameters
    ----------
    tau
        Time since the last switch, of any shape, not negative.
    beta, gamma
        Rates of splicing and degradation, positive, per unit of time. All three broadcast.
    xp
        Module of the functions of arrays, ``jax.numpy`` or ``numpy``.

    Returns
    -------
    array of ``xp``
        Values in the unit of time.

    Examples
    --------
    >>> gamma = np.array([2.0, 1.0])
    >>> jv.dynamics.decay_difference(np.ones(2), np.ones(2), gamma, xp=np).round(4).tolist()  # the second is exp(-1)
    [0.2325, 0.3679]
    """
    # Selected together, so that at equal rates the derivative is that of one formula, not a mean over ties.
    splicing_slower = beta <= gamma
    slower = xp.where(splicing_slower, beta, gamma)
    x = xp.where(splicing_slower, gamma - beta, beta - gamma) * tau
    return tau * xp.exp(-slower * tau) * mean_decay(x, xp=xp)


def mean_decay(x: Float[Any, "*shape"], *, xp: ModuleType = jnp) -> Float[Any, "*shape"]:
    r"""Compute :math:`(1 - e^{-x}) / x`, the mean of :math:`e^{-y}` for :math:`y` from 0 to :math:`x`, and its limit 1.

    Parameters
    ----------
    x
        Not negative.
    xp
        Module of the functions of arrays, ``jax.numpy`` or ``numpy``.
    """
    small = x < 1e-2
    x_near, x_away = xp.where(small, x, 0.0), xp.where(small, 1.0, x)
    # The gradient of the quotient loses digits near 0, so that the series takes over.
    series = 1 + x_near * (-1 / 2 + x_near * (1 / 6 + x_near * (-1 / 24 + x_near * (1 / 120 - x_near / 720))))
    return xp.where(small, series, -xp.expm1(-x_away) / x_away)


def splicing_solution(
    tau: Float[Any, "*#shape"],
    unspliced: Float[Any, "*#shape"],
    spliced: Float[Any, "*#shape"],
    alpha: Float[Any, "*#shape"],
    beta: Float[Any, "*#shape"],
    gamma: Float[Any, "*#shape"],
    *,
    xp: ModuleType = jnp,
) -> tuple[Float[Any, "*shape"], Float[Any, "*shape"]]:
    r"""Unspliced and spliced molecules at time :math:`\tau` after they were :math:`u_0, s_0`.

    .. math::
        u &= u_0 e^{-\beta\tau} + \tfrac{\alpha}{\beta} (1 - e^{-\beta\tau}), \\
        s &= s_0 e^{-\gamma\tau} + \tfrac{\alpha}{\gamma} (1 - e^{-\gamma\tau})
             - (\alpha - \beta u_0) \frac{e^{-\gamma\tau} - e^{-\beta\tau}}{\beta - \gamma}.

    Parameters
    ----------
    tau
        Time, of any shape, not negative.
    unspliced, spliced
        :math:`u_0` and :math:`s_0`, in molecules.
    alpha, beta, gamma
        Rates of transcription (molecules per time), splicing and degradation (per time). All arguments broadcast.
    xp
        Module of the functions of arrays: ``jax.numpy``; or ``numpy``, for double precision whatever JAX is set to,
        without compiling anything.

    Returns
    -------
    tuple of arrays of ``xp``
        :math:`u` and :math:`s`; finite, and differentiable in everything, at :math:`\beta = \gamma` too.

    References
    ----------
    Bergen et al. (2020), equations (2) and (3).

    Examples
    --------
    >>> times = np.array([0.0, 1.0, 100.0])
    >>> u, s = jv.dynamics.splicing_solution(times, 0.0, 0.0, alpha=2.0, beta=1.0, gamma=0.5, xp=np)
    >>> u.round(2).tolist(), s.round(2).tolist()  # towards alpha / beta and alpha / gamma
    ([0.0, 1.26, 2.0], [0.0, 0.62, 4.0])
    """
    new_unspliced, new_spliced = -xp.expm1(-beta * tau) / beta, -xp.expm1(-gamma * tau) / gamma
    u = unspliced * xp.exp(-beta * tau) + alpha * new_unspliced
    mixed = (alpha - beta * unspliced) * decay_difference(tau, beta, gamma, xp=xp)
    s = spliced * xp.exp(-gamma * tau) + alpha * new_spliced - mixed
    return u, s


class SplicingKinetics(eqx.Module):
    r"""Rates of genes, and what follows from them at given times.

    Attributes
    ----------
    alpha
        Transcription rate while switched on, :math:`\alpha`, of shape (genes,), in spliced counts per time.
    beta, gamma
        Rates of splicing and degradation, of shape (genes,), per time.
    switching_time
        Time :math:`T` from switching on to switching off, of shape (genes,).
    scaling
        Observed unspliced counts for one unspliced molecule of the model, of shape (genes,): the model's molecules
        have the unit of observed spliced counts, and unspliced ones are captured with another efficiency.

    Examples
    --------
    >>> alpha, beta, gamma, switching_time, scaling = jnp.array([[2.0], [1.0], [0.5], [3.0], [1.0]])
    >>> kinetics = jv.dynamics.SplicingKinetics(alpha, beta, gamma, switching_time, scaling)
    >>> u, s = kinetics.state(jnp.array([[0.0], [3.0], [9.0]]))  # at the start, at the switch, and later
    >>> np.asarray(u[:, 0], float).round(2).tolist(), np.asarray(s[:, 0], float).round(2).tolist()
    ([0.0, 1.9, 0.0], [0.0, 2.41, 0.3])
    """

    alpha: Float[Any, " genes"]
    beta: Float[Any, " genes"]
    gamma: Float[Any, " genes"]
    switching_time: Float[Any, " genes"]
    scaling: Float[Any, " genes"]

    @jax.jit
    def state(
        self, time: Float[Array, "cells genes"]
    ) -> tuple[Float[Array, "cells genes"], Float[Array, "cells genes"]]:
        """Observed unspliced and spliced counts at the times of the cells.

        Parameters
        ----------
        time
            Time since the gene was switched on, of shape (cells, genes), not negative.

        Returns
        -------
        tuple of jax.Array
            Unspliced and spliced counts, of shape (cells, genes).
        """
        unspliced, spliced = self._molecules(time)
        return unspliced * _row(self.scaling), spliced

    @jax.jit
    def signed_distances(
        self,
        time: Float[Array, "cells genes"],
        unspliced: Float[Array, "cells genes"],
        spliced: Float[Array, "cells genes"],
        deviation: Float[Array, "2 genes"],
    ) -> Float[Array, "cells genes"]:
        r"""Distances of cells to the curve at their times, in units of the standard deviations.

        With the residuals :math:`r_u = (u - u(t)) / \sigma_u` and :math:`r_s = (s - s(t)) / \sigma_s`,

        .. math:: d = \operatorname{sgn}(r_s) \sqrt{r_u^2 + r_s^2}.

        Parameters
        ----------
        time
            Time since the gene was switched on, of shape (cells, genes), not negative.
        unspliced, spliced
            Observed counts, of shape (cells, genes).
        deviation
            Standard deviations of unspliced and spliced counts, of shape (2, genes), positive.

        Returns
        -------
        jax.Array
            Of shape (cells, genes); its derivative on the curve is taken as zero.
        """
        residuals = [x - y for x, y in zip((unspliced, spliced), self.state(time), strict=True)]
        off_u, off_s = (residual / _row(unit) for residual, unit in zip(residuals, deviation, strict=True))
        squared = jnp.square(off_u) + jnp.square(off_s)
        return jnp.sign(off_s) * jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1)), 0)

    @jax.jit
    def velocities(
        self, time: Float[Array, "cells genes"]
    ) -> tuple[Float[Array, "cells genes"], Float[Array, "cells genes"]]:
        r"""Changes per time of spliced and of observed unspliced counts at the times of the cells.

        The first is RNA velocity, :math:`\beta u - \gamma s`, the second :math:`\alpha - \beta u` times the scaling,
        with a transcription rate of 0 from the switching time on.

        Parameters
        ----------
        time
            Time since the gene was switched on, of shape (cells, genes), not negative.

        Returns
        -------
        tuple of jax.Array
            Of spliced and of observed unspliced counts, of shape (cells, genes), per unit of time.
        """
        on = (time < _row(self.switching_time)).astype(time.dtype)
        switched = jnp.maximum(time - _row(self.switching_time), 0.0)
        return self.expected_velocities(jnp.minimum(time, _row(self.switching_time)), switched, on)

    @jax.jit
    def expected_velocities(
        self,
        time_on: Float[Array, "cells genes"],
        time_off: Float[Array, "cells genes"],
        probability_on: Float[Array, "cells genes"],
    ) -> tuple[Float[Array, "cells genes"], Float[Array, "cells genes"]]:
        r"""Means of the changes per time on both branches, weighted by the probability that the gene is on.

        Parameters
        ----------
        time_on, time_off
            Times since the last switch if the gene is on, and if it is off, of shape (cells, genes), not negative.
        probability_on
            Probability that it is on, of shape (cells, genes).

        Returns
        -------
        tuple of jax.Array
            Of spliced and of observed unspliced counts, as :meth:`velocities`.
        """
        on, off = self.branch_velocities(time_on, time_off)
        spliced, unspliced = (probability_on * x + (1 - probability_on) * y for x, y in zip(on, off, strict=True))
        return spliced, unspliced

    def branch_velocities(
        self, time_on: Float[Any, "cells genes"], time_off: Float[Any, "cells genes"]
    ) -> tuple[tuple[Float[Any, "cells genes"], Float[Any, "cells genes"]], ...]:
        """Changes per time on both branches, that with the gene on first, of spliced and observed unspliced counts.

        Parameters
        ----------
        time_on, time_off
            As for :meth:`expected_velocities`; NumPy arrays are computed with NumPy, if the rates are such too.

        Returns
        -------
        tuple of tuples of arrays
            Of both branches, as of :meth:`velocities`.
        """
        alpha, beta, gamma, switch, scaling = map(
            _row, (self.alpha, self.beta, self.gamma, self.switching_time, self.scaling)
        )
        xp = time_on.__array_namespace__()
        zero = xp.zeros_like(alpha)
        on = splicing_solution(xp.minimum(time_on, switch), zero, zero, alpha, beta, gamma, xp=xp)
        switched = splicing_solution(switch, zero, zero, alpha, beta, gamma, xp=xp)
        off = splicing_solution(time_off, *switched, zero, beta, gamma, xp=xp)
        return tuple(
            (beta * u - gamma * s, (transcription - beta * u) * scaling)
            for transcription, (u, s) in ((alpha, on), (zero, off))
        )

    def _molecules(
        self, time: Float[Array, "cells genes"]
    ) -> tuple[Float[Array, "cells genes"], Float[Array, "cells genes"]]:
        """Unspliced and spliced molecules: the solution up to the switch, and from there on without transcription."""
        alpha, beta, gamma, switch = map(_row, (self.alpha, self.beta, self.gamma, self.switching_time))
        zero = jnp.zeros_like(alpha)
        at_switch = splicing_solution(jnp.minimum(time, switch), zero, zero, alpha, beta, gamma)
        return splicing_solution(jnp.maximum(time - switch, 0.0), *at_switch, zero, beta, gamma)


def velocities_in_blocks(
    kinetics: SplicingKinetics,
    time_on: Float[np.ndarray, "cells genes"],
    time_off: Float[np.ndarray, "cells genes"],
    probability_on: Float[np.ndarray, "cells genes"],
) -> tuple[Float[np.ndarray, "cells genes"], Float[np.ndarray, "cells genes"]]:
    r""":meth:`SplicingKinetics.expected_velocities` of NumPy arrays, with NumPy: no shape compiles a program.

    .. math:: v = p\, (\beta u_\text{on} - \gamma s_\text{on}) + (1 - p) (\beta u_\text{off} - \gamma s_\text{off})

    with the probability :math:`p` that the gene is on, and likewise of unspliced counts.

    Parameters
    ----------
    kinetics
        Rates of the genes, finite.
    time_on, time_off, probability_on
        Of shape (cells, genes), finite.

    Returns
    -------
    tuple of numpy.ndarray
        Velocities of spliced and of observed unspliced counts, of shape (cells, genes), in counts per unit of time.

    Examples
    --------
    >>> kinetics = jv.dynamics.SplicingKinetics(*np.array([[2.0], [1.0], [0.5], [3.0], [1.0]]))
    >>> on, off = np.array([[0.0], [2.0]]), np.zeros((2, 1))
    >>> of_spliced, of_unspliced = jv.dynamics.velocities_in_blocks(kinetics, on, off, np.ones((2, 1)))
    >>> of_spliced.round(2).tolist(), of_unspliced.round(2).tolist()
    ([[0.0], [0.93]], [[2.0], [0.27]])
    """
    results = np.empty_like(time_on), np.empty_like(time_on)
    for genes in gene_blocks(*time_on.shape):
        rates = jax.tree.map(lambda rate, genes=genes: rate[genes], kinetics)
        branches = rates.branch_velocities(time_on[:, genes], time_off[:, genes])
        on = probability_on[:, genes]
        for result, if_on, if_off in zip(results, *branches, strict=True):
            result[:, genes] = on * if_on + (1 - on) * if_off
    return results


def _row(values: Float[Array, " genes"]) -> Float[Array, "1 genes"]:
    return values[None]
