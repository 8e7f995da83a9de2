from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvelo.graph._host import call_on_host


def like(x, shape=None):
    return jax.ShapeDtypeStruct(x.shape if shape is None else shape, x.dtype)


def sums(tree):
    """Sums over rows, in a tree: what is called gets NumPy arrays and may return other types."""

    def on_host(tree):
        assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(tree))
        return {name: np.sum(x, axis=-1, dtype=np.float64) for name, x in tree.items()}

    return call_on_host(on_host, {name: like(x, x.shape[:-1]) for name, x in tree.items()}, tree)


@pytest.fixture
def tree():
    rng = np.random.default_rng(0)
    return {"a": jnp.asarray(rng.normal(size=(5, 3)), dtype=float), "empty": jnp.zeros((4, 0), dtype=float)}


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit, lambda f: jax.vmap(f, in_axes=({"a": 0, "empty": None},))])
def test_equals_numpy(tree, transform):
    found = transform(sums)(tree)
    np.testing.assert_allclose(found["a"], np.sum(tree["a"], axis=1), rtol=1e-6)
    assert found["a"].dtype == tree["a"].dtype
    assert not np.any(found["empty"])


def test_within_a_loop():
    def step(x, _):
        x = x + call_on_host(lambda x: 2 * x, like(x), x)
        return x, x

    np.testing.assert_array_equal(jax.lax.scan(step, jnp.ones(2), length=3)[1][:, 0], [3, 9, 27])


@pytest.mark.cpu_only(reason="accelerators hand over single precision in a context: that is an error, see below")
def test_double_precision_as_a_context():
    with jax.enable_x64(True):
        x = jnp.asarray([1 / 3], dtype=float)
        third = jax.jit(lambda x: call_on_host(lambda x: x, like(x), x))(x)
    assert third.dtype == np.float64
    assert float(third[0]) == 1 / 3


def test_an_error_comes_out():
    def fails(x):
        raise ArithmeticError("no convergence")

    with pytest.raises(Exception, match="no convergence"):
        np.asarray(jax.jit(lambda x: call_on_host(fails, like(x), x))(jnp.ones(2)))


def test_no_derivative():
    with pytest.raises(ValueError, match="JVP"):
        jax.grad(lambda x: jnp.sum(call_on_host(np.sin, like(x), x)))(jnp.ones(2))


@pytest.fixture
def elsewhere(monkeypatch):
    """Take the way of accelerators."""
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *arrays, cpu, default: default(*arrays))


@pytest.mark.usefixtures("elsewhere")
def test_equals_numpy_on_accelerators(tree):
    found = jax.jit(sums)(tree)
    np.testing.assert_allclose(found["a"], np.sum(tree["a"], axis=1), rtol=1e-6)
    assert found["a"].dtype == tree["a"].dtype


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.skipif(jax.config.jax_enable_x64, reason="double precision is enabled for the whole process")
def test_single_precision_in_place_of_double_is_an_error_on_accelerators():
    """A thread of JAX's own calls the host, where the context does not hold."""
    with jax.enable_x64(True):
        x = jnp.asarray([1 / 3], dtype=float)
        program = jax.jit(lambda x: call_on_host(lambda x: x, like(x), x)).lower(x).compile()
    with ThreadPoolExecutor(1) as pool, pytest.raises(Exception, match="type float64 on the host, found float32"):
        pool.submit(lambda: np.asarray(program(x))).result()
