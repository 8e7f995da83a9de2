import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from jaxvelo.dynamics import SplicingKinetics, decay_difference, splicing_solution, velocities_in_blocks
from tests.dynamics import simulated
from tests.finite_differences import check_gradient

X64 = jax.config.jax_enable_x64
TOLERANCE = 1e-8 if X64 else 3e-6
# Compiled as a whole: operations one by one take the most of the time.
solution = jax.jit(splicing_solution)
# Ratios of gamma to beta: equal, nearly so on both sides, on both sides of the switch from series to quotient, extreme.
RATES = [
    (1.0, 1.0),
    (0.3, 0.3),
    (1.0, 1.0 + 1e-6),
    (1.0, 1.0 - 1e-6),
    (2.0, 2.01),
    (2.0, 1.8),
    (0.7, 0.2),
    (0.2, 0.9),
    (1e3, 1.0),
    (1.0, 1e3),
    (1.0, 1e-3),
]


def arrays(*values):
    return [jnp.asarray(value, dtype=float) for value in values]


def integrated(times, start, alpha, beta, gamma):
    """Unspliced and spliced at the times, by an integrator that knows no closed form; as float64."""

    def change(_, state):
        return [alpha - beta * state[0], beta * state[0] - gamma * state[1]]

    jacobian = [[-beta, 0.0], [beta, -gamma]]
    # The precision is relative to the largest value: what has decayed to nothing needs no digits.
    scale = max(*start, alpha / beta, alpha / gamma)
    result = solve_ivp(
        change,
        (0, times[-1]),
        start,
        method="LSODA",
        t_eval=times,
        jac=lambda *_: np.array(jacobian),
        rtol=1e-11,
        atol=1e-13 * scale,
    )
    assert result.success
    return result.y


@pytest.mark.any_precision
@pytest.mark.parametrize(("beta", "gamma"), RATES)
def test_with_numpy_in_double_precision(beta, gamma):
    times = np.r_[0.0, np.geomspace(1e-3 / max(beta, gamma), 12 / min(beta, gamma), 25)]
    found = np.stack(splicing_solution(times, 0.3, 0.2, 2.0, beta, gamma, xp=np))
    assert found.dtype == np.float64
    expected = integrated(times, [0.3, 0.2], 2.0, beta, gamma)
    np.testing.assert_allclose(found, expected, atol=1e-9 * expected.max())


@pytest.mark.parametrize(("beta", "gamma"), RATES)
def test_solution_equals_integration(beta, gamma):
    times = np.r_[0.0, np.geomspace(1e-3 / max(beta, gamma), 12 / min(beta, gamma), 25)]
    for start, alpha in (((0.0, 0.0), 3.0), ((2.0, 5.0), 0.0), ((4.0, 0.5), 1.5)):
        expected = integrated(times, start, alpha, beta, gamma)
        found = solution(*arrays(times, *start, alpha, beta, gamma))
        for value, known in zip(found, expected, strict=True):
            assert value.dtype == jnp.zeros(()).dtype
            np.testing.assert_allclose(value, known, rtol=0, atol=TOLERANCE * max(np.abs(known).max(), *start))


slopes_of_the_solution = jax.jit(jax.jacrev(splicing_solution, argnums=tuple(range(6))))


@pytest.mark.parametrize(("beta", "gamma"), RATES)
def test_limits_of_time(beta, gamma):
    tau, u0, s0, alpha, beta, gamma = arrays([0.0, 1e6, 1e9], 2.0, 5.0, 3.0, beta, gamma)
    u, s = map(np.asarray, solution(tau, u0, s0, alpha, beta, gamma))
    assert u[0] == 2
    assert s[0] == 5
    np.testing.assert_allclose(u[1:], alpha / beta, rtol=1e-6)
    np.testing.assert_allclose(s[1:], alpha / gamma, rtol=1e-6)
    # Without transcription, nothing is left.
    u, s = map(np.asarray, solution(tau, u0, s0, jnp.zeros_like(alpha), beta, gamma))
    assert not u[1:].any()
    assert not s[1:].any()
    # The derivatives have their limits there too, although some intermediate powers would overflow in float32.
    slopes = slopes_of_the_solution(tau, u0, s0, alpha, beta, gamma)
    assert all(np.isfinite(slope).all() for slope in jax.tree.leaves(slopes))


def combination(rates, tau):
    u, s = splicing_solution(tau, *rates)
    return jnp.sum(u * jnp.arange(1.0, 4.0)) + jnp.sum(s * jnp.array([3.0, -1.0, 2.0]))


