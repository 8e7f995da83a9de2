r"""One time for all genes, from the times that the dynamical model gives each gene.

In the dynamical model every gene has a clock of its own: its time of a cell says how far the cell has gone through the
gene's induction and repression. The functions here set all clocks to zero at a root cell, and read them together.

All are pure, jitted and differentiable in the times; which cells are roots, and which percentiles are taken, is held
fixed under differentiation. The results equal those of scVelo 0.3.4; choices of its that a reader would not expect are
marked *as scVelo*.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxvelo.dynamics._largest import largest
from jaxvelo.graph._precision import full_precision

PERCENTILES = (15.0, 20.0, 25.0, 30.0, 35.0)
"""Percentiles over genes that :func:`shared_time` chooses from. They lie below the median as there are always genes
that are late: in their repression, or switched on before the root."""


@jax.jit
def rooted_times(times: Float[Array, "cells genes"], root: Int[Array, ""] | int) -> Float[Array, "cells genes"]:
    r"""Set the clock of each gene to zero at a root cell.

    What a gene does before the root it does after everything else: its time is taken as a circle. With :math:`t_r` the
    time of the root,

    .. math:: t'_i = \begin{cases} t_i - t_r & t_i \geq t_r \\ t_i + \max_j (t_j - t_r) & t_i < t_r. \end{cases}

    Parameters
    ----------
    times
        Time of each cell for each gene, of shape (cells, genes), in the units of the gene's rates.
    root
        Index of the root cell.

    Returns
    -------
    jax.Array
        Times of shape (cells, genes), none of them negative, zero for the root.

    References
    ----------
    Bergen et al. (2020), Methods, gene-shared latent time.

    Examples
    --------
    >>> jv.dynamics.rooted_times(jnp.array([[0.0], [1.0], [3.0]]), root=1).tolist()
    [[2.0], [0.0], [2.0]]
    """
    at_root = times[root][None, :]
    since = times - at_root
    return jnp.where(since >= 0, since, times + largest(since)[None])


@eqx.filter_jit
def shared_time(
    times: Float[Array, "cells genes"], percentiles: tuple[float, ...] = PERCENTILES
) -> Float[Array, " cells"]:
    r"""Read the clocks of all genes as one.

    A percentile over genes is robust against genes that are fitted badly. For each of a few percentiles :math:`p`,
    :math:`T^p_i = \operatorname{perc}_p \{t_{ig}\}_g / \max_j T^p_j`; of these, the two whose cells are spread most
    evenly over time are added,

    .. math:: T_i = \frac{T^{p_1}_i + T^{p_2}_i}{\max_j (T^{p_1}_j + T^{p_2}_j)}, \qquad
              p_1, p_2 = \operatorname{argmin}_p \sum_k \left(T^p_{(k)} - \tfrac{k}{n - 1}\right)^2 ,

    with :math:`T_{(k)}` the times in ascending order, from :math:`k = 0`.

    Parameters
    ----------
    times
        Rooted time of each cell for each gene, of shape (cells, genes).
    percentiles
        Percentiles to choose from, two or more. Static.

    Returns
    -------
    jax.Array
        Time of shape (cells,), at most 1; all zero if no gene's time varies.

    References
    ----------
    Bergen et al. (2020), Methods, gene-shared latent time.

    Examples
    --------
    >>> clocks = jnp.array([[0.0, 0.0, 1.0], [1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [4.0, 8.0, 4.0]])
    >>> jv.dynamics.shared_time(clocks).tolist()
    [0.0, 0.25, 0.5, 1.0]
    """
    times = times + largest(-times.ravel())
    n_cells, n_genes = times.shape
    in_order = jnp.sort(times, axis=1)
    candidates = []
    for percentile in percentiles:
        position = percentile / 100 * (n_genes - 1)
        below = int(position)
        above = min(below + 1, n_genes - 1)
        candidates.append(in_order[:, below] + (position - below) * (in_order[:, above] - in_order[:, below]))
    candidate = jnp.stack([_over_maximum(c) for c in candidates])
    even = jnp.linspace(0, 1, n_cells, dtype=times.dtype)[None, :]
    unevenness = jnp.sum(jnp.square(jnp.sort(jax.lax.stop_gradient(candidate), axis=1) - even), axis=1)
    best = jnp.argsort(unevenness)[:2]
    return _over_maximum(jnp.sum(candidate[best], axis=0))


@jax.jit
def latent_time(
    times: Float[Array, "cells genes"], roots: Int[Array, " roots"], ends: Int[Array, " ends"] | None = None
) -> Float[Array, " cells"]:
    r"""Gene-shared latent time, as the mean over root cells.

    With :math:`T^r` the :func:`shared_time` of the times rooted in :math:`r` (:func:`rooted_times`), and
    :math:`\operatorname{scale}` to the range from 0 to 1,

    .. math:: T = \operatorname{scale}\Big(\frac{1}{|R|} \sum_{r \in R} T^r\Big), \qquad
              T \leftarrow \operatorname{scale}\Big(T + 0.2 \operatorname{scale}\Big(
              \frac{1}{|E|} \sum_{e \in E} (1 - T^e)\Big)\Big),

    the latter with end points only.

    Parameters
    ----------
    times
        Time of each cell for each gene, of shape (cells, genes), finite.
    roots
        Indices of the root cells, of shape (roots,), one or more.
    ends
        Indices of the end points, of shape (ends,), one or more; None for none.

    Returns
    -------
    jax.Array
        Latent time of shape (cells,), from 0 to 1; no unit. All zero if no gene's time varies.

    References
    ----------
    Bergen et al. (2020), Methods, gene-shared latent time.

    Examples
    --------
    >>> clocks = jnp.array([[0.0, 1.0, 0.0], [1.0, 2.0, 2.0], [2.0, 3.0, 4.0], [4.0, 5.0, 8.0]])
    >>> jv.dynamics.latent_time(clocks, jnp.array([0])).tolist()
    [0.0, 0.25, 0.5, 1.0]
    """

    def step(times: Array, cell: Array) -> tuple[Array, Array]:
        # As scVelo: each root takes up the clocks as the last one left them. A circle cut open twice is a little
        # shorter, so the order of the roots matters, a little.
        times = rooted_times(times, cell)
        return times, shared_time(times)

    times, from_roots = jax.lax.scan(step, times, roots)
    latent = to_unit_range(jnp.mean(from_roots, axis=0))
    if ends is None:
        return latent
    _, from_ends = jax.lax.scan(step, times, ends)
    return to_unit_range(latent + 0.2 * to_unit_range(jnp.mean(1 - from_ends, axis=0)))


@jax.jit
@full_precision
def local_confidence(
    latent: Float[Array, " cells"], neighborhood_mean: Float[Array, " cells"]
) -> Float[Array, " cells"]:
    r"""Agreement of each cell's latent time with that of its neighbourhood.

    With :math:`\bar T` the mean over the neighbourhood, brought to the scale of :math:`T` by least squares,

    .. math:: c_i = \Big(1 - \frac{|T_i - z \bar T_i|}{\max_j T_j}\Big)^2, \qquad
              z = \frac{T \cdot \bar T}{\bar T \cdot \bar T}.

    Parameters
    ----------
    latent
        Latent time, of shape (cells,), none of it negative.
    neighborhood_mean
        Its mean over the neighbourhood of each cell, of shape (cells,).

    Returns
    -------
    jax.Array
        Confidence of shape (cells,), 1 for full agreement.

    References
    ----------
    Bergen et al. (2020), Methods, gene-shared latent time.

    Examples
    --------
    >>> latent = jnp.array([0.0, 0.5, 1.0])
    >>> jv.dynamics.local_confidence(latent, latent / 2).tolist()  # the neighbourhoods agree, on another scale
    [1.0, 1.0, 1.0]
    >>> bool(jv.dynamics.local_confidence(latent, jnp.array([0.0, 1.0, 1.0]))[1] < 0.6)
    True
    """
    fit = _ratio(latent @ neighborhood_mean, neighborhood_mean @ neighborhood_mean)
    return jnp.square(1 - jnp.abs(_over_maximum(latent) - _ratio(fit * neighborhood_mean, largest(latent))))


def to_unit_range(x: Float[Array, " n"]) -> Float[Array, " n"]:
    """Shift and scale to the range from 0 to 1; zeros if all are equal."""
    return _over_maximum(x + largest(-x))


def _over_maximum(x: Float[Array, " n"]) -> Float[Array, " n"]:
    """Divide by the maximum, which is not negative; as it is if that is zero."""
    maximum = largest(x)
    return x / jnp.where(maximum == 0, 1, maximum)


def _ratio(numerator: Array, denominator: Float[Array, ""]) -> Array:
    """Quotient, and 0 where the denominator is 0."""
    return jnp.where(denominator == 0, 0, numerator / jnp.where(denominator == 0, 1, denominator))
