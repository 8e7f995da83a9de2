"""The names that examples use, made when the first example mentions them."""

import ast
import copy
import functools
from typing import Any

import anndata
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import scipy.sparse as sp

import jaxvelo as jv
from tests.solved_problem import SolvedProblem

MODULES = {
    "jv": jv,
    "np": np,
    "jnp": jnp,
    "jax": jax,
    "sp": sp,
    "pd": pd,
    "eqx": eqx,
    "optax": optax,
    "anndata": anndata,
}


@functools.cache
def simulated() -> dict[str, Any]:
    """Counts of 150 cells on their way to two fates."""
    return {"counts": jv.datasets.simulate(n_cells=150, n_genes=40, seed=0)}


@functools.cache
def analysed() -> dict[str, Any]:
    """Cells with velocities, kernels on them, and fates."""
    adata = simulated()["counts"].copy()
    jv.pp.filter_and_normalize(adata)
    jv.pp.neighbors(adata, n_neighbors=15)
    jv.pp.moments(adata)
    jv.tl.velocity(adata, mode="deterministic")
    vk = jv.kernels.VelocityKernel(adata).compute_transition_matrix()
    ck = jv.kernels.ConnectivityKernel(adata).compute_transition_matrix()
    kernel = (0.8 * vk + 0.2 * ck).compute_transition_matrix()
    g = jv.estimators.GPCCA(kernel).compute_macrostates(3, cluster_key="clusters")
    g.set_terminal_states(["Fate A", "Fate B"]).compute_fate_probabilities()
    return {"adata": adata, "vk": vk, "ck": ck, "kernel": kernel, "g": g}


@functools.cache
def modelled() -> dict[str, Any]:
    """Cells with velocities of the dynamical model."""
    fitted = analysed()["adata"].copy()
    jv.tl.recover_dynamics(fitted)
    jv.tl.velocity(fitted, mode="dynamical")
    return {"fitted": fitted}


@functools.cache
def fit() -> dict[str, Any]:
    """What a fit to known fates finds, after a few steps."""
    given = analysed()
    objective = jv.objectives.FateLikelihood(given["adata"], "true_fate", "term_states_fwd")
    settings = {"train": ["scale", "weights", "gene_weights"], "penalty": 0.1, "prior": 3.0, "steps": 5}
    return {"result": jv.tl.fit_kernel(given["kernel"], objective, **settings, progress=False)}


@functools.cache
def coupled() -> dict[str, Any]:
    """A problem of two days that is solved, in the form that moscot gives it."""
    adata = simulated()["counts"].copy()
    adata.obs["day"] = np.where(adata.obs["true_time"] < 12, 1, 2)
    early, late = (int((adata.obs["day"] == day).sum()) for day in (1, 2))
    return {"problem": SolvedProblem(adata, "day", {(1, 2): np.ones((early, late))})}


@functools.cache
def arrays() -> dict[str, Any]:
    """The same cells as arrays: neighbour graph, moments, velocities and transition matrix."""
    adata = analysed()["adata"]
    spliced, unspliced, v = (jnp.asarray(adata.layers[key], float) for key in ("Ms", "Mu", "velocity"))
    return {
        "graph": jv.graph.NeighborGraph.from_csr(adata.obsp["connectivities"]),
        "x": spliced,
        "v": v,
        "spliced": spliced,
        "unspliced": unspliced,
        "time": jnp.asarray(adata.obs["true_time"].to_numpy(), float),
        "fates": jnp.asarray(adata.obsm["true_fate_probabilities"], float),
    }


@functools.cache
def problem_of_a_scale() -> dict[str, Any]:
    """The fit of a softmax scale to later cells, as the example of `jaxvelo.fit.Problem` makes it."""
    given = arrays()
    kernel, data = jv.transitions.Velocity(1.0), {"velocity": jv.transitions.Features(given["x"], given["v"])}
    scale = jv.fit.Parametrization(kernel, None, None, (40,), ("scale",), 1, 1, (0,), "near_one")
    later = given["fates"].round(), 3, given["fates"].argmax(axis=1), jnp.arange(150), jnp.ones(150)
    loss = jv.fit.FutureLikelihood(*later)
    problem = jv.fit.Problem.prepare(scale, loss, given["graph"], data, jax.random.key(0))
    return {"parametrization": scale, "fit_problem": problem}


@functools.cache
def transition_matrix() -> dict[str, Any]:
    """A transition matrix on their graph."""
    given = arrays()
    return {"T": jv.transitions.Velocity(softmax_scale=4.0)(given["graph"], given["x"], given["v"])}


MAKERS = {
    "counts": simulated,
    **dict.fromkeys(("adata", "vk", "ck", "kernel", "g"), analysed),
    "fitted": modelled,
    "result": fit,
    "problem": coupled,
    **dict.fromkeys(("graph", "x", "v", "spliced", "unspliced", "time", "fates"), arrays),
    **dict.fromkeys(("parametrization", "fit_problem"), problem_of_a_scale),
    "T": transition_matrix,
}


def names_for(source: str) -> dict[str, Any]:
    """The modules, and fresh copies of the names that a program mentions: its changes concern nobody else."""
    used = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)} & set(MAKERS)
    # Copied together: the kernel of an estimator remains the kernel.
    return {**MODULES, **copy.deepcopy({name: MAKERS[name]()[name] for name in sorted(used)})}
