import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import traceback

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvelo.graph._threads import SETTINGS, n_workers, worker_threads

pytestmark = pytest.mark.any_precision


def setting(name):
    return getattr(jax.config, f"jax_{name}")


def in_a_thread(function, *args):
    with worker_threads(1) as submit:
        return submit(function, *args).result()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("enable_x64", not jax.config.jax_enable_x64),
        ("default_device", jax.devices("cpu")[0]),
        ("default_device", "cpu"),
        ("default_matmul_precision", "bfloat16"),
        ("default_prng_impl", "rbg"),
        ("numpy_dtype_promotion", "standard"),
        ("numpy_rank_promotion", "warn"),
        ("debug_nans", True),
        ("debug_infs", True),
        ("disable_jit", True),
        ("transfer_guard_device_to_host", "log"),
    ],
)
def test_settings_of_the_caller_hold(name, value):
    before = setting(name)
    assert before != value
    with getattr(jax, name)(value):
        assert in_a_thread(setting, name) == value
    assert setting(name) == before
    # Threads that are used again do not keep it.
    with worker_threads(1) as submit:
        with getattr(jax, name)(value), worker_threads(1) as submit_within:
            assert submit_within(setting, name).result() == value
        assert submit(setting, name).result() == before


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_can_be_carried(name):
    """That of the caller is a value that the context takes."""
    value = setting(name)
    with getattr(jax, name)(value):
        assert in_a_thread(setting, name) == value


def test_contexts_of_numpy_hold():
    with np.errstate(divide="raise"):
        assert in_a_thread(np.geterr)["divide"] == "raise"
    assert in_a_thread(np.geterr)["divide"] != "raise"


def test_as_many_threads_as_cores(monkeypatch):
    for n_cores, n_threads in ((1, 1), (3, 3), (64, 8)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid, n=n_cores: range(n), raising=False)
        assert n_workers() == n_threads


def test_what_holds_is_what_held_at_the_start():
    with jax.enable_x64(True), worker_threads(1) as submit, jax.enable_x64(False):
        assert submit(lambda: jnp.zeros(1, dtype=float).dtype).result() == "float64"


def test_within_threads_of_threads():
    with jax.default_matmul_precision("float32"):
        assert in_a_thread(in_a_thread, setting, "default_matmul_precision") == "float32"


def test_programs_are_shared_with_the_caller():
    traced = []

    @jax.jit
    def program(x):
        traced.append(1)
        return x + 1

    for double in (False, True):
        with jax.enable_x64(double):
            program(jnp.zeros(2, jnp.float32))
            n_before = len(traced)
            in_a_thread(program, jnp.zeros(2, jnp.float32))
            assert len(traced) == n_before


def fails():
    raise ArithmeticError("in the thread")


def test_an_error_is_raised_even_if_nobody_asks():
    """With the lines that led to it."""

    def work():
        with worker_threads(2) as submit:
            submit(fails)
            submit(int)

    with pytest.raises(ArithmeticError, match="in the thread") as info:
        work()
    assert "in fails" in "".join(traceback.format_tb(info.value.__traceback__))


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_the_rest_is_given_up(error):
    """If the block ends early: calls that run come to their end, others do not begin."""
    begun, done, wait = [], [], threading.Event()

    def call(number):
        begun.append(number)
        wait.wait(30)
        done.append(number)

    def work():
        with worker_threads(2) as submit:
            for number in range(20):
                submit(call, number)
            while len(begun) < 2:
                time.sleep(0.01)
            threading.Timer(0.2, wait.set).start()
            raise error

    with pytest.raises(error):
        work()
    assert sorted(begun) == sorted(done) == [0, 1]


INTERRUPTED = """
    import signal
    import time
    from jaxvelo.graph._threads import worker_threads

    signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background inherits to ignore it
    with worker_threads(2) as submit:
        calls = [submit(time.sleep, 0.2) for _ in range(2_000)]
        print("waiting", flush=True)
        for call in calls:
            call.result()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are those of Unix")
def test_an_interrupt_ends_it():
    program = [sys.executable, "-c", textwrap.dedent(INTERRUPTED)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert process.returncode not in (0, None)
