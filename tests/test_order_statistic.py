import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxvelo.order_statistic import order_statistic

many = jax.jit(jax.vmap(order_statistic, in_axes=(1, None)))


@settings(max_examples=50, deadline=None)
@given(
    x=hnp.arrays(np.float32, (7, 3), elements=st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False)),
    rank=st.integers(0, 6),
)
def test_it_is_the_element_at_that_place_after_sorting(x, rank):
    np.testing.assert_array_equal(many(jnp.asarray(x, dtype=float), rank), np.sort(x, axis=0)[rank])


def test_ties_and_both_zeros():
    x = jnp.array([0.0, -0.0, 2.0, 2.0, -1.0, 2.0])
    assert [float(order_statistic(x, rank)) for rank in range(6)] == [-1.0, 0.0, 0.0, 2.0, 2.0, 2.0]


def test_float64():
    with jax.enable_x64(True):
        x = np.random.default_rng(0).normal(size=(501, 4))
        result = jax.vmap(order_statistic, in_axes=(1, None))(jnp.asarray(x), 475)
        assert result.dtype == np.float64
        np.testing.assert_array_equal(result, np.sort(x, axis=0)[475])


def test_several_arrays_of_any_shape():
    x = np.random.default_rng(0).normal(size=60).astype(np.float32)
    parts = jnp.asarray(x[:12]).reshape(3, 4), jnp.asarray(x[12:13]), jnp.asarray(x[13:])
    found = [float(order_statistic(parts, rank)) for rank in (0, 17, 59)]
    assert found == [float(np.sort(x)[rank]) for rank in (0, 17, 59)]
