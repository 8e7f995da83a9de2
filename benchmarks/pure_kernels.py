"""The pure functions against the machine: time over a floor, gradient over value, memory, compilations."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import anndata
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxvelo as jv
from benchmarks.timing import seconds
from jaxvelo.graph import NeighborGraph, map_rows
from jaxvelo.transitions import Connectivity, Features, TransitionFunction, Velocity, evaluate_velocity


def measure(velocity: Any, connectivity: Any) -> dict[str, Any]:
    """Measure on the data of two computed kernels."""
    graph = velocity.graph
    (features,) = velocity.features.values()
    transition_function = Velocity()
    ready = jax.block_until_ready
    gather_sum = eqx.filter_jit(gather_and_sum)
    result = {
        "pure": seconds(lambda: ready(evaluate_velocity(transition_function, graph, features)), repeats=31, warm_up=3),
        "floor": seconds(lambda: ready(gather_sum(graph, features.x)), repeats=31, warm_up=3),
    }
    named = {"velocity": features}
    n_genes = features.x.shape[1]
    mixed, loss = mixed_loss(graph.n_cells, n_genes)
    value, gradient = eqx.filter_jit(loss), eqx.filter_jit(eqx.filter_value_and_grad(loss))
    result["value"] = seconds(lambda: ready(value(mixed, graph, named)), repeats=15, warm_up=2)
    result["gradient"] = seconds(lambda: ready(gradient(mixed, graph, named)), repeats=15, warm_up=2)
    result["memory"] = memory(graph, features, mixed, loss)
    result["machine"] = machine()
    result["compilations"] = compilations(velocity.adata)
    slots = sum(column.size for column in graph.columns)
    result["gathered_bytes"] = slots * n_genes * features.x.dtype.itemsize
    result["fill"] = velocity.connectivities.nnz / slots
    return result


def mixed_loss(n_cells: int, n_genes: int) -> tuple[TransitionFunction, Callable[..., jax.Array]]:
    """Both kernels with all parameters, and a loss of a transition function, a graph and named features."""
    target = jnp.linspace(0, 1, n_cells)

    def loss(transition_function, graph, named):
        return jnp.mean((transition_function(graph, named) @ target) ** 2)

    return 0.8 * Velocity(6.0, jnp.ones(n_genes)) + 0.2 * Connectivity(), loss


def gather_and_sum(graph: NeighborGraph, x: jax.Array) -> tuple[jax.Array, ...]:
    """The floor: gather every neighbour's row over the same buckets and blocks, and sum it."""
    return map_rows(lambda _, others: jnp.sum(others, axis=0), graph.pattern, x)


def memory(graph: NeighborGraph, features: Features, mixed, loss) -> dict[str, float]:
    """Temporary memory of the compiled programs, in bytes, as XLA states it."""

    def temporary(function, *arguments) -> float:
        return function.lower(*arguments).compile().memory_analysis().temp_size_in_bytes

    def evaluate(model):
        transition_function = Velocity(4.0, model=model)
        run = jax.jit(lambda g, f, k: transition_function(g, {"velocity": f}, key=k).values)
        return temporary(run, graph, features, jax.random.key(0))

    arrays, static = eqx.partition(mixed, eqx.is_array)
    gradient = jax.jit(lambda a, g, f: jax.grad(lambda a: loss(eqx.combine(a, static), g, {"velocity": f}))(a))
    largest = sum(c.size for c in graph.columns) * features.x.shape[1] * features.x.dtype.itemsize
    return {
        **{model: evaluate(model) for model in jv.transitions.MODELS},
        "gradient": temporary(gradient, arrays, graph, features),
        "inputs": 2 * features.x.nbytes,
        "cells_neighbors_genes": largest,
    }


def machine() -> dict[str, float]:
    """Measured memory bandwidth (bytes/s, read and write counted) and float32 matrix product rate (FLOP/s)."""
    source = np.ones(1 << 26, dtype=np.float32)
    target = np.empty_like(source)
    copy = seconds(lambda: np.copyto(target, source), repeats=5)["min"]
    square = jnp.ones((2048, 2048), jnp.float32)
    product = jax.jit(jnp.matmul)
    multiply = seconds(lambda: jax.block_until_ready(product(square, square)), repeats=5)["min"]
    return {"bandwidth": 2 * source.nbytes / copy, "flops": 2 * 2048**3 / multiply}


def compilations(adata: anndata.AnnData) -> dict[str, int]:
    """Count programs compiled for further data sets, after the first one."""
    import logging

    class Counter(logging.Handler):
        count = 0

        def emit(self, record: logging.LogRecord) -> None:
            self.count += "Finished XLA compilation" in record.getMessage()

    counter = Counter()
    logger = logging.getLogger("jax._src.dispatch")
    logger.addHandler(counter)
    previous = jax.config.jax_log_compiles
    propagate, logger.propagate = logger.propagate, False
    jax.config.update("jax_log_compiles", True)
    jv.kernels.VelocityKernel(adata).compute_transition_matrix()
    counts: dict[str, int] = {}
    try:
        for name, fraction in (("similar", 0.99), ("other", 0.6)):
            part = adata[: int(adata.n_obs * fraction)].copy()
            known = {c.shape for c in jv.kernels.VelocityKernel(adata).graph.columns}
            kernel = jv.kernels.VelocityKernel(part)
            shapes = {c.shape for c in kernel.graph.columns}
            counter.count = 0
            kernel.compute_transition_matrix()
            counts[name] = counter.count
            counts[f"{name}_new_shapes"] = len(shapes - known)
    finally:
        jax.config.update("jax_log_compiles", previous)
        logger.removeHandler(counter)
        logger.propagate = propagate
    return counts


if __name__ == "__main__":
    began = time.perf_counter()
    print(machine(), time.perf_counter() - began)
