"""The parameters of a run as they were used, those that were derived from the data included, and the versions."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

import jaxvelo
from jaxvelo.cli import _workflow as workflow
from jaxvelo.cli._account import Account
from jaxvelo.cli._plan_along_time import DAYS
from jaxvelo.cli._trends import TABLE
from jaxvelo.kernels import Kernel

PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "pandas", "anndata", "equinox", "lineax", "matplotlib")
OF_UMAP, OF_COUPLINGS, OF_NEIGHBORS = ("scanpy", "umap-learn"), ("ott-jax",), ("scikit-learn", "faiss-cpu")
# Of an estimator's results, in the order of the way; what each is called.
RESULTS = {
    "schur_decomposition": "Schur vectors",
    "macrostates": "macrostates",
    "terminal_states": "terminal states",
    "fate_probabilities": "fate probabilities",
    "lineage_drivers": "genes of the fates",
}
# What is no choice of this run, or without effect in it.
UNTOLD = ("attr", "check_connectivity", "n_perms", "nan_policy", "use_raw", "allow_overlap", "obsp_key")

Row = tuple[str, str, object]


def used_parameters(account: Account) -> list[Row]:
    """List step, parameter and value."""
    return [
        *_of_cells(account),
        *_of_graph(account),
        *_of_velocities(account),
        *_of_transitions(account),
        ("random walks", "number", workflow.N_WALKS),
        ("random walks", "steps", workflow.N_STEPS),
        ("random walks", "start", account.options.start or "any cell"),
        *_of_fates(account),
        *_of_trends(account),
        ("embedding", "name", f"{account.basis}{' (computed)' if account.plan.umap else ' (as stored)'}"),
        ("all steps", "seed", account.options.seed),
    ]


def versions(account: Account) -> list[tuple[str, str]]:
    """List the programs that computed this, and their versions."""
    packages = list(PACKAGES)
    if account.plan.neighbors:
        packages += OF_NEIGHBORS
    if account.plan.umap:
        packages += OF_UMAP
    if account.plan.time == DAYS:
        packages += OF_COUPLINGS
    found = [("jaxvelo", jaxvelo.__version__), ("Python", platform.python_version())]
    for package in packages:
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:  # another one does the work
            continue
    return found


def _of_cells(account: Account) -> Iterator[Row]:
    options, plan = account.options, account.plan
    yield "cells", "cells", account.shape[0]
    yield "cells", "genes", account.shape[1]
    yield "cells", "column of the clusters", account.cluster_key or "none"
    if plan.counts:
        least = workflow.MIN_SHARED_COUNTS if options.min_shared_counts is None else options.min_shared_counts
        yield "counts", "least shared counts of a gene", least
        yield "counts", "genes kept", account.adata.n_vars
    if plan.prepares_counts:
        yield "counts", "cells brought to the same size", "yes" if account.normalized else "no"
    if "highly_variable" in account.adata.var:
        yield "counts", "highly variable genes", int(account.adata.var["highly_variable"].sum())


def _of_graph(account: Account) -> Iterator[Row]:
    graph, adata = account.plan.graph, account.adata
    if account.plan.neighbors:
        yield from _of_mapping("neighbours", adata.uns[graph.key]["params"])
        return
    degrees = np.diff(adata.obsp[graph.connectivities].tocsr().indptr)
    yield "neighbours", "as stored in", f"obsp['{graph.connectivities}']"
    yield "neighbours", "mean number", f"{degrees.mean():.3g}"


def _of_velocities(account: Account) -> Iterator[Row]:
    plan, options, adata = account.plan, account.options, account.adata
    if plan.time is not None:
        return
    if account.mode is None:
        yield "velocities", "as stored in", f"layers['{options.vkey}']"
        return
    yield "velocities", "model", account.mode
    if account.mode == "dynamical":
        yield "velocities", "fit", "computed" if plan.fit else "as stored in var['fit_alpha'] and so on"
    if "velocity_genes" in adata.var:
        yield "velocities", "velocity genes", int(adata.var["velocity_genes"].sum())


def _of_transitions(account: Account) -> Iterator[Row]:
    yield "transition matrix", "kernel", f"`{account.kernel}`"
    yield "transition matrix", "key", account.options.kernel_key
    for kernel in account.kernel.kernels:
        assert isinstance(kernel, Kernel)
        yield from _of_mapping(type(kernel).__name__, {**kernel.init, **kernel.params})


def _of_fates(account: Account) -> Iterator[Row]:
    if account.estimator is None:
        return
    params = account.estimator.params
    for result, name in RESULTS.items():
        yield from _of_mapping(name, params.get(result, {}))


def _of_trends(account: Account) -> Iterator[Row]:
    if account.trends is None:
        return
    yield "trends", "time", account.time_key
    yield "trends", "genes", len(account.trends.genes)
    yield "trends", "table", TABLE


def _of_mapping(step: str, params: Mapping[str, Any]) -> Iterator[Row]:
    """Numbers and words; what is left open says nothing."""
    for name, value in params.items():
        if value is None or name in UNTOLD or isinstance(value, Mapping | np.ndarray | list | tuple):
            continue
        if isinstance(value, bool | np.bool_):
            value = "yes" if value else "no"
        yield step, name, f"{value:.6g}" if isinstance(value, float) else value
