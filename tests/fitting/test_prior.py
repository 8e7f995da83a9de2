"""The prior of scales and weights: what it does, and how it is chosen."""

import numpy as np
import pytest

from jaxvelo import objectives, tl
from jaxvelo.fitting._prior import CANDIDATE_PRIORS, UNCHOSEN
from jaxvelo.kernels import ConnectivityKernel
from tests.fitting.fits import QUICK, same

WITHOUT = {name: value for name, value in QUICK.items() if name != "prior"}


def distance(result):
    scale = np.log(result.parameters["softmax_scale"] / result.convention["softmax_scale"])
    now, before = (np.log(w[0] / w[1]) for w in (result.parameters["weights"], result.convention["weights"]))
    return scale**2 + (now - before) ** 2


def test_it_is_part_of_the_loss(mixed, fates):
    result = tl.fit_kernel(mixed, fates, prior=0.5, **WITHOUT)
    penalty = distance(result) / (2 * 0.5**2 * result.training.sum())
    loss, training = (result.history[name][result.step, 0] for name in ("loss", "training"))
    assert penalty > 1e-5
    assert loss - training == pytest.approx(penalty, rel=1e-3)


def test_narrow_ones_keep_the_convention(mixed, fates, plain_fit):
    narrow = tl.fit_kernel(mixed, fates, prior=0.01, **WITHOUT)
    assert distance(narrow) < 0.05 * distance(plain_fit)
    assert narrow.prior == 0.01
    assert narrow.priors == {}


def test_it_knows_no_multiple_of_a_loss(mixed, fates):
    one, many = (tl.fit_kernel(mixed, c * fates, prior=0.3, **WITHOUT) for c in (1.0, 4.0))
    np.testing.assert_allclose(many.history["loss"][0], 4 * one.history["loss"][0], rtol=1e-4)
    assert many.parameters["softmax_scale"] == pytest.approx(float(one.parameters["softmax_scale"]), rel=1e-2)


def test_chosen(mixed, fates):
    """The narrowest that is no worse than the best by more than the standard error of the difference."""
    result = tl.fit_kernel(mixed, fates, **WITHOUT)
    np.testing.assert_array_equal(result.priors["candidates"], CANDIDATE_PRIORS)
    loss, error = result.priors["loss"], result.priors["loss_se"]
    good = np.flatnonzero(loss - loss.min() <= error)
    assert result.prior == CANDIDATE_PRIORS[good[0]]
    same(result, tl.fit_kernel(mixed, fates, resume=result, **WITHOUT))


def test_nothing_to_choose_by(mixed, logged):
    one = objectives.FateLikelihood(mixed.adata, {"end": [20]}, "terminal", blind=0)
    result = tl.fit_kernel(mixed, one, validation=None, **WITHOUT)
    assert result.prior == UNCHOSEN
    assert "Too few training cells to choose `prior` by: using 0.7" in logged()


@pytest.mark.parametrize("groups", [None, "donor"])
def test_errors_of_what_the_labels_do_not_tell_are_those_of_the_prior(mixed, fates, groups):
    """Two kernels that are the same: any weights of them are as good, however the cells are grouped."""
    _, similarity = mixed.kernels
    again = ConnectivityKernel(similarity.adata).compute_transition_matrix()
    kernel = 0.6 * similarity + 0.4 * again
    kernel.adata.obs["donor"] = [f"donor {number % 7}" for number in range(kernel.shape[0])]
    settings = {"train": ["weights"], "validation": None, "prior": 0.3, "groups": groups}
    result = tl.fit_kernel(kernel, fates, **{**WITHOUT, **settings})
    np.testing.assert_allclose(result.parameters["weights"], [0.6, 0.4], rtol=1e-3)
    # The logit of the first one's weight has the prior's deviation; by the delta method, the weight has as follows.
    np.testing.assert_allclose(result.standard_errors["weights"], 0.6 * 0.4 * 0.3, rtol=1e-2)


def test_said_and_drawn(mixed, fates):
    result = tl.fit_kernel(mixed, fates, **WITHOUT)
    assert f"prior of scales and weights: {result.prior:g}, chosen by validation" in str(result)
    given = tl.fit_kernel(mixed, fates, prior=0.5, **WITHOUT)
    assert "prior of scales and weights: 0.5, given" in str(given)
    axes, before = (r.plot(show=False).axes for r in (result, given))
    assert len(axes) == len(before) + 1
    assert axes[-1].get_title() == "choice of the prior"


@pytest.mark.parametrize("prior", [0, -1, np.nan, "wide"])
def test_bad_input(mixed, fates, prior):
    with pytest.raises(ValueError, match="Expected `prior` to be a positive standard deviation"):
        tl.fit_kernel(mixed, fates, prior=prior, **WITHOUT)