@pytest.mark.parametrize(("beta", "gamma"), RATES)
def test_gradients_of_the_solution(beta, gamma):
    tau = jnp.asarray(np.array([0.1, 0.7, 2.5]) / min(max(beta, gamma), 10.0), dtype=float)
    # One leaf per argument: each is moved alone.
    check_gradient(combination, arrays(2.0, 5.0, 3.0, beta, gamma), arguments=(tau,), rtol=2e-6, directions=1)


def test_derivative_of_the_decay_difference_at_equal_rates():
    """Exact there: the derivative by each rate is half of that of the limit, -tau^2 exp(-beta tau) / 2."""
    tau, beta = arrays([0.0, 0.3, 2.0, 8.0], 1.3)
    by_beta, by_gamma = jax.jit(jax.jacfwd(decay_difference, argnums=(1, 2)))(tau, beta, beta)
    expected = -np.square(tau) / 2 * np.exp(-1.3 * np.asarray(tau))
    np.testing.assert_allclose(by_beta, expected, rtol=10 * TOLERANCE)
    np.testing.assert_allclose(by_gamma, expected, rtol=10 * TOLERANCE)
    # Two formulas meet there, and the second derivatives agree as well.
    mixed = jax.jit(jax.jacfwd(jax.jacfwd(decay_difference, argnums=1), argnums=2))(tau, beta, beta)
    np.testing.assert_allclose(mixed, np.asarray(tau) ** 3 / 6 * np.exp(-1.3 * np.asarray(tau)), rtol=10 * TOLERANCE)


def test_decay_difference_is_symmetric_and_smooth_in_single_precision():
    """No digits are lost where the rates are nearly equal, or where the series hands over to the quotient."""
    gamma = (1 + np.concatenate([-np.geomspace(0.5, 1e-7, 60), [0], np.geomspace(1e-7, 0.5, 60)])).astype(np.float32)
    tau = np.float32(1.5)
    with jax.enable_x64(True):
        exact = jax.jit(decay_difference)(*(jnp.asarray(x, dtype=jnp.float64) for x in (tau, 1.0, gamma)))
    found = jax.jit(decay_difference)(jnp.asarray(tau), jnp.ones((), jnp.float32), jnp.asarray(gamma))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, exact, rtol=5e-7)
    swapped = jax.jit(decay_difference)(jnp.asarray(tau), jnp.asarray(gamma), jnp.ones((), jnp.float32))
    np.testing.assert_array_equal(found, swapped)
    # And the formula as written, in float64 and away from the limit.
    apart = np.abs(gamma - 1) > 1e-3
    rate = gamma[apart].astype(float)
    known = (np.exp(-rate * 1.5) - np.exp(-1.5)) / (1 - rate)
    np.testing.assert_allclose(np.asarray(exact)[apart], known, rtol=1e-9)


ALPHA, BETA, GAMMA = [2.0, 10.0, 0.5, 1.0], [1.0, 0.5, 2.0, 3.0], [0.4, 0.5, 7.0, 0.01]
SWITCH, SCALING = [3.0, 5.0, 1.0, 0.7], [1.0, 0.3, 2.0, 1.0]


@pytest.fixture
def kinetics():
    return SplicingKinetics(*arrays(ALPHA, BETA, GAMMA, SWITCH, SCALING))


def times_of(shares):
    """Cells at shares of each gene's switching time."""
    return np.asarray(shares)[:, None] * np.asarray(SWITCH)


def test_state_equals_integration(kinetics):
    shares = np.array([0.0, 0.2, 0.9, 1.0, 1.1, 2.0, 4.0])
    u, s = kinetics.state(*arrays(times_of(shares)))
    for gene in range(4):
        alpha, beta, gamma, switch, scaling = (values[gene] for values in (ALPHA, BETA, GAMMA, SWITCH, SCALING))
        times = shares * switch
        on = integrated(times[:4], (0.0, 0.0), alpha, beta, gamma)
        off = integrated(times[3:] - switch, tuple(on[:, -1]), 0.0, beta, gamma)
        expected = np.concatenate([on, off[:, 1:]], axis=1) * np.array([[scaling], [1.0]])
        for value, known in zip((u, s), expected, strict=True):
            np.testing.assert_allclose(value[:, gene], known, rtol=0, atol=2 * TOLERANCE * known.max())


def test_velocity_is_the_derivative_of_the_state(kinetics):
    (time,) = arrays(times_of([0.0, 0.3, 0.99, 1.01, 1.5, 3.0]))
    _, (by_time_u, by_time_s) = jax.jit(lambda t: jax.jvp(kinetics.state, (t,), (jnp.ones_like(t),)))(time)
    velocity, velocity_u = kinetics.velocities(time)
    # Spliced counts change by the difference of two terms: in their unit.
    np.testing.assert_allclose(velocity, by_time_s, rtol=0, atol=TOLERANCE * 20)
    np.testing.assert_allclose(velocity_u, by_time_u, rtol=0, atol=TOLERANCE * 20)
    assert (velocity[:2, 0] >= 0).all()
    assert (velocity[4:, :2] < 0).all()


