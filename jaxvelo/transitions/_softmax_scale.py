"""The automatic softmax scale."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxvelo.order_statistic import order_statistic


def automatic_softmax_scale(
    logits: tuple[Float[Array, "rows width"], ...],
    mask: tuple[Bool[Array, "rows width"], ...],
    shared: bool = False,
) -> Float[Array, ""]:
    r"""Inverse of the median magnitude of the non-zero logits, CellRank's heuristic.

    .. math:: \sigma = 1 / \operatorname{median} \{|\ell_{ij}| : \ell_{ij} \ne 0\}

    Parameters
    ----------
    logits
        Deterministic logits, one array of shape ``(rows, width)`` for each bucket.
    mask
        Which slots are edges, in the same shapes.
    shared
        Whether several devices share the rows of each bucket.

    Returns
    -------
    jax.Array
        The scale, a scalar, in the inverse unit of the logits; one if all logits are zero. Not differentiated: it is
        where a fit starts, and then a parameter.

    References
    ----------
    Lange et al. (2022), CellRank: its default ``softmax_scale``.

    Examples
    --------
    >>> logits, mask = jnp.array([[0.5, -0.25, 0.25, 0.0]]), jnp.ones((1, 4), dtype=bool)
    >>> float(jv.transitions.automatic_softmax_scale((logits,), (mask,)))
    4.0
    """
    magnitudes = tuple(jnp.where(m, jnp.abs(logit), 0) for logit, m in zip(logits, mask, strict=True))
    if not shared:
        # One array compiles faster than several. What devices share would be brought onto each of them.
        magnitudes = (jnp.concatenate([bucket.ravel() for bucket in magnitudes]),)
    median = _positive_median(jax.lax.stop_gradient(magnitudes))
    return jnp.where(median > 0, 1 / jnp.where(median > 0, median, 1), 1)


def _positive_median(values: tuple[Float[Array, "..."], ...]) -> Float[Array, ""]:
    """Median of the positive ones among values that are not negative; zero if there are none."""

    def count_where(is_so) -> Array:
        return jnp.asarray(sum(jnp.sum(is_so(v), dtype=jnp.int32) for v in values))

    n_zeros = count_where(lambda v: v == 0)
    count = sum(v.size for v in values) - n_zeros
    # Selected, not sorted: XLA's sort takes longer than everything else in the kernel.
    lower = order_statistic(values, n_zeros + (count - 1) // 2)
    # An even count has a second middle value: the same again, or the next larger one.
    repeated = count_where(lambda v: v <= lower) > n_zeros + count // 2
    following = functools.reduce(jnp.minimum, [jnp.min(jnp.where(v > lower, v, jnp.inf)) for v in values])
    upper = jnp.where(repeated, lower, following)
    return jnp.where(count > 0, (lower + upper) / 2, 0)
