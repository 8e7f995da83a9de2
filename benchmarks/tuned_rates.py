"""Rates of genes, tuned by gradient descent on known fates: from rates to velocities to transitions to a likelihood.

Usage: ``python -m benchmarks.tuned_rates`` with the data under ``$JAXVELO_SHARED``; prints JSON.

The simulated bifurcation of ``benchmarks.fit``, five folds. Transcription and degradation rates of the genes with the
highest likelihood are multiplied by trained factors, close to one by a quadratic penalty on their logarithms; scale
and weights stay those of the convention, times of the cells stay those of the fit. The penalty is chosen on cells left
out of the training cells.
"""

from __future__ import annotations

import functools
import json
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxvelo as jv
from benchmarks.our_fits import convention, dyngen, fates, folds
from jaxvelo.annotated.fit_columns import read_kinetics
from jaxvelo.transitions import Features

N_GENES, N_STEPS = 40, 60
CANDIDATE_PENALTIES = (0.003, 0.03, 0.3)


def refitted() -> Any:
    """The bifurcation with rates, times and velocities of the dynamical model."""
    adata = dyngen().copy()
    adata.var.drop(columns=[c for c in adata.var if c.startswith("fit") or c == "velocity_genes"], inplace=True)
    jv.tl.recover_dynamics(adata, var_names="all", show_progress_bar=False)
    jv.tl.velocity(adata, mode="dynamical", model="curve")
    return adata


def velocities(data: dict[str, Any], log_factors: jax.Array) -> jax.Array:
    """Velocities of the velocity genes, with the rates of the chosen ones multiplied by factors."""
    factors = jnp.ones((2, data["kinetics"].alpha.shape[0])).at[:, data["chosen"]].set(jnp.exp(log_factors))
    kinetics = eqx.tree_at(
        lambda k: (k.alpha, k.gamma),
        data["kinetics"],
        (data["kinetics"].alpha * factors[0], data["kinetics"].gamma * factors[1]),
    )
    velocity, _ = kinetics.expected_velocities(*data["times"])
    return jnp.maximum(velocity, -data["expression"])


@eqx.filter_jit
def loss(log_factors: jax.Array, data: dict[str, Any], cells: jax.Array, penalty: float | jax.Array) -> jax.Array:
    """Negative log-likelihood of the known fates on some cells, and the penalty."""
    features = {name: Features(data["expression"], velocities(data, log_factors)) for name in data["names"]}
    value = data["objective"](data["kernel"], data["graph"], features, jax.random.key(0), cells)
    return value + penalty * jnp.mean(jnp.square(log_factors))


@functools.cache
def _optimizer() -> optax.GradientTransformation:
    return optax.adam(0.05)


@eqx.filter_jit
def tune(data: dict[str, Any], cells: jax.Array, penalty: jax.Array) -> jax.Array:
    """Factors after all steps."""

    def step(state: Any, _: None) -> tuple[Any, None]:
        log_factors, optimizer_state = state
        gradient = jax.grad(loss)(log_factors, data, cells, penalty)
        updates, optimizer_state = _optimizer().update(gradient, optimizer_state)
        return (log_factors + updates, optimizer_state), None

    start = jnp.zeros((2, data["chosen"].shape[0]))
    (log_factors, _), _ = jax.lax.scan(step, (start, _optimizer().init(start)), length=N_STEPS)
    return log_factors


def experiment() -> dict[str, Any]:
    """Held-out loss of the fit's own rates and of tuned ones, fold by fold."""
    adata = refitted()
    kernel = convention(adata)
    kinetics, fitted = read_kinetics(adata)
    genes = np.flatnonzero(adata.var["velocity_genes"].to_numpy()[fitted])
    in_all = np.flatnonzero(fitted)[genes]
    likelihood = adata.var["fit_likelihood"].to_numpy()[in_all]
    transition_function = kernel.transition_function
    data = {
        "kinetics": jax.tree.map(lambda x: x[genes], kinetics),
        "chosen": jnp.asarray(np.argsort(-likelihood)[:N_GENES]),
        "times": [jnp.asarray(adata.layers[n][:, in_all], dtype=float) for n in ("fit_tau", "fit_tau_", "fit_on")],
        "expression": jnp.asarray(adata.layers["Ms"][:, in_all], dtype=float),
        "names": tuple(kernel.features),
        "objective": fates(adata),
        "kernel": transition_function,
        "graph": kernel.graph,
    }
    rows = []
    start = time.perf_counter()
    for held_out in folds(data["objective"], adata.n_obs)[:5]:
        training = np.zeros(adata.n_obs, dtype=bool)
        training[np.asarray(data["objective"].cell)] = True
        training &= ~held_out
        inner = training & (np.random.default_rng(0).random(adata.n_obs) < 0.25)
        as_weights = {n: jnp.asarray(m, dtype=float) for n, m in (("test", held_out), ("train", training))}
        trials = [
            float(
                loss(
                    tune(data, jnp.asarray(training & ~inner, float), jnp.asarray(p)),
                    data,
                    jnp.asarray(inner, float),
                    0.0,
                )
            )
            for p in CANDIDATE_PENALTIES
        ]
        penalty = CANDIDATE_PENALTIES[int(np.argmin(trials))]
        factors = tune(data, as_weights["train"], jnp.asarray(penalty))
        zero = jnp.zeros_like(factors)
        rows.append(
            {
                "before": float(loss(zero, data, as_weights["test"], 0.0)),
                "after": float(loss(factors, data, as_weights["test"], 0.0)),
                "training": [float(loss(f, data, as_weights["train"], 0.0)) for f in (zero, factors)],
                "penalty": penalty,
                "largest": float(jnp.max(jnp.abs(factors))),
            }
        )
    gain = np.array([row["after"] / row["before"] - 1 for row in rows])
    return {
        "folds": rows,
        "mean": float(gain.mean()),
        "half_width": float(2.776 * gain.std(ddof=1) / np.sqrt(len(gain))),  # t of 4 degrees of freedom
        "seconds": time.perf_counter() - start,
        "genes": len(genes),
        "tuned": N_GENES,
    }


if __name__ == "__main__":
    jv.settings.verbosity = "warning"
    print(json.dumps(experiment()))
