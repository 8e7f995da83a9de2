"""Pictures of fits and sweeps, from results made by hand."""

import copy
import dataclasses
import itertools
from types import SimpleNamespace

import anndata
import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from jaxvelo import pl, tl

pytestmark = pytest.mark.any_precision

N_CELLS, N_STEPS = 50, 12


def make_result(n_starts=1, validated=True, scale=None, weights=None, genes=False, penalties=False, errors=True):
    """A result with the given parameters; by default one scale and two weights."""
    training = np.arange(N_CELLS) % 5 > 0
    decay = 1 + np.exp(-np.arange(N_STEPS) / 3)[:, None] + 0.1 * np.arange(n_starts)
    parameters = {
        "softmax_scale": np.asarray(4.0 if scale is None else scale),
        "weights": np.asarray([0.7, 0.3] if weights is None else weights, dtype=float),
    }
    convention = {"softmax_scale": 0 * parameters["softmax_scale"] + 2, "weights": 0 * parameters["weights"] + 0.5}
    standard_errors = {name: 0 * value + 0.05 for name, value in parameters.items()} if errors else {}
    if genes:
        parameters["gene_weights"] = np.exp(np.linspace(-1, 1, 30))
    return tl.FitResult(
        kernel=None,
        objective="FateLikelihood",
        parameters=parameters,
        convention=convention,
        standard_errors=standard_errors,
        levels={"softmax_scale": ["a", "b", "c"], "weights": ["x", "y"]},
        genes={"gene_weights": np.array([f"gene {i}" for i in range(30)])} if genes else {},
        history={"loss": decay, "training": decay, "validation": decay + 0.2 if validated else 0 * decay},
        scores={
            "training": 1.1, "training_convention": 1.8, "validation": 1.3, "validation_convention": 2.0,
            "validation_gain": 0.7, "validation_gain_se": 0.1,
        },
        training=training,
        validation=~training & validated,
        groups="cells",
        group=np.arange(N_CELLS),
        outside=30.0,
        changed="fate probabilities",
        change=np.full(N_CELLS, 0.1),
        fates={},
        fate_names=[],
        doubtful=np.zeros(N_CELLS, bool),
        doubts=[],
        prior=np.inf,
        priors={},
        penalty=0.3 if genes else 0.0,
        penalties={
            "candidates": np.array([0.1, 0.3, 1.0]), "loss": np.array([1.2, 1.1, np.inf]), "loss_se": np.full(3, 0.1),
        } if penalties else {},
        start=0,
        step=N_STEPS - 1,
        failed=np.full(n_starts, -1),
    )  # fmt: skip


def titles(figure):
    return [ax.get_title() for ax in figure.axes]


def test_scale_and_weights():
    figure = pl.fit(make_result(n_starts=2), show=False)
    assert titles(figure) == ["FateLikelihood", "gain 0.7 ± 0.1 (35%)", "softmax scale", "weight of the first kernel"]
    history, scores, scale, weight = figure.axes
    # Training and validation of two starts, the convention of both, and the best step.
    assert len(history.lines) == 4 + 2 + 1
    np.testing.assert_array_equal(history.lines[0].get_ydata(), make_result().history["training"][:, 0])
    assert {line.get_ydata()[0] for line in history.lines if line.get_linestyle() == "--"} == {1.8, 2.0}
    assert [text.get_text() for text in history.get_legend().get_texts()] == ["training cells", "held-out cells"]
    assert scores.get_ylabel() == "loss on 10 held-out cells"
    np.testing.assert_allclose(scores.collections[0].get_offsets(), [[0, 2.0], [1, 1.3]])
    np.testing.assert_allclose(scale.collections[0].get_offsets(), [[0, 2.0], [1, 4.0]])
    np.testing.assert_allclose(weight.collections[0].get_offsets(), [[0, 0.5], [1, 0.7]])
    segments = [c.get_segments()[0] for c in scale.collections if hasattr(c, "get_segments")]
    np.testing.assert_allclose(segments[0], [[1, 3.9], [1, 4.1]])


