import numpy as np
import pytest
import scipy.sparse as sp
from matplotlib.colors import to_hex, to_rgb
from matplotlib.patches import Circle, Wedge
from scipy.cluster.hierarchy import leaves_list, linkage

from jaxvelo import pl
from jaxvelo.graph import cluster_connectivities

pytestmark = pytest.mark.any_precision

CLUSTERS = ["early", "middle", "late"]


@pytest.fixture
def fates(fates):
    """With neighbours, which graphs of clusters are made from."""
    place = fates.obsm["X_umap"].astype(float)
    distances = np.linalg.norm(place[:, None] - place, axis=2)
    distances[distances > np.sort(distances, axis=1)[:, 6:7]] = 0
    fates.obsp["distances"] = sp.csr_matrix(distances)
    return fates


def means(fates):
    return {
        name: fates.obsm["lineages_fwd"][(fates.obs["clusters"] == name).to_numpy()].mean(axis=0) for name in CLUSTERS
    }


def draw(fates, mode, **arguments):
    return pl.aggregate_fate_probabilities(fates, mode, show=False, **arguments)


def test_bars_are_means_with_standard_errors(fates):
    axes = draw(fates, "bar")
    assert [ax.get_title() for ax in axes] == CLUSTERS
    for ax, (name, mean) in zip(axes, means(fates).items(), strict=True):
        bars, errors = ax.containers[1], ax.containers[0]
        np.testing.assert_allclose([bar.get_height() for bar in bars], mean)
        assert [to_hex(bar.get_facecolor()) for bar in bars] == ["#ee2222", "#3333ee"]
        cells = fates.obsm["lineages_fwd"][(fates.obs["clusters"] == name).to_numpy()]
        ends = np.array(errors.lines[2][0].get_segments())[:, :, 1]
        np.testing.assert_allclose(ends[:, 1] - ends[:, 0], 2 * cells.std(axis=0) / np.sqrt(len(cells)))
    same = draw(fates, "bar", sharey=True, clusters=["late", "early"], lineages="late_2", ncols=1)
    assert [ax.get_title() for ax in same] == ["late", "early"]
    assert same[0].get_ylim() == same[1].get_ylim()
    assert [label.get_text() for label in same[0].get_xticklabels()] == ["late_2"]
    (together,) = draw(fates, "bar", cluster_key=None)
    heights = [bar.get_height() for bar in together.containers[1]]
    np.testing.assert_allclose(heights, fates.obsm["lineages_fwd"].mean(axis=0))


def test_pies_are_means(fates):
    ax = draw(fates, "paga_pie")
    wedges = [patch for patch in ax.patches if isinstance(patch, Wedge)]
    shares = np.array([wedge.theta2 - wedge.theta1 for wedge in wedges]).reshape(3, 2) / 360
    np.testing.assert_allclose(shares, list(means(fates).values()), atol=1e-9)
    medians = [np.median(fates.obsm["X_umap"][fates.obs["clusters"] == name], axis=0) for name in CLUSTERS]
    np.testing.assert_allclose([wedge.center for wedge in wedges[::2]], medians, rtol=1e-6)
    assert {text.get_text() for text in ax.texts} == set(CLUSTERS)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["late_1", "late_2"]
    ax = draw(fates, "paga_pie", lineages="late_1", basis="umap")
    wedges = [patch for patch in ax.patches if isinstance(patch, Wedge)]
    shares = np.array([wedge.theta2 - wedge.theta1 for wedge in wedges]).reshape(3, 2) / 360
    np.testing.assert_allclose(shares[:, 0], [mean[0] for mean in means(fates).values()], atol=1e-9)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["late_1", "rest"]
    assert len(ax.collections[0].get_offsets()) == fates.n_obs


def test_lines_are_connectivities(fates):
    codes = fates.obs["clusters"].cat.codes.to_numpy().astype(int)
    expected = cluster_connectivities(fates.obsp["distances"], codes, 3)
    assert expected[0, 1] > 0.01
    for threshold in (0.01, expected[0, 1] + 1e-6):
        ax = draw(fates, "paga_pie", threshold=threshold)
        (lines,) = [one for one in ax.collections if one.get_gid() == "connectivities"]
        drawn = [value for value in expected[np.triu_indices(3, 1)] if value >= threshold]
        np.testing.assert_allclose(np.sort(lines.get_linewidths()) / 6, np.sort(drawn))


