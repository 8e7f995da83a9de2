import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.quiver import Quiver

from jaxvelo import pl

from .conftest import make_cells

pytestmark = pytest.mark.any_precision


def loops(positions, vectors, lines, smooth, min_mass, n_neighbors):
    """What the docstring says, one grid point and one cell at a time."""
    keep = [i for i in range(len(positions)) if np.isfinite(positions[i]).all() and np.isfinite(vectors[i]).all()]
    positions, vectors = positions[keep], vectors[keep]
    n, dims = positions.shape
    span = [positions[:, d].max() - positions[:, d].min() for d in range(dims)]
    h = max(span) / (lines - 1)
    axes = []
    for d in range(dims):
        count = max(2, int(np.ceil(round(span[d] / h, 9))) + 1)
        centre = (positions[:, d].max() + positions[:, d].min()) / 2
        axes.append([centre + h * (i - (count - 1) / 2) for i in range(count)])
    shape = tuple(len(axis) for axis in axes)
    average, mass = np.full((*shape, dims), np.nan), np.zeros(shape)
    for where in np.ndindex(*shape):
        point = np.array([axes[d][where[d]] for d in range(dims)])
        distance = np.array([np.linalg.norm(point - position) for position in positions])
        nearest = np.argsort(distance)[: min(n_neighbors, n)]
        weight = np.exp(-(distance[nearest] ** 2) / (2 * (smooth * h) ** 2))
        mass[where] = weight.sum()
        average[where] = sum(w * vectors[i] for w, i in zip(weight, nearest, strict=True)) / max(mass[where], 1e-300)
    average[mass <= 0.01 * min_mass * np.percentile(mass, 99)] = np.nan
    return axes, average


@pytest.mark.parametrize("basis", ["umap", "umap3d"])
@pytest.mark.parametrize(("lines", "smooth", "min_mass", "n_neighbors"), [(8, 0.5, 1.0, 10), (6, 1.2, 60.0, 100)])
def test_grid_against_loops(cells, basis, lines, smooth, min_mass, n_neighbors):
    positions = cells.obsm[f"X_{basis}"].astype(float)
    vectors = cells.obsm[f"T_fwd_{basis}"] + np.random.default_rng(1).standard_normal(positions.shape)
    positions[3] = np.nan
    vectors[5, 1] = np.inf
    arguments = {"lines": lines, "smooth": smooth, "min_mass": min_mass, "n_neighbors": n_neighbors}
    axes, average = pl.smooth_on_grid(positions, vectors, **arguments)
    expected_axes, expected = loops(positions, vectors, **arguments)
    for found, axis in zip(axes, expected_axes, strict=True):
        np.testing.assert_allclose(found, axis)
    assert np.isfinite(expected).any()
    assert np.isnan(expected).any()
    np.testing.assert_allclose(average, expected, rtol=1e-9, atol=1e-12)


@given(st.integers(1, 40), st.floats(0.2, 3.0), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_averages_lie_between_the_arrows(n, smooth, seed):
    rng = np.random.default_rng(seed)
    positions, vectors = rng.standard_normal((n, 2)) * [3.0, 0.5], rng.standard_normal((n, 2))
    axes, average = pl.smooth_on_grid(positions, vectors, lines=9, smooth=smooth)
    assert average.shape == (len(axes[0]), len(axes[1]), 2)
    known = average[np.isfinite(average).all(axis=-1)]
    assert (known <= vectors.max(axis=0) + 1e-12).all()
    assert (known >= vectors.min(axis=0) - 1e-12).all()


def test_equal_arrows_stay_equal_in_any_units(cells):
    positions = cells.obsm["X_umap"].astype(float)
    for unit in (1e-3, 1.0, 1e4):
        _, average = pl.smooth_on_grid(unit * positions, np.tile([2.0, -1.0], (60, 1)))
        known = np.isfinite(average).all(axis=-1)
        np.testing.assert_allclose(average[known], np.tile([2.0, -1.0], (known.sum(), 1)))
        if unit == 1e-3:
            first = known
        np.testing.assert_array_equal(known, first)


def test_one_place_for_all_cells():
    _, average = pl.smooth_on_grid(np.ones((12, 2)), np.tile([1.0, 0.0], (12, 1)), lines=5)
    known = np.isfinite(average).all(axis=-1)
    assert known.any()
    np.testing.assert_allclose(average[known][:, 0], 1.0)


def quivers(ax):
    return [artist for artist in ax.collections if isinstance(artist, Quiver)]


def test_projection_grid_draws_the_averages(unchanged):
    ax = pl.projection_grid(unchanged, show=False)
    (quiver,) = quivers(ax)
    axes, average = pl.smooth_on_grid(
        unchanged.obsm["X_umap"].astype(float), unchanged.obsm["T_fwd_umap"], lines=31, min_mass=5.0
    )
    known = np.isfinite(average).all(axis=-1)
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)[known]
    np.testing.assert_allclose(np.stack([quiver.X, quiver.Y], axis=1), points)
    drawn = np.stack([quiver.U, quiver.V], axis=1)
    cosine = (drawn * average[known]).sum(axis=1)
    np.testing.assert_allclose(cosine, np.linalg.norm(drawn, axis=1) * np.linalg.norm(average[known], axis=1))
    spacing = axes[0][1] - axes[0][0]
    assert np.percentile(np.linalg.norm(drawn, axis=1), 95) == pytest.approx(1.3 * spacing)
    assert {text.get_text() for text in ax.texts} == {"early", "middle", "late"}


