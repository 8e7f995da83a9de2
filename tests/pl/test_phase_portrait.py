import copy

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.legend import Legend
from scipy.integrate import solve_ivp

from jaxvelo import pl
from jaxvelo.annotated.fit_columns import number_of_rates
from jaxvelo.dynamics import SplicingKinetics

from .conftest import NAMES, make_cells

GENES = [f"gene_{i}" for i in range(6)]
RATES = ["fit_alpha", "fit_beta", "fit_gamma", "fit_scaling", "fit_t_"]
LINES = ["induction", "repression", "switch", "steady states"]


def make_fit(n=60, covariance=True):
    """Cells with moments and a dynamical fit: the second gene with gamma = beta, the fourth not fitted."""
    adata = make_cells(n)
    rng = np.random.default_rng(1)
    adata.layers["Ms"] = rng.uniform(0, 6, adata.shape)
    adata.layers["Mu"] = sp.csr_matrix(rng.uniform(0, 2, adata.shape))
    adata.layers["velocity"] = rng.standard_normal(adata.shape)
    adata.layers["fit_t"] = rng.uniform(0, 20, adata.shape)
    adata.var["fit_alpha"] = [2.0, 3.0, 1.0, np.nan, 2.0, 2.0]
    adata.var["fit_beta"] = [2.0, 2.0, 4.0, np.nan, 2.0, 2.0]
    adata.var["fit_gamma"] = [0.3, 1.0, 0.02, np.nan, 30.0, 0.5]
    adata.var["fit_scaling"] = [0.4, 0.5, 0.5, np.nan, 1.0, 1.0]
    adata.var["fit_t_"] = [6.0, 3.0, 500.0, np.nan, 0.01, 3.0]
    adata.var["fit_likelihood"] = [0.5, 0.25, 0.1, np.nan, 0.2, 0.3]
    adata.var["fit_status"] = ["converged", "converged", "at a bound", "too few cells", None, "converged"]
    if covariance:
        adata.varm["fit_covariance"] = np.tile(0.01 * np.eye(4) + 0.005, (6, 1, 1))
        adata.varm["fit_covariance"][3] = np.nan
        adata.varm["fit_covariance"][5] = np.nan
    return adata


@pytest.fixture
def cells():
    return make_fit()


@pytest.fixture
def unchanged(cells):
    before, uns = cells.copy(), copy.deepcopy(dict(cells.uns))
    yield cells
    pd.testing.assert_frame_equal(cells.obs, before.obs)
    pd.testing.assert_frame_equal(cells.var, before.var)
    assert dict(cells.uns) == uns
    for layer in before.layers:
        assert abs(cells.layers[layer] - before.layers[layer]).max() == 0
    np.testing.assert_array_equal(cells.varm["fit_covariance"], before.varm["fit_covariance"])


def line(ax, name):
    (found,) = (drawn for drawn in ax.lines if drawn.get_gid() == name)
    return found.get_xydata()


def line_names(ax):
    return {drawn.get_gid() for drawn in ax.lines}


def uncertainty(ax):
    return [
        segment for drawn in ax.collections if isinstance(drawn, LineCollection) for segment in drawn.get_segments()
    ]


def notes(ax):
    return " ".join(text.get_text() for text in ax.texts if text.get_gid() == "note").replace("\n", " ")


def labels(legend):
    return [text.get_text() for text in legend.get_texts()]


def observed(row, times):
    """The model as scVelo parametrises it, integrated numerically: spliced and unspliced at the times given."""
    beta = row["fit_beta"] * row["fit_scaling"]

    def rates(time, state, alpha):
        u, s = state
        return [alpha - beta * u, beta * u - row["fit_gamma"] * s]

    switch, end = row["fit_t_"], times[-1]
    options = {"rtol": 1e-10, "atol": 1e-12, "dense_output": True, "method": "LSODA"}
    on = solve_ivp(rates, (0, switch), [0.0, 0.0], args=(row["fit_alpha"],), **options)
    off = solve_ivp(rates, (switch, end), on.y[:, -1], args=(0.0,), **options)
    u, s = np.where(times <= switch, on.sol(np.minimum(times, switch)), off.sol(np.maximum(times, switch)))
    return np.stack([s, u * row["fit_scaling"]], axis=1)