def test_nodes_have_the_colors_of_means(fates):
    from matplotlib import colormaps

    axes = draw(fates, "paga", cmap="magma")
    assert [ax.get_title() for ax in axes] == ["to late_1", "to late_2"]
    table = np.array(list(means(fates).values()))
    for ax, values in zip(axes, table.T, strict=True):
        nodes = [patch for patch in ax.patches if isinstance(patch, Circle)]
        relative = (values - table.min()) / (table.max() - table.min())
        np.testing.assert_allclose([node.get_facecolor() for node in nodes], colormaps["magma"](relative), atol=1e-12)


def test_violins_have_the_quartiles(fates):
    axes = draw(fates, "violin", clusters=["early", "late"])
    for ax, column in zip(axes, fates.obsm["lineages_fwd"].T, strict=True):
        middles = [line.get_ydata()[0] for line in ax.lines if len(line.get_ydata()) == 1]
        spans = [line.get_ydata() for line in ax.lines if len(line.get_ydata()) == 2]
        for name, middle, span in zip(("early", "late"), middles, spans, strict=True):
            low, median, high = np.percentile(column[(fates.obs["clusters"] == name).to_numpy()], (25, 50, 75))
            np.testing.assert_allclose([*span, middle], [low, high, median])
    (together,) = draw(fates, "violin", cluster_key=None)
    assert [label.get_text() for label in together.get_xticklabels()] == ["late_1", "late_2"]
    fates.obsm["lineages_fwd"][:] = [0.25, 0.75]
    draw(fates, "violin")  # all the same: no density


def test_heat_maps_hold_means(fates):
    table = np.array(list(means(fates).values())).T
    ax = draw(fates, "heatmap", fmt=".3f")
    np.testing.assert_allclose(ax.images[0].get_array(), table)
    assert [text.get_text() for text in ax.texts] == [f"{value:.3f}" for value in table.ravel()]
    ax = draw(fates, "clustermap")
    rows, columns = (leaves_list(linkage(x, "average")) for x in (table, table.T))
    np.testing.assert_allclose(ax.images[0].get_array(), table[np.ix_(rows, columns)])
    assert [label.get_text() for label in ax.get_xticklabels()] == [CLUSTERS[i] for i in columns]
    assert [to_rgb(label.get_color()) for label in ax.get_yticklabels()] == [
        to_rgb(["#ee2222", "#3333ee"][i]) for i in rows
    ]


@pytest.mark.parametrize("mode", ["paga_pie", "violin"])
def test_cells_without_fates_or_cluster_do_not_count(fates, mode):
    fates.obsm["lineages_fwd"][7] = np.nan
    fates.obs["clusters"] = fates.obs["clusters"].cat.add_categories(["nowhere"])
    fates.obs.loc["cell_8", "clusters"] = None
    before = fates.obs.copy()
    draw(fates, mode)
    assert fates.obs.equals(before)


def test_means_of_known_cells(fates):
    fates.obsm["lineages_fwd"][7] = np.nan
    ax = draw(fates, "heatmap")
    known = np.delete(np.arange(fates.n_obs), 7)
    np.testing.assert_allclose(ax.images[0].get_array(), np.array(list(means(fates[known]).values())).T)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"mode": "pie"}, ValueError, "mode"),
        ({"mode": "heatmap", "cluster_key": None}, ValueError, "cluster_key"),
        ({"mode": "bar", "cluster_key": None, "clusters": "early"}, ValueError, "cluster_key"),
        ({"cluster_key": "nothing"}, KeyError, "nothing"),
        ({"mode": "bar", "clusters": ["early", "nowhere"]}, KeyError, "nowhere"),
        ({"lineages": "nowhere"}, KeyError, "nowhere"),
        ({"fmt": "many"}, ValueError, "fmt"),
        ({"threshold": -1}, ValueError, "threshold"),
        ({"ncols": 0}, ValueError, "ncols"),
        ({"neighbors_key": "others"}, KeyError, "others"),
        ({"basis": "tsne"}, KeyError, "tsne"),
        ({"backward": True}, KeyError, "lineages_bwd"),
    ],
)
def test_errors(fates, arguments, error, match):
    with pytest.raises(error, match=match):
        pl.aggregate_fate_probabilities(fates, **arguments)
    import matplotlib.pyplot as plt

    with pytest.raises(ValueError, match="found 3"):
        pl.aggregate_fate_probabilities(fates, "bar", ax=plt.figure().add_subplot())


def test_a_named_cluster_without_cells(fates):
    fates.obs["clusters"] = fates.obs["clusters"].cat.add_categories(["nowhere"])
    with pytest.raises(ValueError, match=r"none in \['nowhere'\]"):
        draw(fates, "bar", clusters=["early", "nowhere"])
