r"""Transcription, splicing and degradation of one gene that is switched on once and off once, in closed form.

.. math:: \dot u = \alpha - \beta u, \qquad \dot s = \beta u - \gamma s,

with transcription rate :math:`\alpha` until the switching time :math:`T` and 0 after it, from :math:`u = s = 0`. Times
and rates have any unit, as long as it is the same for both.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def decay_difference(
    tau: Float[Array, "*#shape"], beta: Float[Array, "*#shape"], gamma: Float[Array, "*#shape"]
) -> Float[Array, "*shape"]:
    r"""Compute :math:`(e^{-\gamma\tau} - e^{-\beta\tau}) / (\beta - \gamma)`, the way from unspliced to spliced.

    That is the convolution of both decays. Written as
    :math:`\tau e^{-m\tau} (1 - e^{-x}) / x` with :math:`m = \min(\beta, \gamma)`, :math:`x = |\beta - \gamma| \tau`,
    it needs no difference of nearly equal numbers, overflows nowhere, and has its limit :math:`\tau e^{-\beta\tau}`
    and right derivatives at :math:`\beta = \gamma`.

    Parameters
    ----------
    tau
        Time since the last switch, not negative.
    beta, gamma
        Rates of splicing and degradation, positive. All three broadcast.

    Returns
    -------
    jax.Array
        Values in the unit of time.
    """
    x = jnp.abs(beta - gamma) * tau
    small = x < 1e-2
    x_away = jnp.where(small, 1.0, x)
    series = 1 + x * (-1 / 2 + x * (1 / 6 + x * (-1 / 24 + x * (1 / 120 - x / 720))))
    # The gradient of the quotient loses digits near 0, so that the series takes over.
    return tau * jnp.exp(-jnp.minimum(beta, gamma) * tau) * jnp.where(small, series, -jnp.expm1(-x_away) / x_away)


def splicing_solution(
    tau: Float[Array, "*#shape"],
    unspliced: Float[Array, "*#shape"],
    spliced: Float[Array, "*#shape"],
    alpha: Float[Array, "*#shape"],
    beta: Float[Array, "*#shape"],
    gamma: Float[Array, "*#shape"],
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    r"""Unspliced and spliced molecules at time :math:`\tau` after they were :math:`u_0, s_0`.

    .. math::
        u &= u_0 e^{-\beta\tau} + \tfrac{\alpha}{\beta} (1 - e^{-\beta\tau}), \\
        s &= s_0 e^{-\gamma\tau} + \tfrac{\alpha}{\gamma} (1 - e^{-\gamma\tau})
             - (\alpha - \beta u_0) \frac{e^{-\gamma\tau} - e^{-\beta\tau}}{\beta - \gamma}.

    Parameters
    ----------
    tau
        Time, not negative.
    unspliced, spliced
        :math:`u_0` and :math:`s_0`, in molecules.
    alpha, beta, gamma
        Rates of transcription (molecules per time), splicing and degradation (per time). All arguments broadcast.

    Returns
    -------
    tuple of jax.Array
        :math:`u` and :math:`s`; finite, and differentiable in everything, at :math:`\beta = \gamma` too.

    References
    ----------
    Bergen et al. (2020), equations (2) and (3).
    """
    new_unspliced, new_spliced = -jnp.expm1(-beta * tau) / beta, -jnp.expm1(-gamma * tau) / gamma
    u = unspliced * jnp.exp(-beta * tau) + alpha * new_unspliced
    mixed = (alpha - beta * unspliced) * decay_difference(tau, beta, gamma)
    s = spliced * jnp.exp(-gamma * tau) + alpha * new_spliced - mixed
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
    """

    alpha: Float[Array, " genes"]
    beta: Float[Array, " genes"]
    gamma: Float[Array, " genes"]
    switching_time: Float[Array, " genes"]
    scaling: Float[Array, " genes"]

    @jax.jit
    def state(
        self, time: Float[Array, "cells genes"]
    ) -> tuple[Float[Array, "cells genes"], Float[Array, "cells genes"]]:
        """Observed unspliced and spliced counts at the times of the cells, of shape (cells, genes).

        Parameters
        ----------
        time
            Time since the gene was switched on, of shape (cells, genes), not negative.
        """
        unspliced, spliced = self._molecules(time)
        return unspliced * _row(self.scaling), spliced

    @jax.jit
    def velocity(self, time: Float[Array, "cells genes"]) -> Float[Array, "cells genes"]:
        r"""RNA velocity :math:`\dot s = \beta u - \gamma s` at the times of the cells, in spliced counts per time."""
        unspliced, spliced = self._molecules(time)
        return _row(self.beta) * unspliced - _row(self.gamma) * spliced

    @jax.jit
    def unspliced_velocity(self, time: Float[Array, "cells genes"]) -> Float[Array, "cells genes"]:
        r"""Change of the observed unspliced counts, per time: the scaling times :math:`\alpha - \beta u`.

        The transcription rate is 0 from the switching time on.
        """
        unspliced, _ = self._molecules(time)
        alpha = jnp.where(time < _row(self.switching_time), _row(self.alpha), 0.0)
        return (alpha - _row(self.beta) * unspliced) * _row(self.scaling)

    def _molecules(
        self, time: Float[Array, "cells genes"]
    ) -> tuple[Float[Array, "cells genes"], Float[Array, "cells genes"]]:
        """Unspliced and spliced molecules: the solution up to the switch, and from there on without transcription."""
        alpha, beta, gamma, switch = map(_row, (self.alpha, self.beta, self.gamma, self.switching_time))
        zero = jnp.zeros_like(alpha)
        at_switch = splicing_solution(jnp.minimum(time, switch), zero, zero, alpha, beta, gamma)
        return splicing_solution(jnp.maximum(time - switch, 0.0), *at_switch, zero, beta, gamma)


def _row(values: Float[Array, " genes"]) -> Float[Array, "1 genes"]:
    return values[None]