def times_at(curve, row):
    """When unspliced has the values drawn, by the closed form of its decay."""
    beta = row["fit_beta"] * row["fit_scaling"]
    return -np.log1p(-curve[:, 1] / (row["fit_alpha"] / row["fit_beta"])) / beta


@pytest.mark.parametrize("gene", ["gene_0", "gene_1", "gene_4"])
def test_curve_solves_the_model(unchanged, gene):
    ax = pl.phase_portrait(unchanged, gene, show=False)
    row = unchanged.var.loc[gene].drop("fit_status").astype(float)
    induction, repression = line(ax, "induction"), line(ax, "repression")
    times = times_at(induction, row)
    np.testing.assert_array_equal(induction[0], 0.0)
    assert times[-1] == pytest.approx(row["fit_t_"])
    np.testing.assert_allclose(induction, observed(row, np.append(times, row["fit_t_"] + 1))[:-1], atol=1e-6)

    np.testing.assert_array_equal(line(ax, "switch"), induction[-1:])
    np.testing.assert_array_equal(repression[0], induction[-1])
    beta = row["fit_beta"] * row["fit_scaling"]
    kept = repression[:, 1] > 1e-4 * repression[0, 1]  # later times are not well known from so little
    times = row["fit_t_"] - np.log(repression[kept, 1] / repression[0, 1]) / beta
    np.testing.assert_allclose(repression[kept], observed(row, times), atol=1e-6)
    assert (repression[-1] < 0.01 * repression.max(axis=0)).all()

    steady = line(ax, "steady states")
    assert steady[1, 1] / steady[1, 0] == pytest.approx(row["fit_gamma"] / row["fit_beta"])
    np.testing.assert_array_equal(steady[0], 0.0)


def test_late_switches_end_in_the_steady_state(cells):
    ax = pl.phase_portrait(cells, "gene_2", show=False)
    row = cells.var.loc["gene_2"]
    steady = [row["fit_alpha"] / row["fit_gamma"], row["fit_alpha"] / row["fit_beta"]]
    np.testing.assert_allclose(line(ax, "switch")[0], steady, rtol=1e-4)


def test_extreme_rates_stay_finite(cells):
    for gamma, switch in ((1e9, 1e-9), (1e-9, 1e9), (2.0 * 0.4 * (1 + 1e-13), 1e5)):
        cells.var.loc["gene_0", ["fit_gamma", "fit_t_"]] = gamma, switch
        cells.varm["fit_covariance"][0] = 1e4 * np.eye(4)
        ax = pl.phase_portrait(cells, "gene_0", show=False)
        for curve in (line(ax, "induction"), line(ax, "repression"), *uncertainty(ax)):
            assert np.isfinite(curve).all()
        assert min(line(ax, "induction").min(), line(ax, "repression").min()) > -1e-12


def test_offsets_move_the_curve(cells):
    before = line(pl.phase_portrait(cells, "gene_0", show=False), "repression")
    cells.var["fit_u0"], cells.var["fit_s0"] = 0.2, 0.5
    ax = pl.phase_portrait(cells, "gene_0", show=False)
    np.testing.assert_allclose(line(ax, "repression"), before + np.array([0.5, 0.2]))
    np.testing.assert_allclose(line(ax, "steady states")[0], [0.5, 0.2])
    assert len(uncertainty(ax)) == 30


def test_cells_with_their_colours_and_the_name(unchanged):
    ax = pl.phase_portrait(unchanged, "gene_0", show=False)
    expected = np.stack([unchanged.layers["Ms"][:, 0], unchanged.layers["Mu"].toarray()[:, 0]], axis=1)
    points, colors = ax.collections[0].get_offsets().data, ax.collections[0].get_facecolors()
    assert len(points) == len(expected)
    for point, color in zip(points, colors, strict=True):
        cell = np.argmin(((expected - point) ** 2).sum(axis=1))
        np.testing.assert_array_equal(point, expected[cell])
        assert to_hex(color) == unchanged.uns["clusters_colors"][unchanged.obs["clusters"].cat.codes.iloc[cell]]
    assert ax.get_title() == "gene_0"
    assert notes(ax) == "likelihood 0.50, converged"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("spliced", "unspliced")
    (low_x, high_x), (low_y, high_y) = ax.get_xlim(), ax.get_ylim()
    assert low_x < points[:, 0].min() < points[:, 0].max() < high_x
    assert low_y < points[:, 1].min() < points[:, 1].max() < high_y


