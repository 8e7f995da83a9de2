"""What a fit is asked for: held-out cells, starts, and arguments that do not fit."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxvelo import fit, objectives, tl
from jaxvelo.kernels import VelocityKernel
from tests.bent_line import N_CELLS
from tests.fitting.fits import CLOSE, QUICK, check_scores, loss_of
from tests.snapshot import unchanged

pytestmark = pytest.mark.any_precision


class TestValidation:
    def test_forms(self, mixed, gain):
        adata = mixed.adata
        indices = np.arange(0, N_CELLS, 7)
        mask = np.isin(np.arange(N_CELLS), indices)
        results = [
            tl.fit_kernel(mixed, gain, validation=form, **QUICK)
            for form in (indices, mask, list(adata.obs_names[indices]), {"clusters": "late"}, 0.5)
        ]
        for result in results[:3]:
            np.testing.assert_array_equal(result.validation, mask)
            np.testing.assert_array_equal(result.training, ~mask)
            check_scores(result, gain, mixed)
        np.testing.assert_array_equal(results[3].validation, adata.obs["clusters"] == "late")
        assert results[4].validation.sum() == results[4].training.sum() == N_CELLS // 2

    def test_cells_without_items_do_not_count(self, mixed, fates):
        """Terminal cells and those of unknown fate are neither trained on nor held out."""
        result = tl.fit_kernel(mixed, fates, validation={"clusters": "early"}, **QUICK)
        items = np.isin(np.arange(N_CELLS), np.asarray(fates.cell))
        early = (mixed.adata.obs["clusters"] == "early").to_numpy()
        np.testing.assert_array_equal(result.validation, items & early)
        np.testing.assert_array_equal(result.training, items & ~early)

    def test_none_says_so(self, mixed, gain, logged):
        result = tl.fit_kernel(mixed, gain, validation=None, **QUICK)
        assert "WARNING: No cells were held out" in logged()
        assert "no cells were held out: nothing is said about whether the fitted kernel is better" in str(result)
        assert "held-out cells:" not in str(result)
        assert not result.is_validated
        assert result.training.all()
        for name in ("validation", "validation_convention", "validation_gain", "validation_gain_se"):
            assert np.isnan(result.scores[name])
        check_scores(result, gain, mixed)
        figure = result.plot(show=False)
        assert any("no cells were held out" in text.get_text() for ax in figure.axes for text in ax.texts)

    def test_held_out_is_not_warned_about(self, mixed, gain, logged):
        tl.fit_kernel(mixed, gain, **QUICK)
        assert "No cells were held out" not in logged()


class TestStarts:
    def test_number(self, mixed, gain):
        """The kernel's weights, equal weights, and further ones at random."""
        result = tl.fit_kernel(mixed, gain, starts=3, **QUICK)
        assert result.history["loss"].shape == (20, 3)
        scale = mixed.kernels[0].params["softmax_scale"]
        velocity, connectivity = mixed.kernels
        for start, weight in enumerate((0.8, 0.5)):
            first = weight * velocity + (1 - weight) * connectivity
            expected = loss_of(first, gain, result.training)
            assert np.isclose(result.history["training"][0, start], expected, **CLOSE), scale
        assert len(np.unique(result.history["training"][0])) == 3
        assert result.start == np.argmin(np.min(result.history["loss"], axis=0))
        assert f"best at step {result.step} of start {result.start}" in str(result)

    def test_list(self, mixed, known, gain):
        starts = [{"softmax_scale": 1, "weights": 0.5}, {"softmax_scale": 60}, {"weights": (1, 3)}]
        result = tl.fit_kernel(mixed, gain, starts=starts, **QUICK)
        automatic, connectivity = mixed.kernels
        for start, (scale, weight) in enumerate(((1.0, 0.5), (60.0, 0.8), (None, 0.25))):
            velocity = automatic
            if scale is not None:
                velocity = VelocityKernel(known).compute_transition_matrix(softmax_scale=scale)
            first = weight * velocity + (1 - weight) * connectivity
            expected = loss_of(first, gain, result.training)
            assert np.isclose(result.history["training"][0, start], expected, **CLOSE)
        # The convention is that of the kernel, wherever the fit starts.
        expected = loss_of(mixed, gain, result.training)
        assert np.isclose(result.scores["training_convention"], expected, **CLOSE)