def test_density_length_and_colour(cells):
    (plain,) = quivers(pl.projection_grid(cells, show=False))
    (dense,) = quivers(pl.projection_grid(cells, density=2.0, show=False))
    (long,) = quivers(pl.projection_grid(cells, arrow_length=2.0, arrow_color="red", show=False))
    assert len(dense.X) > 1.5 * len(plain.X)
    np.testing.assert_allclose(long.U, 2 * plain.U)
    assert tuple(long.get_facecolor()[0]) == (1.0, 0.0, 0.0, 1.0)


def test_projection_cells_draws_every_cell_once(unchanged):
    ax = pl.projection_cells(unchanged, show=False)
    (quiver,) = quivers(ax)
    np.testing.assert_allclose(np.stack([quiver.X, quiver.Y], axis=1), unchanged.obsm["X_umap"])
    codes = unchanged.obs["clusters"].cat.codes.to_numpy()
    assert len(np.unique(quiver.get_facecolor()[codes == 0], axis=0)) == 1
    np.testing.assert_allclose(quiver.get_facecolor()[codes == 0][0], [0.75, 0.0, 0.0, 1.0])
    assert pl.projection_cells(unchanged, color="time", show=False) is not None


@pytest.mark.parametrize("draw", [pl.projection_grid, pl.projection_cells, pl.projection_stream])
def test_three_dimensions(unchanged, draw):
    ax = draw(unchanged, "umap3d", show=False)
    assert ax.name == "3d"
    assert len(ax.collections) == 2  # cells and arrows
    assert ax.get_legend() is not None
    ax.figure.draw_without_rendering()


@pytest.mark.parametrize("draw", [pl.projection_grid, pl.projection_cells, pl.projection_stream])
class TestAllProjections:
    @pytest.mark.parametrize("n", [1, 2, 10])
    def test_few_cells(self, draw, n):
        ax = draw(make_cells(60)[::6][:n].copy(), show=False)
        ax.figure.draw_without_rendering()
        if n == 10:
            assert len(ax.collections) == 2  # cells and arrows, or lines

    def test_cells_that_are_not_finite_are_skipped(self, draw, cells):
        cells.obsm["X_umap"][:4] = np.nan
        cells.obsm["T_fwd_umap"][8:10] = np.nan
        draw(cells, show=False).figure.draw_without_rendering()

    def test_no_movement_is_no_arrow(self, draw, cells):
        cells.obsm["T_fwd_umap"][:] = 0.0
        ax = draw(cells, show=False)
        assert len(ax.collections) == 1
        assert not ax.patches

    def test_other_arrows_and_own_axes(self, draw, unchanged):
        figure, ax = plt.subplots()
        unchanged_keys = list(unchanged.obsm)
        assert draw(unchanged, ax=ax, title="", legend_loc="none") is ax
        assert ax.get_title() == ""
        assert not ax.texts
        assert figure.axes == [ax]
        assert list(unchanged.obsm) == unchanged_keys

    def test_saved(self, draw, cells, tmp_path):
        assert draw(cells, save=tmp_path / "arrows.png", dpi=60) is None
        assert plt.imread(tmp_path / "arrows.png").std() > 0.01

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"vkey": "velocity"}, KeyError, r"adata.obsm\['velocity_umap'\].*plot_projection"),
            ({"basis": "tsne"}, KeyError, r"adata.obsm\['X_tsne'\]"),
            ({"arrow_size": 0.0}, ValueError, "`arrow_size` to be positive"),
            ({"color": "nothing"}, KeyError, "`color`"),
            ({"legend_loc": "left"}, ValueError, "`legend_loc`"),
        ],
    )
    def test_says_what_is_wrong(self, draw, unchanged, arguments, error, message):
        with pytest.raises(error, match=message):
            draw(unchanged, show=False, **arguments)
        assert not plt.get_fignums()

    def test_arrows_that_do_not_fit(self, draw, cells):
        cells.obsm["T_fwd_umap3d"] = cells.obsm["T_fwd_umap"]
        with pytest.raises(ValueError, match=r"to have 3 columns .*found shape \(60, 2\)"):
            draw(cells, "umap3d", show=False)
        cells.obsm["T_fwd_umap"] = np.full((60, 2), np.nan)
        with pytest.raises(ValueError, match="found none in 60 cells"):
            draw(cells, show=False)


@pytest.mark.parametrize("draw", [pl.projection_grid, pl.projection_stream])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"density": -1.0}, "`density` to be positive"),
        ({"smooth": np.nan}, "`smooth` to be positive"),
        ({"n_neighbors": 0}, "`n_neighbors` to be a positive integer"),
        ({"n_neighbors": 2.5}, "`n_neighbors` to be a positive integer"),
    ],
)
def test_smoothing_says_what_is_wrong(cells, draw, arguments, message):
    with pytest.raises(ValueError, match=message):
        draw(cells, show=False, **arguments)


def test_the_pancreas(shared):
    import anndata

    adata = anndata.read_h5ad(shared / "reference" / "pancreas_velocity.h5ad")
    arrows = np.load(shared / "reference" / "pancreas_kernels.npz")["projection/velocity/umap"]
    adata.obsm["T_fwd_umap"] = arrows
    (quiver,) = quivers(pl.projection_grid(adata, show=False))
    # the averages point where the cells around them do, wherever these agree among themselves
    cosines = []
    for x, y, u, v in zip(quiver.X, quiver.Y, quiver.U, quiver.V, strict=True):
        near = arrows[np.argsort(((adata.obsm["X_umap"] - [x, y]) ** 2).sum(axis=1))[:5]]
        mean = near.mean(axis=0)
        if np.linalg.norm(mean) > 0.8 * np.linalg.norm(near, axis=1).mean():
            cosines.append(mean @ [u, v] / np.linalg.norm(mean) / np.hypot(u, v))
    assert len(cosines) > 100
    assert np.mean(cosines) > 0.95