def test_a_large_curve_does_not_make_the_cells_small(cells):
    ax = pl.phase_portrait(cells, "gene_2", show=False)
    assert line(ax, "induction")[:, 0].max() > 40
    assert ax.get_xlim()[1] < 1.5 * cells.layers["Ms"][:, 2].max()


def test_one_legend_for_all_panels(unchanged):
    axes = pl.phase_portrait(unchanged, GENES, ncols=4, show=False)
    assert [ax.get_title() for ax in axes] == GENES
    figure = axes[0].figure
    assert len(figure.axes) == 6
    (legend,) = figure.legends
    assert labels(legend) == [*NAMES, *LINES[:3], "uncertainty", LINES[3]]
    assert not any(ax.get_legend() for ax in axes)
    figure.draw_without_rendering()
    boxes = [ax.get_tightbbox() for ax in axes]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert not any(legend.get_window_extent().overlaps(box) for box in boxes)
    assert len({round(box.y0) for box in (ax.get_window_extent() for ax in axes)}) == 2
    assert [bool(ax.get_xlabel()) for ax in axes] == [False, False, True, True, True, True]
    assert [bool(ax.get_ylabel()) for ax in axes] == [True, False, False, False, True, False]


def test_the_legend_names_what_is_drawn(cells):
    def legend(adata, **arguments):
        return labels(pl.phase_portrait(adata, "gene_0", show=False, **arguments).figure.legends[0])

    assert legend(cells, n_samples=0) == NAMES + LINES
    assert legend(cells, color="k") == [*LINES[:3], "uncertainty", LINES[3]]
    assert legend(cells, legend_loc="on data")[:3] == NAMES
    assert legend(make_fit(covariance=False)) == NAMES + LINES
    assert not pl.phase_portrait(cells, "gene_0", show=False, legend_loc="none").figure.legends
    ax = pl.phase_portrait(cells, "gene_0", show=False, legend_loc="lower left")
    assert labels(ax.get_legend()) == NAMES
    assert labels(ax.figure.legends[0])[0] == "induction"


def test_many_groups_fit_on_the_page():
    cells = make_fit()
    cells.obs["many"] = pd.Categorical.from_codes(np.arange(60) % 30, [f"group {i}" for i in range(30)])
    ax = pl.phase_portrait(cells, "gene_0", color="many", show=False)
    ax.figure.draw_without_rendering()
    box = ax.figure.legends[0].get_window_extent()
    assert box.y0 >= 0
    assert box.x1 <= ax.figure.bbox.x1
    assert not box.overlaps(ax.get_window_extent())


