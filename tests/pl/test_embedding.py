"""Embeddings and arrows as files hold them, and those that do not fit each other."""

import logging

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from matplotlib.quiver import Quiver

from jaxvelo import pl, tl

pytestmark = pytest.mark.any_precision

ARROWS = [pl.projection_grid, pl.projection_cells, pl.projection_stream]


def places(ax):
    return np.sort(ax.collections[0].get_offsets(), axis=0)


class TestEmbedding:
    @pytest.mark.parametrize(
        "kind",
        [
            lambda x, names: pd.DataFrame(x, index=names, columns=["first", "second"]),
            lambda x, names: sp.csr_matrix(x),
            lambda x, names: sp.csc_matrix(x),
            lambda x, names: x.astype(object),
            lambda x, names: x.astype(str),
        ],
    )
    def test_forms(self, cells, kind):
        expected = places(pl.scatter(cells, show=False))
        cells.obsm["X_umap"] = kind(cells.obsm["X_umap"], cells.obs_names)
        np.testing.assert_allclose(places(pl.scatter(cells, show=False)), expected, rtol=1e-6)
        pl.projection_grid(cells, show=False)

    def test_default(self, cells):
        cells.obsm["X_pca"] = np.random.default_rng(0).standard_normal((60, 5))
        np.testing.assert_array_equal(
            places(pl.scatter(cells, None, show=False)), places(pl.scatter(cells, show=False))
        )
        del cells.obsm["X_umap"]
        found = places(pl.scatter(cells, None, show=False))
        np.testing.assert_array_equal(found, np.sort(cells.obsm["X_pca"][:, :2], axis=0))
        del cells.obsm["X_pca"]
        with pytest.raises(KeyError, match=r"\['X_umap', 'X_tsne', 'X_pca'\] in `adata.obsm`, found .*X_umap3d"):
            pl.scatter(cells, None, show=False)

    def test_components(self, cells):
        x = cells.obsm["X_pca"] = np.random.default_rng(0).standard_normal((60, 5))
        cells.obsm["T_fwd_pca"] = x[::-1].copy()
        for components in ("2,4", (2, 4), ["2", "4"]):
            ax = pl.scatter(cells, "pca", components=components, frameon=True, show=False)
            np.testing.assert_array_equal(places(ax), np.sort(x[:, [1, 3]], axis=0))
            assert (ax.get_xlabel(), ax.get_ylabel()) == ("PC2", "PC4")
        ax = pl.projection_cells(cells, "pca", components="2,4", show=False)
        (quiver,) = [artist for artist in ax.collections if isinstance(artist, Quiver)]
        cosine = (quiver.U * x[::-1, 1] + quiver.V * x[::-1, 3]) / np.hypot(quiver.U, quiver.V)
        np.testing.assert_allclose(cosine, np.hypot(x[::-1, 1], x[::-1, 3]))

    def test_dimensions(self, cells):
        assert pl.scatter(cells, "umap3d", projection="2d", show=False).name != "3d"
        cells.obsm["X_pca"] = np.random.default_rng(0).standard_normal((60, 5))
        assert pl.scatter(cells, "pca", projection="3d", show=False).name == "3d"
        with pytest.raises(
            ValueError, match=r"`adata.obsm\['X_umap'\]` to have 3 or more columns, found shape \(60, 2\)"
        ):
            pl.scatter(cells, projection="3d", show=False)

    def test_one_column(self, cells):
        cells.obsm["X_line"] = np.zeros((60, 1))
        with pytest.raises(
            ValueError, match=r"`adata.obsm\['X_line'\]` to have 2 or more columns.*name another `basis`"
        ):
            pl.scatter(cells, "line", show=False)

    def test_no_numbers(self, cells):
        cells.obsm["X_umap"] = np.full((60, 2), "a")
        with pytest.raises(
            ValueError, match=r"coordinates in `adata.obsm\['X_umap'\]`, found values that are no numbers"
        ):
            pl.scatter(cells, show=False)

    def test_a_gene(self, cells):
        with pytest.raises(KeyError, match=r"found the gene 'gene_1'.*jaxvelo.pl.phase_portrait"):
            pl.scatter(cells, "gene_1", show=False)

    def test_several(self, cells):
        with pytest.raises(TypeError, match=r"name of one embedding, found `\['umap', 'pca'\]`"):
            pl.scatter(cells, ["umap", "pca"], show=False)