BAD = {
    "no kernel": ({"kernel": 3}, TypeError, "Expected a kernel, found `int`"),
    "no objective": ({"objective": np.mean}, TypeError, "Wrap a function of the transition matrix"),
    "unknown name": ({"train": ["scales"]}, ValueError, r"'weights', 'numbers', 'gene_weights'\), found \['scales'\]"),
    "nothing": ({"train": []}, ValueError, "found none"),
    "nothing wished": ({"train": {"scale": False}}, ValueError, "found none"),
    "unknown penalty": ({"train": {"gene_weights": "ridge"}}, ValueError, "'near_one', 'sparse'.*found `'ridge'`"),
    "missing key": ({"train": {"scale": "leiden"}}, KeyError, r"adata.obs\['leiden'\].*clusters"),
    "numeric key": ({"train": {"scale": "pseudotime"}}, TypeError, "to be categorical"),
    "missing levels": ({"train": {"weights": "fate"}}, ValueError, r"obs\['fate'\].*found 12 without"),
    "no key": ({"train": {"scale": 3}}, TypeError, "True, 'smooth' or a key in `adata.obs`, found `3`"),
    "few cells": ({"validation": [3]}, ValueError, r"at least two validation cells .* found 1 \(.* 60 cells\)"),
    "small fraction": ({"validation": 0.01}, ValueError, "at least two validation cells"),
    "fraction": ({"validation": 1.5}, ValueError, "fraction between 0 and 1, found `1.5`"),
    "all cells": ({"validation": np.arange(N_CELLS)}, ValueError, "some cells to fit on"),
    "unknown cells": ({"validation": ["cell_x"]}, KeyError, r"found \['cell_x'\]"),
    "mask": ({"validation": np.ones(3, dtype=bool)}, ValueError, "mask of length 60"),
    "steps": ({"steps": 0}, ValueError, "`steps` to be an integer of at least 1"),
    "seed": ({"seed": -1}, ValueError, "`seed` to be an integer of at least 0"),
    "patience": ({"patience": 0}, ValueError, "`patience` to be an integer of at least 1"),
    "penalty": ({"penalty": -1.0}, ValueError, "`penalty` to be finite and not negative"),
    "word as penalty": ({"penalty": "auto"}, ValueError, "`penalty` to be finite and not negative, or None"),
    "no optimiser": ({"optimizer": "adam"}, TypeError, r"optax optimiser, such as `optax.adam\(0.1\)`, found `str`"),
    "resume what": ({"resume": "fit"}, TypeError, "`resume` to be a result of `fit_kernel`, found `str`"),
    "mask of one": ({"validation": False}, ValueError, "mask of length 60"),
    "range": ({"validation": {"pseudotime": [2, 3]}}, ValueError, "No validation indices have been selected"),
    "no starts": ({"starts": 0}, ValueError, "`starts` to be an integer of at least 1"),
    "empty starts": ({"starts": []}, ValueError, "a number or a list of dictionaries"),
    "one dictionary": ({"starts": {"weights": 0.5}}, ValueError, "a number or a list of dictionaries"),
    "word as starts": ({"starts": "two"}, ValueError, "a number or a list of dictionaries"),
    "numbers as starts": ({"starts": [0.5]}, ValueError, "each of `starts` to be a dictionary, found `0.5`"),
    "start of what": ({"starts": [{"scale": 1}]}, ValueError, r"'softmax_scale' and 'weights', found \['scale'\]"),
    "negative start": ({"starts": [{"softmax_scale": -1}]}, ValueError, "positive `softmax_scale` .* found `-1`"),
    "no number": ({"starts": [{"softmax_scale": None}]}, ValueError, "positive `softmax_scale` .* found `None`"),
    "truth value": ({"starts": [{"softmax_scale": True}]}, ValueError, "positive `softmax_scale` .* found `True`"),
    "weight beyond one": ({"starts": [{"weights": 1.5}]}, ValueError, "Expected 2 positive weights"),
    "three weights": ({"starts": [{"weights": (1, 2, 3)}]}, ValueError, "Expected 2 positive weights"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments(name, mixed, gain):
    arguments, error, message = BAD[name]
    arguments = {"kernel": mixed, "objective": gain, "progress": False, **arguments}
    with unchanged(mixed.adata), pytest.raises(error, match=message):
        tl.fit_kernel(arguments.pop("kernel"), arguments.pop("objective"), **arguments)


def test_what_the_kernel_lacks(velocity, connectivity, known, gain):
    with pytest.raises(ValueError, match="sum of at least two weighted kernels to fit 'weights'"):
        tl.fit_kernel(velocity, gain, train=["weights"])
    with pytest.raises(ValueError, match="a `VelocityKernel` to fit 'scale'"):
        tl.fit_kernel(connectivity, gain, train=["scale"])
    with pytest.raises(ValueError, match="found none that this kernel has"):
        tl.fit_kernel(connectivity, gain)
    with pytest.raises(RuntimeError, match="Compute transition matrix first"):
        tl.fit_kernel(VelocityKernel(known), gain)


FEW = {
    "TimeGain": lambda cells: objectives.TimeGain(cells, "pseudotime"),
    "FateLikelihood": lambda cells: objectives.FateLikelihood(cells, {"a": [9], "b": [8]}, {"a": [0], "b": [1]}),
    "FutureLikelihood": lambda cells: objectives.FutureLikelihood(cells, "day"),
    "CrossBoundary": lambda cells: objectives.CrossBoundary(cells, [("early", "middle")], "clusters"),
    "FunctionOf": lambda cells: objectives.FunctionOf(cells, lambda matrix: matrix @ jnp.ones(N_CELLS)),
    "sum": lambda cells: objectives.TimeGain(cells, "pseudotime") * 0.5 + FEW["FutureLikelihood"](cells),
}


@pytest.mark.parametrize("name", FEW)
def test_objective_on_other_cells(name, known, velocity):
    """Gathers beyond the end of an array would give a wrong loss without a word."""
    objective = FEW[name](known[:40].copy())
    for run in (tl.fit_kernel, tl.sweep_kernel):
        with pytest.raises(ValueError, match="an objective on the kernel's 60 cells, found one on 40"):
            run(velocity, objective)


def test_objective_on_more_cells(velocity, known):
    with pytest.raises(ValueError, match="kernel's 60 cells, found one on 61"):
        tl.fit_kernel(velocity, fit.TimeGain(jnp.zeros(61), jnp.arange(61), jnp.ones(61)))
    more = fit.HeldOutVelocity("velocity", 1, jnp.arange(61), jnp.ones(61))
    with pytest.raises(ValueError, match="kernel's 60 cells, found one on more"):
        tl.fit_kernel(velocity, more)


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (lambda matrix: jnp.mean(matrix @ jnp.ones(N_CELLS)), r"shape \(\)"),
        (lambda matrix: matrix @ jnp.ones((N_CELLS, 1)), r"shape \(60, 1\)"),
        (lambda matrix: None, "`NoneType`"),
    ],
    ids=["mean", "column", "nothing"],
)
def test_functions_of_another_shape(mixed, function, found):
    objective = objectives.FunctionOf(mixed.adata, function)
    for run in (tl.fit_kernel, tl.sweep_kernel):
        with pytest.raises(ValueError, match=rf"one loss for each cell, shape \(60,\), found {found}. The mean over"):
            run(mixed, objective)