def test_uncertainty(unchanged):
    ax = pl.phase_portrait(unchanged, "gene_0", n_samples=200, show=False)
    curves = uncertainty(ax)
    assert len(curves) == 200
    switches = np.log([curve[len(curve) // 2] for curve in curves])
    assert not np.allclose(switches, switches[0])
    np.testing.assert_allclose(switches.mean(axis=0), np.log(line(ax, "switch")[0]), atol=0.05)
    again, other = (uncertainty(pl.phase_portrait(unchanged, "gene_0", seed=seed, show=False)) for seed in (0, 1))
    np.testing.assert_array_equal(again, uncertainty(pl.phase_portrait(unchanged, "gene_0", show=False)))
    assert not np.allclose(again, other)


def test_uncertainty_follows_the_covariance(cells):
    """A variance of log U alone stretches unspliced and leaves spliced as it is."""
    cells.varm["fit_covariance"][0] = np.diag([0.04, 0.0, 0.0, 0.0])
    ax = pl.phase_portrait(cells, "gene_0", n_samples=400, show=False)
    best = np.concatenate([line(ax, "induction"), line(ax, "repression")])
    curves = np.array(uncertainty(ax))
    np.testing.assert_allclose(curves[..., 0], np.broadcast_to(best[:, 0], curves.shape[:2]), rtol=1e-9)
    stretch = np.log(curves[:, 50, 1] / best[50, 1])
    assert stretch.std() == pytest.approx(0.2, rel=0.15)


def test_without_uncertainty(cells):
    ax = pl.phase_portrait(make_fit(covariance=False), "gene_0", show=False)
    assert not uncertainty(ax)
    assert line_names(ax) == set(LINES)
    assert notes(ax) == "likelihood 0.50, converged"
    ax = pl.phase_portrait(cells, "gene_5", show=False)
    assert not uncertainty(ax)
    assert line_names(ax) == set(LINES)
    assert notes(ax) == "likelihood 0.30, converged, uncertainty unknown"
    assert not uncertainty(pl.phase_portrait(cells, "gene_0", n_samples=0, show=False))


def test_genes_that_were_not_fitted(unchanged):
    ax = pl.phase_portrait(unchanged, "gene_3", show=False)
    assert not ax.lines
    assert not uncertainty(ax)
    assert notes(ax) == "no fit, too few cells"
    assert labels(ax.figure.legends[0]) == NAMES
    assert notes(pl.phase_portrait(unchanged, "gene_4", show=False)) == "likelihood 0.20"


def test_genes_that_nobody_asked_to_fit(cells):
    cells.var.loc["gene_3", "fit_status"] = "not fitted"
    cells.var["fit_status"] = cells.var["fit_status"].astype("category")  # as `recover_dynamics` writes it
    assert notes(pl.phase_portrait(cells, "gene_3", show=False)) == "not fitted"


def test_which_model_gives_the_velocity(cells):
    models = ["gradual", "induction", "curve"]
    cells.var["fit_model"] = [*models, *[None] * (cells.n_vars - 3)]
    for gene, (model, pale) in enumerate(
        zip(models, ({"induction", "repression"}, {"repression"}, set()), strict=True)
    ):
        ax = pl.phase_portrait(cells, f"gene_{gene}", show=False)
        assert f"model: {model}" in notes(ax)
        branches = [line for line in ax.lines if line.get_gid() in ("induction", "repression")]
        assert {line.get_gid() for line in branches if line.get_alpha() < 0.5} == pale
    assert "model" not in notes(pl.phase_portrait(cells, "gene_5", show=False))


def test_steady_states_of_gradual_transcription(cells):
    """Of the model that gives the velocity; of the curve where it is that one, or the slope is not known."""
    cells.var["fit_model"] = ["gradual", "curve", "gradual", *[None] * (cells.n_vars - 3)]
    cells.var["fit_gradual_slope"] = [0.7, 0.6, np.nan, np.nan, np.nan, np.nan]
    for gene, slope in enumerate((0.7, 1.0 / 2.0, 0.02 / 4.0)):
        x, y = line(pl.phase_portrait(cells, f"gene_{gene}", show=False), "steady states").T
        np.testing.assert_allclose(np.diff(y) / np.diff(x), slope)


def test_what_is_of_other_rates_is_not_drawn(cells):
    """Neither model, status and slope nor uncertainty of a fit that another one has written over."""
    cells.var["fit_model"], cells.var["fit_gradual_slope"] = "gradual", 0.7
    in_order = ("alpha", "beta", "gamma", "t_", "scaling")
    cells.var["fit_velocity_of"] = number_of_rates([cells.var[f"fit_{name}"] for name in in_order])
    cells.var.loc["gene_0", "fit_gamma"] *= 2
    former, own = (pl.phase_portrait(cells, gene, show=False) for gene in ("gene_0", "gene_2"))
    assert notes(former) == "likelihood 0.50, uncertainty unknown"
    assert notes(own) == "likelihood 0.10, at a bound, model: gradual"
    assert not uncertainty(former)
    assert uncertainty(own)
    for ax, slope in ((former, 0.6 / 2), (own, 0.7)):
        x, y = line(ax, "steady states").T
        np.testing.assert_allclose(np.diff(y) / np.diff(x), slope)
    branches = [line for line in former.lines if line.get_gid() in ("induction", "repression")]
    assert all(line.get_alpha() in (None, 1) for line in branches)


@pytest.mark.skipif(not jax.config.jax_enable_x64, reason="single precision")
@pytest.mark.parametrize("gamma", [1e-3, 0.8, 30.0])
def test_curve_is_that_of_the_dynamics(cells, gamma):
    cells.var.loc["gene_0", "fit_gamma"] = gamma
    ax = pl.phase_portrait(cells, "gene_0", show=False)
    alpha, beta, gamma, scaling, switch = cells.var.loc["gene_0", RATES].astype(float)
    kinetics = SplicingKinetics(*(jnp.array([x]) for x in (alpha, beta * scaling, gamma, switch, scaling)))
    induction = line(ax, "induction")
    times = times_at(induction, cells.var.loc["gene_0"])
    unspliced, spliced = kinetics.state(jnp.asarray(times)[:, None])
    np.testing.assert_allclose(induction, np.stack([spliced[:, 0], unspliced[:, 0]], axis=1), atol=1e-9)


def test_steady_state_model():
    cells = make_fit(covariance=False)
    cells.var = pd.DataFrame({"mine_gamma": np.arange(6) / 10, "mine_offset": 0.3}, index=cells.var_names)
    ax = pl.phase_portrait(cells, "gene_2", vkey="mine", show=False)
    assert line_names(ax) == {"steady states"}
    steady = line(ax, "steady states")
    np.testing.assert_allclose(steady[0], [0.0, 0.3])
    np.testing.assert_allclose(steady[1, 1], 0.3 + 0.2 * steady[1, 0])
    assert steady[1, 0] > cells.layers["Ms"][:, 2].max()
    assert notes(ax) == ""
    assert labels(ax.figure.legends[0]) == [*NAMES, "steady states"]
    assert not pl.phase_portrait(cells, "gene_2", show=False).lines


def test_layers_have_a_colour_bar_for_each_gene(unchanged):
    axes = pl.phase_portrait(unchanged, GENES[:2], color="velocity", show=False)
    assert len(axes[0].figure.axes) == 4
    for i, ax in enumerate(axes):
        drawn = ax.collections[1]
        np.testing.assert_array_equal(np.asarray(drawn.get_array()), np.sort(unchanged.layers["velocity"][:, i]))
        assert drawn.get_cmap().name == "coolwarm"
        assert drawn.norm.vmin == -drawn.norm.vmax
    assert labels(axes[0].figure.legends[0])[0] == "induction"
    drawn = pl.phase_portrait(unchanged, "gene_0", color="fit_t", show=False).collections[1]
    assert drawn.get_cmap().name == "viridis"
    assert drawn.norm.vmin == unchanged.layers["fit_t"][:, 0].min()
    drawn = pl.phase_portrait(unchanged, "gene_0", color="velocity", cmap="magma", show=False).collections[1]
    assert drawn.get_cmap().name == "magma"
    pl.phase_portrait(unchanged, "gene_0", color="unspliced", show=False)  # sparse


def test_numbers_of_cells_have_one_colour_bar(unchanged):
    for color in ("time", "gene_5"):
        axes = pl.phase_portrait(unchanged, GENES[:3], color=color, show=False)
        assert len(axes[0].figure.axes) == 4
    np.testing.assert_array_equal(np.asarray(axes[0].collections[1].get_array()), np.sort(unchanged.X.toarray()[:, 5]))


def test_values_that_are_missing(cells):
    cells.layers["fit_t"][:, 0] = np.nan
    ax = pl.phase_portrait(cells, "gene_0", color="fit_t", show=False)
    assert len(ax.collections[0].get_offsets()) == 60
    cells.layers["Ms"][:5, 0] = np.nan
    assert len(pl.phase_portrait(cells, "gene_0", show=False).collections[0].get_offsets()) == 55
    cells.layers["Ms"][:, 0] = 0.0
    cells.layers["velocity"][:, 0] = 0.0
    pl.phase_portrait(cells, "gene_0", color="velocity", show=False).figure.draw_without_rendering()


def test_titles(cells):
    assert pl.phase_portrait(cells, "gene_0", title="mine", show=False).get_title() == "mine"
    axes = pl.phase_portrait(cells, GENES[:2], title="mine", show=False)
    assert axes[0].get_title() == "gene_0"
    assert axes[0].figure.get_suptitle() == "mine"


def test_many_cells_are_pixels_in_vector_files(cells):
    assert not pl.phase_portrait(cells, "gene_0", show=False).collections[0].get_rasterized()
    ax = pl.phase_portrait(make_fit(2100), "gene_0", show=False)
    assert ax.collections[0].get_rasterized()
    assert not any(drawn.get_rasterized() for drawn in ax.lines)


def test_own_axes(unchanged):
    figure, axes = plt.subplots(1, 2)
    ax = pl.phase_portrait(unchanged, "gene_0", ax=axes[1], size=7.0, alpha=0.4, linewidth=2.0)
    assert ax is axes[1]
    assert ax.collections[0].get_sizes()[0] == 7.0
    assert ax.collections[0].get_alpha() == 0.4
    assert not axes[0].collections
    assert labels(ax.get_legend())[:4] == [*NAMES, "induction"]
    assert not figure.legends
    assert pl.phase_portrait(unchanged, ["gene_0"], ax=axes[0]) == [axes[0]]
    assert plt.fignum_exists(figure.number)


@pytest.mark.parametrize("place", ["right margin", "upper left"])
def test_own_axes_make_room_for_the_legend(cells, place):
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    pl.phase_portrait(cells, "gene_0", ax=left, legend_loc=place)
    figure.draw_without_rendering()
    legends = [child for child in left.get_children() if isinstance(child, Legend)]
    beside = next(legend for legend in legends if "induction" in labels(legend))
    assert len(legends) == (1 if place == "right margin" else 2)
    assert sorted(name for legend in legends for name in labels(legend)) == sorted([*NAMES, *LINES, "uncertainty"])
    assert left.get_window_extent().x1 < beside.get_window_extent().x0
    assert beside.get_window_extent().x1 < right.get_window_extent().x0


def test_shown_saved_or_returned(cells, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(1))
    assert pl.phase_portrait(cells, "gene_0") is None
    assert shown == [1]
    plt.close("all")
    assert pl.phase_portrait(cells, GENES, save=tmp_path / "a.png", dpi=50) is None
    assert (tmp_path / "a.png").stat().st_size > 0
    assert not plt.get_fignums()
    axes = pl.phase_portrait(cells, GENES[:1], figsize=(3, 2), dpi=50, save=tmp_path / "b.svg", show=False)
    assert (tmp_path / "b.svg").exists()
    assert tuple(axes[0].figure.get_size_inches()) == (3, 2)
    assert axes[0].figure.dpi == 50
    assert shown == [1]


def test_views_are_drawn(cells):
    view = cells[5:30, 1:4]
    assert len(pl.phase_portrait(view, ["gene_1", "gene_2"], show=False)) == 2
    assert view.is_view


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"var_names": "nothing"},
            KeyError,
            r"`var_names`, found \['nothing'\] not in `adata.var_names`.*\['gene_0'.*spelling",
        ),
        ({"var_names": ["gene_0", "nothing"]}, KeyError, r"found \['nothing'\] not in"),
        ({"var_names": []}, ValueError, "at least one gene"),
        ({"xkey": "nothing"}, KeyError, r"`adata.layers\['nothing'\]`.*'Ms'.*jaxvelo.pp.moments"),
        ({"ykey": "nothing"}, KeyError, r"`adata.layers\['nothing'\]`.*'Ms'.*jaxvelo.pp.moments"),
        ({"color": "nothing"}, KeyError, "a layer, a gene .*found `'nothing'`.*clusters.*velocity"),
        ({"color": "gene_1", "layer": "nothing"}, KeyError, "`layer` to be one of"),
        ({"palette": ["k"]}, ValueError, "`palette` to hold 3 colours"),
        ({"legend_loc": "somewhere"}, ValueError, "`legend_loc` to be one of"),
        ({"save": "picture.nothing"}, ValueError, "`save` to end in one of"),
        ({"ncols": 0}, ValueError, "`ncols` to be an integer of at least 1"),
        ({"n_samples": -1}, ValueError, "`n_samples` to be an integer of at least 0"),
        ({"seed": 0.5}, ValueError, "`seed` to be an integer of at least 0"),
        ({"linewidth": 0.0}, ValueError, "`linewidth` to be positive"),
    ],
)
def test_phase_portrait_says_what_is_wrong(unchanged, arguments, error, message):
    with pytest.raises(error, match=message):
        pl.phase_portrait(unchanged, **{"var_names": "gene_0", "show": False, **arguments})
    assert not plt.get_fignums()


