"""Threads of our own, in which JAX and NumPy are set as they are where they were started."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from typing import Any, ParamSpec, Protocol, TypeVar

import jax

P = ParamSpec("P")
R = TypeVar("R")

# More threads wait for each other: on 16 cores, 16 of them took 1.3 times as long.
MOST_WORKERS = 8

# One stands for three that are carried; under the other, no thread but one may use JAX.
NOT_CARRIED = ("transfer_guard", "thread_guard")
SETTINGS = tuple(name for name in vars(jax) if hasattr(jax.config, f"jax_{name}") and name not in NOT_CARRIED)
"""JAX's options that ``jax.NAME(value)`` sets as a context, for one thread only, and ``jax.config.jax_NAME`` reads."""


def n_workers() -> int:
    """Number of threads for work that keeps a processor core busy: one for each that this process may use."""
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(n_cores, MOST_WORKERS)


class Submit(Protocol):
    """What :func:`worker_threads` gives."""

    def __call__(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Call a function in a thread."""
        ...


@contextmanager
def worker_threads(count: int) -> Iterator[Submit]:
    """Threads for a block of code, that work under the same settings of JAX as the caller.

    JAX's contexts, such as ``with jax.enable_x64(True):``, hold for one thread, and NumPy's, ``with np.errstate():``,
    where they were entered. Here they hold in these threads too.

    Yields
    ------
    The function that has one of the threads call another: ``submit(function, *arguments)``, with its result or its
    error in ``submit(...).result()``.

    At the end of the block, all calls are waited for, and the first error that one of them ended in is raised, whether
    or not its result was asked for. If the block itself ends in an error, or is interrupted, calls that have not begun
    are given up, and those that run are waited for.
    """
    values = {name: _value(name) for name in SETTINGS}
    futures: list[Future] = []

    def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with ExitStack() as stack:
            for name, value in values.items():
                # The same value as a context would be another key for compiled programs.
                if _value(name) != value:
                    stack.enter_context(getattr(jax, name)(value))
            return function(*args, **kwargs)

    def submit(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        future = pool.submit(copy_context().run, lambda: call(function, *args, **kwargs))
        futures.append(future)
        return future

    pool = ThreadPoolExecutor(count)
    try:
        yield submit
        for future in futures:
            future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _value(name: str) -> Any:
    return getattr(jax.config, f"jax_{name}")
