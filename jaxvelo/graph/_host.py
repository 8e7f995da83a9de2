"""Functions of NumPy arrays as steps of JAX programs."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental.buffer_callback import buffer_callback


def call_on_host(function: Callable[..., Any], results: Any, *arguments: Any) -> Any:
    """Call a function of NumPy arrays, from within a program or not.

    On a CPU, it reads the program's own memory. :func:`jax.pure_callback` would hand it JAX arrays, copied by a thread
    of those that run the programs: with one processor core there is one such thread, which waits in the callback, so
    that the copy never comes. On an accelerator, those threads are free.

    Parameters
    ----------
    function
        Pure function of NumPy arrays, in the structure of the arguments, that returns some in the structure of the
        results. It must keep none of its arguments, whose memory is lent for the call, nor write into them; and it
        must not use JAX.
    results
        Shapes and types of what it returns, as :class:`jax.ShapeDtypeStruct`. Numbers are rounded to these types.
    *arguments
        Arrays, or trees of them.

    Returns
    -------
    The results, as JAX arrays. There are no derivatives; a ``vmap`` calls once for each element.

    Notes
    -----
    On an accelerator, JAX hands numbers of single precision to the host where double precision is enabled as a context
    and not for the whole process. That is a TypeError.
    """

    def fill(_, filled: Any, *buffers: Any) -> None:
        found = function(*jax.tree.map(np.asarray, buffers))
        jax.tree.map(lambda buffer, values: np.copyto(np.asarray(buffer), values, "same_kind"), filled, found)

    def returned(*arrays: Any) -> Any:
        jax.tree.map(_check_type, arrays, types)
        found = function(*jax.tree.map(np.asarray, arrays))
        return jax.tree.map(lambda result, values: np.asarray(values, result.dtype), results, found)

    types = jax.tree.map(lambda array: np.dtype(array.dtype), arguments)
    return jax.lax.platform_dependent(
        *arguments,
        cpu=buffer_callback(fill, results, vmap_method="sequential"),
        default=lambda *arrays: jax.pure_callback(returned, results, *arrays, vmap_method="sequential"),
    )


def _check_type(array: Any, expected: np.dtype) -> None:
    if array.dtype != expected:
        raise TypeError(
            f"Expected numbers of the type {expected} on the host, found {array.dtype}. Enable double precision for "
            "the whole process as `jax.config.update('jax_enable_x64', True)`."
        )