def test_data_that_cannot_be_drawn(cells):
    with pytest.raises(ValueError, match=r"one gene to draw on `ax`, found 2"):
        pl.phase_portrait(cells, GENES[:2], ax=plt.figure().add_subplot())
    with pytest.raises(ValueError, match=r"`ax` to be 2-D axes"):
        pl.phase_portrait(cells, "gene_0", ax=plt.figure().add_subplot(projection="3d"))
    cells.varm["fit_covariance"] = np.zeros((6, 16))
    with pytest.raises(ValueError, match=r"shape \(6, 4, 4\), found \(6, 16\)"):
        pl.phase_portrait(cells, "gene_0", show=False)
    del cells.var["fit_gamma"]
    with pytest.raises(KeyError, match=r"`adata.var\['fit_gamma'\]`.*fit_alpha.*Fit the dynamical model again"):
        pl.phase_portrait(cells, "gene_0", show=False)
    cells.layers["Ms"][:, 0] = np.nan
    with pytest.raises(ValueError, match=r"finite numbers for the gene 'gene_0'.*none in 60 cells"):
        pl.phase_portrait(cells, "gene_0", show=False)


def test_names_that_are_not_unique(cells):
    cells.var_names = ["gene_0", "gene_0", *GENES[2:]]
    with pytest.raises(ValueError, match=r"found \['gene_0'\] several times.*var_names_make_unique"):
        pl.phase_portrait(cells, "gene_0", show=False)


