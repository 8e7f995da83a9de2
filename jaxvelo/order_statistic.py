"""The k-th smallest of many numbers, without sorting them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def order_statistic(x: Float[Array, " n"], rank: int | Int[Array, ""]) -> Float[Array, ""]:
    """Return the element of ``x`` that has exactly ``rank`` elements before it in ascending order.

    The bits of a floating-point number, read as an unsigned integer with the sign turned round, are ordered as the
    numbers are. The answer is therefore found bit by bit, from the highest, by counting the elements below a
    candidate: one pass over the data for each bit, exact, no copy. On a CPU that is ten times faster than XLA's sort
    for the columns of a (cells, genes) array, and it compiles faster.

    Parameters
    ----------
    x
        Finite numbers, of shape (n,). ``jax.vmap`` for many columns.
    rank
        Position in ascending order, from 0 to n - 1.

    Returns
    -------
    jax.Array
        The order statistic, an element of ``x``. No gradient flows through it.
    """
    unsigned = jnp.uint64 if x.dtype == jnp.float64 else jnp.uint32
    n_bits = jnp.finfo(x.dtype).bits
    sign = unsigned(1 << (n_bits - 1))
    # Adding zero turns -0.0 into 0.0: equal numbers must have equal bits.
    bits = jax.lax.bitcast_convert_type(jax.lax.stop_gradient(x) + 0, unsigned)
    keys = jnp.where(bits >= sign, ~bits, bits | sign)

    def fix_bit(position: Array, answer: Array) -> Array:
        candidate = answer | (sign >> position.astype(unsigned))
        return jnp.where(jnp.sum(keys < candidate, dtype=jnp.int32) <= rank, candidate, answer)

    key = jax.lax.fori_loop(0, n_bits, fix_bit, unsigned(0))
    return jax.lax.bitcast_convert_type(jnp.where(key >= sign, key ^ sign, ~key), x.dtype)