def test_not_validated():
    figure = pl.fit(make_result(validated=False), show=False)
    assert any("no cells were held out" in text.get_text() for text in figure.axes[1].texts)
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["training cells"]
    assert not any("gain" in title for title in titles(figure))


def test_levels():
    result = make_result(scale=[1.0, 2.0, 8.0], weights=[[0.9, 0.1], [0.2, 0.8]])
    figure = pl.fit(result, show=False)
    scale, weight = figure.axes[2:]
    assert [label.get_text() for label in scale.get_yticklabels()] == ["a", "b", "c"]
    assert [label.get_text() for label in weight.get_yticklabels()] == ["x", "y"]
    # From the first level on top to the last at the bottom.
    np.testing.assert_allclose(scale.collections[0].get_offsets(), [[2.0, 2], [2.0, 1], [2.0, 0]])
    np.testing.assert_allclose(scale.containers[0].lines[0].get_xdata(), [1.0, 2.0, 8.0])
    np.testing.assert_allclose(weight.containers[0].lines[0].get_xdata(), [0.9, 0.2])
    for ax in (scale, weight):
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["convention", "fitted, ± 2 se"]
    unknown = pl.fit(make_result(scale=[1.0, 2.0, 8.0], errors=False), show=False).axes[2]
    assert unknown.get_legend().get_texts()[1].get_text() == "fitted"


def test_many_levels_hide_nothing():
    """Names do not overlap, and the legend stands beside the levels."""
    result = make_result(scale=np.linspace(1, 9, 30))
    result.levels["softmax_scale"] = [f"Pre-endocrine progenitor {i}" for i in range(30)]
    figure = pl.fit(result, show=False)
    figure.canvas.draw()
    ax = figure.axes[2]
    names = [label.get_window_extent() for label in ax.get_yticklabels()]
    assert not any(below.overlaps(above) for above, below in itertools.pairwise(names))
    assert not ax.get_legend().get_window_extent().overlaps(ax.get_window_extent())
    assert all(name.x0 >= 0 and name.x1 <= figure.bbox.x1 for name in names)


def test_one_for_each_cell():
    share = np.linspace(0.1, 0.9, N_CELLS)
    result = make_result(scale=np.linspace(1, 3, N_CELLS), weights=np.stack([share, 1 - share], axis=1), errors=False)
    figure = pl.fit(result, show=False)
    for ax in figure.axes[2:]:
        assert sum(patch.get_height() for patch in ax.patches) == N_CELLS
        assert ax.get_ylabel() == "cells"
        assert ax.get_xscale() == "linear"
    wide = make_result(scale=np.geomspace(0.1, 100, N_CELLS), weights=result.parameters["weights"], errors=False)
    ax = pl.fit(wide, show=False).axes[2]
    assert ax.get_xscale() == "log"
    assert sum(patch.get_height() for patch in ax.patches) == N_CELLS


def test_genes_and_penalties():
    figure = pl.fit(make_result(genes=True, penalties=True), n_genes=5, show=False)
    assert titles(figure)[-2:] == ["genes that carry the fit", "choice of the penalty"]
    genes, choice = figure.axes[-2:]
    assert [label.get_text() for label in genes.get_yticklabels()] == [f"gene {i}" for i in range(29, 24, -1)]
    assert len(genes.patches) == 5
    assert genes.patches[0].get_width() > genes.patches[4].get_width() > 1
    # A penalty at which the loss was not finite is left out.
    np.testing.assert_array_equal(choice.containers[0].lines[0].get_xdata(), [0.1, 0.3])
    assert choice.get_xscale() == "log"
    assert titles(pl.fit(make_result(genes=True), show=False))[-1] == "genes that carry the fit"


