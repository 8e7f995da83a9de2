"""Numbers of kernels without velocities, fitted beside scales and weights."""

import numpy as np
import pytest

from jaxvelo import objectives, tl
from jaxvelo.kernels import CytoTRACEKernel, PseudotimeKernel, RealTimeKernel
from tests.fitting.fits import QUICK, check_scores


@pytest.fixture(scope="module")
def soft(known):
    return PseudotimeKernel(known, "pseudotime").compute_transition_matrix("soft", b=2.0, nu=1.5)


@pytest.fixture(scope="module")
def timed(known):
    rng = np.random.default_rng(0)
    day = known.obs["day"].astype(float).to_numpy()
    first, second = ((day == a)[:, None] & (day == a + 1)[None] for a in (0, 1))
    couplings = {
        pair: rng.random(tuple(int(n) for n in (both.any(axis=1).sum(), both.any(axis=0).sum())))
        for pair, both in (((0, 1), first), ((1, 2), second))
    }
    kernel = RealTimeKernel(known, "day", couplings)
    return kernel.compute_transition_matrix("auto", "all", 0.4, {"conn_key": "connectivities"})


def test_alone(soft, timed, gain):
    result = tl.fit_kernel(soft, gain, **QUICK)
    check_scores(result, gain, soft)
    assert list(result.parameters) == ["b", "nu"]
    assert {name: float(value) for name, value in result.convention.items()} == pytest.approx({"b": 2, "nu": 1.5})
    assert result.kernel.params["b"] == pytest.approx(float(result.parameters["b"]), rel=1e-6)
    assert result.kernel.params["b"] > soft.params["b"] == 2
    assert "b: 2" in str(result)
    result = tl.fit_kernel(timed, gain, **QUICK)
    assert result.convention["conn_weight"] == pytest.approx(0.4)
    assert result.parameters["conn_weight"] < 0.4
    assert result.kernel.params["conn_weight"] == pytest.approx(float(result.parameters["conn_weight"]), rel=1e-6)


@pytest.mark.any_precision
def test_together_with_scales_and_weights(soft, velocity, fates):
    """Terms of one kernel share its numbers; a likelihood gives them standard errors."""
    other = soft.copy().compute_transition_matrix("soft", b=4.0)
    kernel = 0.6 * soft + 0.2 * (velocity * soft) + 0.2 * other
    result = tl.fit_kernel(kernel, fates, **{**QUICK, "prior": 1.0, "steps": 5})
    assert list(result.parameters) == ["softmax_scale", "weights", "b_0", "b_1", "nu_0", "nu_1"]
    assert [float(result.convention[name]) for name in ("b_0", "b_1")] == pytest.approx([2, 4])
    assert set(result.standard_errors) == set(result.parameters)
    assert all(np.isfinite(error).all() and (error > 0).all() for error in result.standard_errors.values())
    fitted = [k.params["b"] for k in result.kernel.kernels if "b" in k.params]
    assert fitted == pytest.approx([float(result.parameters[f"b_{i}"]) for i in (0, 1)])
    check_scores(result, fates)


@pytest.mark.any_precision
def test_what_has_no_numbers(known, velocity, connectivity, gain):
    hard = PseudotimeKernel(known, "pseudotime").compute_transition_matrix()
    with pytest.raises(ValueError, match=r"a kernel with numbers to fit.* to fit 'numbers'"):
        tl.fit_kernel(0.5 * hard + 0.5 * velocity, gain, train=["numbers"])
    soft = hard.copy().compute_transition_matrix("soft")
    with pytest.raises(ValueError, match=r"train\['numbers'\]` to be True"):
        tl.fit_kernel(soft, gain, train={"numbers": "clusters"})
    with pytest.raises(TypeError, match="has no numbers to fit"):
        connectivity.with_numbers({"b": 1.0})
    cells = known.copy()
    result = tl.fit_kernel(
        CytoTRACEKernel(cells).compute_cytotrace(n_genes=5, layer="X").compute_transition_matrix("soft"),
        objectives.TimeGain(cells, "pseudotime"),
        **QUICK,
    )
    assert type(result.kernel) is CytoTRACEKernel