def test_transcription_ends_at_the_switch(kinetics):
    (at,) = arrays(times_of([1.0]))
    u, s = kinetics.state(at)
    velocity, velocity_u = kinetics.velocities(at)
    np.testing.assert_allclose(velocity_u[0], -kinetics.beta * u[0], rtol=1e-5)
    expected = kinetics.beta * u[0] / kinetics.scaling - kinetics.gamma * s[0]
    np.testing.assert_allclose(velocity[0], expected, rtol=1e-4, atol=TOLERANCE * 20)
    # Just before, it goes on: unspliced counts approach their steady state from below.
    _, before = kinetics.velocities(at * (1 - 1e-4))
    assert (before > 0).all()


def test_all_is_still_in_the_beginning_and_after_a_long_decay(kinetics):
    late = jnp.full((1, 4), 1e5)
    for values in (*kinetics.state(late), *kinetics.velocities(late)):
        assert not values.any()
    start = jnp.zeros((1, 4))
    assert not kinetics.velocities(start)[0].any()
    np.testing.assert_allclose(kinetics.velocities(start)[1][0], kinetics.alpha * kinetics.scaling, rtol=1e-6)


def test_expected_velocities_mix_those_of_the_branches(kinetics):
    rng = np.random.default_rng(0)
    on, off = arrays(rng.random((7, 4)) * SWITCH * 0.99, rng.random((7, 4)) * 5)
    ones, zeros = jnp.ones_like(on), jnp.zeros_like(on)
    switch = kinetics.switching_time[None]
    certain = [
        (kinetics.expected_velocities(on, off, ones), kinetics.velocities(on)),
        (kinetics.expected_velocities(on, off, zeros), kinetics.velocities(switch + off)),
    ]
    for found, expected in certain:
        for value, known in zip(found, expected, strict=True):
            np.testing.assert_allclose(value, known, rtol=1e-5, atol=TOLERANCE * 20)
    (probability,) = arrays(rng.random((7, 4)))
    mixed = kinetics.expected_velocities(on, off, probability)
    for value, if_on, if_off in zip(mixed, certain[0][1], certain[1][1], strict=True):
        expected = probability * if_on + (1 - probability) * if_off
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=TOLERANCE * 20)


def test_gradients_of_expected_velocities(kinetics):
    rng = np.random.default_rng(0)
    times = arrays(rng.random((7, 4)) * SWITCH * 0.9, rng.random((7, 4)) * 5, rng.random((7, 4)))

    def total(kinetics, time_on, time_off, probability):
        velocity, velocity_u = kinetics.expected_velocities(time_on, time_off, probability)
        return jnp.sum(jnp.square(velocity)) + jnp.sum(jnp.sin(velocity_u))

    # The second gene has equal rates.
    check_gradient(total, kinetics, arguments=times, rtol=1e-5)
    check_gradient(lambda times, kinetics: total(kinetics, *times), tuple(times), arguments=(kinetics,), rtol=1e-5)


def test_the_solution_equals_the_simulator():
    """What simulates the cells in the tests of the fit agrees with what is fitted."""
    time = np.linspace(0, 9, 31)[:, None] * np.ones((1, 3))
    alpha, g, switch = np.array([2.0, 1.0, 0.5]), np.array([0.3, 1.0, 4.0]), np.array([3.0, 2.0, 1.0])
    kinetics = SplicingKinetics(*arrays(alpha, np.ones(3), g, switch, np.ones(3)))
    for value, known in zip(kinetics.state(*arrays(time)), simulated.curve(time, alpha, g, switch), strict=True):
        np.testing.assert_allclose(value, known, rtol=0, atol=3 * TOLERANCE)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_velocities_in_blocks(kinetics, monkeypatch, dtype):
    monkeypatch.setattr("jaxvelo.dynamics._gene_blocks.N_NUMBERS", 3 * 9)
    kinetics = jax.tree.map(lambda x: np.asarray(x, dtype), kinetics)
    rng = np.random.default_rng(0)
    data = [x.astype(dtype) for x in (rng.random((9, 4)) * SWITCH, rng.random((9, 4)) * 5, rng.random((9, 4)))]
    found = velocities_in_blocks(kinetics, *data)
    expected = kinetics.expected_velocities(*map(jnp.asarray, data))
    for value, known in zip(found, expected, strict=True):
        assert isinstance(value, np.ndarray)
        assert value.dtype == dtype
        np.testing.assert_allclose(value, known, rtol=1e-5, atol=1e-5)