def test_real_fits(shared):
    """The curve passes through where scVelo's own fit puts the cells."""
    import anndata

    adata = anndata.read_h5ad(shared / "reference" / "pancreas_velocity.h5ad")
    genes = list(adata.var_names[adata.var["fit_likelihood"].argsort()[::-1][:4]])
    for gene, ax in zip(genes, pl.phase_portrait(adata, genes, show=False), strict=True):
        row, times = adata.var.loc[gene], np.sort(adata[:, gene].layers["fit_t"].ravel())
        expected = observed(row, np.append(np.unique(times), max(times[-1], row["fit_t_"]) + 1))
        curve = np.concatenate([line(ax, "induction"), line(ax, "repression")])
        size = curve.max(axis=0)
        distances = np.linalg.norm((expected[:, None] - curve) / size, axis=-1).min(axis=1)
        assert distances.max() < 0.03


def test_genes_whose_names_are_no_text(cells):
    cells.var.index = range(10, 16)
    for names in (12, "12", np.int64(12)):
        assert pl.phase_portrait(cells, names, show=False).get_title() == "12"
    axes = pl.phase_portrait(cells, [10, "11"], show=False)
    assert [ax.get_title() for ax in axes] == ["10", "11"]


def test_hidden_genes_that_occur_twice_do_not_matter(cells):
    cells.var_names = ["gene_0", "double", "double", *GENES[3:]]
    pl.phase_portrait(cells, "gene_0", show=False)


def test_sizes_and_opacities(cells):
    for arguments, message in (({"size": -1}, "`size`"), ({"alpha": 2}, "`alpha`"), ({"cmap": "nothing"}, "`cmap`")):
        with pytest.raises(ValueError, match=message):
            pl.phase_portrait(cells, "gene_0", show=False, **arguments)