def test_several_velocity_terms_and_sums():
    result = make_result()
    parameters = {
        "softmax_scale_0": np.asarray(1.0),
        "softmax_scale_1": np.asarray(2.0),
        "weights_0": np.array([0.2, 0.5, 0.3]),
    }
    changed = {"parameters": parameters, "convention": parameters, "standard_errors": {}}
    figure = pl.fit(tl.FitResult(**{**vars(result), **changed}), show=False)
    assert titles(figure)[2:] == ["softmax scale 0", "softmax scale 1", "weight of the first kernel 0"]


def test_save_and_show(tmp_path, monkeypatch):
    result = make_result()
    shown = []
    monkeypatch.setattr(plt, "show", lambda *_, **__: shown.append(1))
    assert pl.fit(result) is None
    assert shown == [1]
    assert pl.fit(result, save=tmp_path / "fit.png") is None
    assert (tmp_path / "fit.png").stat().st_size > 0
    assert shown == [1]
    assert pl.fit(result, save=tmp_path / "both.svg", show=True) is None
    assert (tmp_path / "both.svg").exists()
    assert shown == [1, 1]
    figure = result.plot(show=False, figsize=(5, 2), dpi=50)
    assert tuple(figure.get_size_inches()) == (5, 2)
    assert figure.dpi == 50
    with pytest.raises(ValueError, match="`save` to end in one of"):
        pl.fit(result, save=tmp_path / "fit.xyz")


def make_fates_result(names=("a", "b"), **obsm):
    """A result with fates on cells in an embedding."""
    rng = np.random.default_rng(0)
    obs = {"true_fate": pd.Categorical.from_codes(np.arange(N_CELLS) % len(names), names)}
    adata = anndata.AnnData(
        obs=pd.DataFrame(obs, index=[str(i) for i in range(N_CELLS)]),
        obsm={"X_umap": rng.normal(size=(N_CELLS, 2)), **obsm},
    )
    fates = {name: rng.dirichlet(np.ones(len(names)), N_CELLS) for name in ("convention", "fitted")}
    return dataclasses.replace(make_result(), kernel=SimpleNamespace(adata=adata), fates=fates, fate_names=list(names))


def test_fates():
    result = make_fates_result()
    axes = pl.fit_fates(result, show=False)
    assert [ax.get_title() for ax in axes] == ["a, convention", "a, fitted", "fitted − convention"]
    shown = [np.sort(ax.collections[-1].get_array()) for ax in axes]
    before, after = (result.fates[name][:, 0] for name in ("convention", "fitted"))
    for found, expected in zip(shown, (before, after, after - before), strict=True):
        np.testing.assert_allclose(found, np.sort(expected))
    assert [ax.collections[-1].get_clim() for ax in axes[:2]] == [(0, 1), (0, 1)]
    low, high = axes[2].collections[-1].get_clim()
    assert np.isclose([low, -high], -np.abs(after - before).max()).all()


def test_fates_and_truth(tmp_path):
    """The truth's columns are found by the fates' names."""
    truth = np.random.default_rng(1).dirichlet(np.ones(3), N_CELLS)
    result = make_fates_result(("a", "b", "c"), true_fate_probabilities=truth)
    axes = pl.fit_fates(result, show=False)
    assert [ax.get_title() for ax in axes[4:8]] == ["b, convention", "b, fitted", "b, truth", "fitted − convention"]
    assert len(axes) == 12
    np.testing.assert_allclose(np.sort(axes[6].collections[-1].get_array()), np.sort(truth[:, 1]))
    adata = result.kernel.adata
    adata.obsm["known"] = pd.DataFrame(truth[:, ::-1], columns=["c", "b", "a"], index=adata.obs_names)
    axes = pl.fit_fates(result, "c", truth="known", show=False)
    np.testing.assert_allclose(np.sort(axes[2].collections[-1].get_array()), np.sort(truth[:, 2]))
    del adata.obs["true_fate"]
    assert len(pl.fit_fates(result, "a", save=tmp_path / "fates.png", show=False)) == 3
    assert (tmp_path / "fates.png").stat().st_size > 0
    with pytest.raises(ValueError, match="Expected some of the fates"):
        pl.fit_fates(result, [])
    with pytest.raises(ValueError, match="a column for each of the fates"):
        pl.fit_fates(result, truth="true_fate_probabilities")


