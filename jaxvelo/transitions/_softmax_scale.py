"""The automatic softmax scale."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def automatic_softmax_scale(
    logits: tuple[Float[Array, "rows width"], ...], mask: tuple[Bool[Array, "rows width"], ...]
) -> Float[Array, ""]:
    r"""Inverse of the median magnitude of the non-zero logits, CellRank's heuristic.

    .. math:: \sigma = 1 / \operatorname{median} \{|\ell_{ij}| : \ell_{ij} \ne 0\}

    Parameters
    ----------
    logits
        Deterministic logits of each bucket.
    mask
        Which slots are edges.

    Returns
    -------
    The scale; one if all logits are zero. Not differentiated: it is where a fit starts, and then a parameter.
    """
    magnitudes = jnp.concatenate(
        [jnp.where(m, jnp.abs(logit), 0).ravel() for logit, m in zip(logits, mask, strict=True)]
    )
    median = _positive_median(jax.lax.stop_gradient(magnitudes))
    return jnp.where(median > 0, 1 / jnp.where(median > 0, median, 1), 1)


def _positive_median(values: Float[Array, " n"]) -> Float[Array, ""]:
    """Median of the positive values by selection, bit by bit; zero if there are none.

    Non-negative floats are ordered as their bit patterns are. So the k-th smallest is built from its highest bit down:
    a bit is set if no more than k values are smaller than the pattern so far with this bit. XLA would sort for a median,
    which takes longer than everything else in the kernel.
    """
    width = 8 * values.dtype.itemsize
    unsigned = jnp.dtype(f"uint{width}")
    highest = jnp.array(jnp.iinfo(unsigned).max, unsigned)
    patterns = jnp.where(values > 0, jax.lax.bitcast_convert_type(values, unsigned), highest)
    count = jnp.sum(values > 0, dtype=jnp.int32)
    rank = (count - 1) // 2

    def set_bit(step, found):
        trial = found | (jnp.array(1, unsigned) << (width - 2 - step).astype(unsigned))
        return jnp.where(jnp.sum(patterns < trial, dtype=jnp.int32) <= rank, trial, found)

    lower = jax.lax.fori_loop(0, width - 1, set_bit, jnp.zeros((), unsigned))
    # An even count has a second middle value: the same again, or the next larger one.
    repeated = jnp.sum(patterns <= lower, dtype=jnp.int32) > count // 2
    following = jnp.min(jnp.where(patterns > lower, patterns, highest))
    upper = jnp.where(repeated, lower, following)
    middle = jax.lax.bitcast_convert_type(jnp.stack([lower, upper]), values.dtype)
    return jnp.where(count > 0, jnp.mean(middle), 0)