@pytest.mark.parametrize("draw", ARROWS)
class TestArrows:
    def test_of_an_embedding_with_fewer_dimensions(self, draw, cells):
        """They are older than the embedding."""
        cells.obsm["T_fwd_umap"] = cells.obsm["T_fwd_umap3d"]
        with pytest.raises(ValueError, match=r"`adata.obsm\['T_fwd_umap'\]` to have 2 columns.*found shape \(60, 3\)"):
            draw(cells, show=False)
        assert not plt.get_fignums()

    def test_of_some_of_many_dimensions(self, draw, cells):
        cells.obsm["X_pca"] = np.random.default_rng(0).standard_normal((60, 5))
        cells.obsm["T_fwd_pca"] = cells.obsm["X_pca"][:, :2].copy()
        draw(cells, "pca", show=False)
        with pytest.raises(ValueError, match=r"`adata.obsm\['T_fwd_pca'\]` to have 5 columns.*found shape \(60, 2\)"):
            draw(cells, "pca", components="1,4", show=False)

    def test_as_a_table(self, draw, cells):
        cells.obsm["T_fwd_umap"] = pd.DataFrame(cells.obsm["T_fwd_umap"], index=cells.obs_names).add_prefix("x")
        draw(cells, show=False).figure.draw_without_rendering()

    def test_several(self, draw, cells):
        with pytest.raises(TypeError, match=r"`vkey` to be the name of one kind of arrows"):
            draw(cells, vkey=["T_fwd", "T_bwd"], show=False)


@pytest.fixture
def moving():
    """Cells along a bend, with velocities along it and a velocity graph."""
    from .conftest import make_cells

    cells = make_cells()
    t = cells.obs["time"].to_numpy()
    phases = np.linspace(0, 3, 6)
    cells.layers["Ms"] = np.cos(t[:, None] - phases) + 2
    cells.layers["velocity"] = -np.sin(t[:, None] - phases)
    distances = np.abs(t[:, None] - t)
    distances[distances > np.sort(distances, axis=1)[:, [8]]] = 0
    cells.obsp["distances"] = sp.csr_matrix(distances)
    cells.uns["neighbors"] = {"distances_key": "distances", "params": {"n_neighbors": 9, "method": "umap"}}
    tl.velocity_graph(cells)
    return cells


def drawn(ax):
    (quiver,) = [artist for artist in ax.collections if isinstance(artist, Quiver)]
    return np.stack([quiver.U, quiver.V], axis=1)


def cells_of(adata, ax):
    """Which cells have an arrow."""
    (quiver,) = [artist for artist in ax.collections if isinstance(artist, Quiver)]
    distance = np.abs(adata.obsm["X_umap"][:, 0] - quiver.X[:, None]) + np.abs(
        adata.obsm["X_umap"][:, 1] - quiver.Y[:, None]
    )
    return np.argmin(distance, axis=1)