def test_fates_that_are_not_there():
    with pytest.raises(ValueError, match="Expected a fit with fates"):
        pl.fit_fates(make_result())
    with pytest.raises(KeyError, match="Expected `fates` to name some of"):
        pl.fit_fates(make_fates_result(), "z")


def make_sweep(losses=None):
    if losses is None:
        losses = np.arange(12.0).reshape(4, 3) + 1
        losses[2, 1] = 0.5
    n_scales, n_weights = losses.shape
    return tl.SweepResult(
        2.0 ** np.arange(n_scales), np.linspace(0.5, 1, n_weights), losses, np.ones(N_CELLS, dtype=bool), None
    )


def test_heat_map():
    result = make_sweep()
    assert result.best == (4.0, 0.75)
    ax = result.plot(show=False)
    np.testing.assert_array_equal(ax.images[0].get_array(), result.losses)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0.5", "0.75", "1"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["1", "2", "4", "8"]
    assert len(ax.texts) == 12
    assert ax.patches[0].get_xy() == (0.5, 1.5)  # the frame is around row 2, column 1
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("weight of the first kernel", "softmax scale")


def test_heat_map_of_a_kernel_alone():
    alone = tl.SweepResult(np.array([1.0, 1024.0]), np.ones(1), np.array([[2.0], [1.0]]), np.ones(3, bool), None)
    ax = alone.plot(show=False)
    assert ax.get_xlabel() == ""
    assert not ax.get_xticklabels()
    assert [label.get_text() for label in ax.get_yticklabels()] == ["1", "1024"]


def test_large_losses_fit_in_their_fields():
    ax = pl.sweep(make_sweep(9e4 * np.linspace(-1, 1, 96).reshape(12, 8)), show=False)
    ax.figure.canvas.draw()
    width = np.diff(ax.transData.transform([[0, 0], [1, 0]])[:, 0])[0]
    assert len(ax.texts) == 96
    assert max(text.get_window_extent().width for text in ax.texts) < 0.95 * width


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_heat_map_with_gaps(value):
    losses = np.arange(12.0).reshape(4, 3)
    losses[0] = value
    ax = pl.sweep(make_sweep(losses), show=False)
    assert len(ax.texts) == 9
    assert ax.patches[0].get_xy() == (-0.5, 0.5)
    flat = pl.sweep(make_sweep(np.ones((2, 2))), show=False)
    assert len(flat.texts) == 4
    nothing = pl.sweep(make_sweep(np.full((2, 2), np.nan)), show=False)
    assert not nothing.texts
    assert not nothing.patches


def test_heat_map_saved_shown_and_on_own_axes(tmp_path, monkeypatch):
    result = make_sweep()
    shown = []
    monkeypatch.setattr(plt, "show", lambda *_, **__: shown.append(1))
    assert pl.sweep(result) is None
    assert shown == [1]
    assert pl.sweep(result, save=tmp_path / "sweep.png") is None
    assert (tmp_path / "sweep.png").stat().st_size > 0
    _, ax = plt.subplots()
    assert pl.sweep(result, ax=ax, cmap="magma") is ax
    assert shown == [1]


def test_drawing_leaves_a_result_as_it_is(tmp_path):
    for draw, result in (
        (pl.fit, make_result(genes=True, penalties=True, n_starts=2)),
        (pl.fit, make_result(scale=[1.0, 2.0, 4.0], weights=[[0.9, 0.4], [0.1, 0.6]])),
        (pl.sweep, make_sweep()),
    ):
        before = copy.deepcopy(vars(result))
        draw(result, save=tmp_path / "picture.png")
        assert vars(result).keys() == before.keys()
        for name, value in before.items():
            # Dictionaries of arrays, arrays, and what is neither.
            jax.tree.map(np.testing.assert_array_equal, getattr(result, name), value)
