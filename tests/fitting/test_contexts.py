"""JAX's contexts around calls that start threads: they hold in these too, and errors of the threads come out."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from jaxvelo import tl
from tests.fitting.fits import QUICK

pytestmark = pytest.mark.any_precision

PROGRAM = """
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jaxvelo import objectives, tl
    from jaxvelo.dynamics import _dynamical_model
    from jaxvelo.kernels import ConnectivityKernel, VelocityKernel
    from jaxvelo.fitting import _fit_kernel
    from tests.fitting.known_fates import make_known
    from tests.tl.come_and_go import moments

    _dynamical_model.n_workers = lambda: 2
    seen = set()

    def watched(module, name):
        function = getattr(module, name)

        def watching(*args):
            found = function(*args)
            seen.update((name, device.id) for leaf in jax.tree.leaves(found) for device in leaf.devices())
            return found

        setattr(module, name, watching)

    watched(_fit_kernel, "item_losses")
    watched(_dynamical_model, "fit_curves")

    def everything():
        adata = make_known()
        kernel = 0.8 * VelocityKernel(adata).compute_transition_matrix()
        kernel += 0.2 * ConnectivityKernel(adata).compute_transition_matrix()
        objective = objectives.FateLikelihood(adata, "fate", "terminal")
        fit = tl.fit_kernel(kernel, objective, steps=20, progress=False, prior=np.inf)
        cells = moments()
        for name in ("Ms", "Mu"):
            cells.layers[name] = cells.layers[name].astype(jnp.result_type(float))
        tl.recover_dynamics(cells, "chosen", max_iter=5, show_progress_bar=False)
        found = {f"{kind}_{key}": value for kind in ("parameters", "standard_errors", "scores", "history")
                 for key, value in getattr(fit, kind).items()}
        return found | {"time": cells.layers["fit_t"], "gamma": cells.var["fit_gamma"].to_numpy()}

    second = jax.devices()[1]
    with jax.enable_x64(True), jax.default_device(second):
        found = everything()
    assert seen == {(name, second.id) for name in ("item_losses", "fit_curves")}, seen
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_default_device", second)
    expected = everything()
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert np.asarray(value).dtype == np.asarray(found[name]).dtype == np.float64, name
        np.testing.assert_array_equal(found[name], value, err_msg=name)
"""


def test_precision_and_device_of_contexts_hold_in_threads():
    """Results are those of a process that is set so as a whole."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_ENABLE_X64": "0", "JAX_PLATFORMS": "cpu"}
    folder = Path(__file__).parents[2]
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(PROGRAM)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr


def test_an_error_of_the_losses_comes_out(mixed, fates, monkeypatch):
    def fails(*args):
        raise ArithmeticError("no losses")

    monkeypatch.setattr("jaxvelo.fitting._fit_kernel.item_losses", fails)
    with pytest.raises(ArithmeticError, match="no losses"):
        tl.fit_kernel(mixed, fates, **QUICK)


def test_the_fit_of_genes_can_be_interrupted(known, monkeypatch):
    """Batches that have not begun are given up."""
    from jaxvelo.dynamics import _dynamical_model, fit_dynamics, neighborhood_weights

    batches = []

    def counted(fit, columns, u, *args):
        batches.append(columns)
        return np.full((len(columns), 4), np.nan)

    def interrupted(n_done):
        raise KeyboardInterrupt

    monkeypatch.setattr(_dynamical_model, "_fit_batch", counted)
    monkeypatch.setattr(_dynamical_model, "n_workers", lambda: 1)
    counts = np.random.default_rng(0).gamma(2.0, size=(60, 2_000))
    weights = neighborhood_weights(known.obsp["connectivities"])
    memory = _dynamical_model.ARRAYS_PER_BATCH * 60 * 8 * 8
    with pytest.raises(KeyboardInterrupt):
        fit_dynamics(counts, counts, weights, memory=memory, report=interrupted)
    assert 0 < len(batches) < 100