class TestVelocityEmbedding:
    def test_arrows_are_computed_and_not_stored(self, moving, caplog):
        keys, noted = list(moving.obsm), dict(moving.uns["velocity_params"])
        with caplog.at_level(logging.INFO):
            ax = pl.velocity_embedding(moving, show=False)
        found, cells = drawn(ax), cells_of(moving, ax)
        assert list(moving.obsm) == keys
        assert dict(moving.uns["velocity_params"]) == noted
        assert "`jaxvelo.tl.velocity_embedding` stores them" in caplog.text
        tl.velocity_embedding(moving)
        stored = moving.obsm["velocity_umap"][cells]
        cosine = (found * stored).sum(axis=1) / np.linalg.norm(found, axis=1) / np.linalg.norm(stored, axis=1)
        np.testing.assert_allclose(cosine, 1, atol=1e-5)
        along = np.stack([np.ones(60), np.cos(moving.obs["time"])], axis=1)[cells]  # how the cells were made
        inner = (cells > 5) & (cells < 55)
        cosine = (found * along).sum(axis=1) / np.linalg.norm(found, axis=1) / np.linalg.norm(along, axis=1)
        assert np.mean(cosine[inner]) > 0.8

    def test_stored_arrows_are_taken(self, moving, caplog):
        tl.velocity_embedding(moving)
        moving.obsm["velocity_umap"][:] = [0.0, 1.0]
        caplog.clear()
        found = drawn(pl.velocity_embedding(moving, show=False))
        np.testing.assert_allclose(found[:, 0], 0, atol=1e-12)
        assert "Computing the arrows" not in caplog.text
        again = drawn(pl.velocity_embedding(moving, recompute=True, show=False))
        assert np.abs(again[:, 0]).max() > 0

    def test_arrows_older_than_the_graph_are_not(self, moving, caplog):
        tl.velocity_embedding(moving)
        moving.obsm["velocity_umap"][:] = [0.0, 1.0]
        moving.layers["velocity"] *= -1
        tl.velocity_graph(moving)
        with caplog.at_level(logging.INFO):
            found = drawn(pl.velocity_embedding(moving, show=False))
        assert "Computing the arrows" in caplog.text
        assert np.abs(found[:, 0]).max() > 0

    def test_arrows_without_a_graph_are_taken(self, cells):
        cells.obsm["velocity_umap"] = np.tile([0.0, 1.0], (60, 1))
        np.testing.assert_allclose(drawn(pl.velocity_embedding(cells, show=False))[:, 0], 0, atol=1e-12)

    @pytest.mark.parametrize(
        ("draw", "same"),
        [
            (pl.velocity_embedding_stream, pl.projection_stream),
            (pl.velocity_embedding_grid, pl.projection_grid),
            (pl.velocity_embedding, pl.projection_cells),
        ],
    )
    def test_the_same_picture_as_of_a_projection(self, moving, draw, same, tmp_path):
        tl.velocity_embedding(moving)
        draw(moving, color="time", density=0.7, arrow_size=2, save=tmp_path / "a.png", dpi=50)
        same(moving, "umap", "velocity", color="time", density=0.7, arrow_size=2, save=tmp_path / "b.png", dpi=50)
        np.testing.assert_array_equal(plt.imread(tmp_path / "a.png"), plt.imread(tmp_path / "b.png"))

    @pytest.mark.parametrize("draw", [pl.velocity_embedding_grid, pl.velocity_embedding])
    def test_scale_is_the_inverse_of_length(self, moving, draw):
        usual = drawn(draw(moving, show=False))
        np.testing.assert_allclose(drawn(draw(moving, scale=0.5, show=False)), 2 * usual)
        np.testing.assert_allclose(drawn(draw(moving, arrow_length=3, show=False)), 3 * usual)
        with pytest.raises(ValueError, match="`scale` to be a positive number"):
            draw(moving, scale=0, show=False)

    def test_calls_of_scvelo(self, moving):
        pl.velocity_embedding(moving, arrow_length=3, arrow_size=3, c="time", show=False)
        pl.velocity_embedding_grid(moving, scale=0.5, c="time", cmap="gnuplot", show=False)
        pl.velocity_embedding_stream(moving, c=moving.var_names[0], layer="velocity", show=False)
        pl.velocity_embedding_stream(
            moving,
            basis="umap",
            vkey="velocity",
            density=2,
            smooth=None,
            min_mass=None,
            color=["clusters", "time"],
            legend_loc="on data",
            dpi=80,
            figsize=(8, 4),
            legend_fontsize=None,
            title=None,
            frameon=None,
            sort_order=True,
            show=False,
        )

    @pytest.mark.parametrize("draw", [pl.velocity_embedding_stream, pl.velocity_embedding_grid, pl.velocity_embedding])
    def test_says_what_is_wrong(self, moving, draw):
        with pytest.raises(KeyError, match=r"adata.obsm\['other_umap'\].*jaxvelo.tl.velocity_graph"):
            draw(moving, vkey="other", show=False)
        with pytest.raises(TypeError, match="found `principal_curve`"):
            draw(moving, principal_curve=True, show=False)
        some = moving[:30].copy()
        some.uns["velocity_params"] = {}
        with pytest.raises(ValueError, match=r"of the 30 cells of `adata`, found shape \(60, 60\)"):
            draw(some, show=False)
        assert not plt.get_fignums()

    def test_share_of_the_arrows(self, moving):
        assert 25 < len(drawn(pl.velocity_embedding(moving, density=0.5, show=False))) <= 30
