import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from jaxvelo import pl
from jaxvelo.estimators import lineage_priming
from jaxvelo.pl._shortest_tour import shortest_tour

pytestmark = pytest.mark.any_precision

STATES = ["a", "b", "c", "d"]


@pytest.fixture
def four(cells):
    """Cells with four terminal states."""
    fates = np.random.default_rng(2).dirichlet([4, 1, 1, 0.5], cells.n_obs)
    codes = np.full(cells.n_obs, -1)
    codes[:4] = np.arange(4)
    fates[:4] = np.eye(4)
    cells.obs["term_states_fwd"] = pd.Categorical.from_codes(codes, STATES)
    cells.uns["term_states_fwd_colors"] = ["#ff0000", "#00ff00", "#0000ff", "#ff00ff"]
    cells.obsm["lineages_fwd"] = fates
    return cells


def places(ax):
    """Where cells are drawn, in any order."""
    return np.array(sorted(map(tuple, np.asarray(ax.collections[0].get_offsets()))))


def on_circle(weights):
    """Cells at the weighted means of the corners, one cell and one state after the other."""
    n = weights.shape[1]
    found = np.zeros((len(weights), 2))
    for i, row in enumerate(weights):
        for k, weight in enumerate(row):
            found[i] += weight * np.array([np.cos(2 * np.pi * k / n), np.sin(2 * np.pi * k / n)])
    return found


def ordered(points):
    return np.array(sorted(map(tuple, points)))


def test_places_are_weighted_means(four):
    fates = four.obsm["lineages_fwd"]
    ax = pl.circular_projection(four, "clusters", lineage_order="default", normalize_by_mean=False, show=False)
    np.testing.assert_allclose(places(ax), ordered(on_circle(fates)), atol=1e-12)
    relative = fates / fates.mean(axis=0)
    relative /= relative.sum(axis=1, keepdims=True)
    ax = pl.circular_projection(four, "clusters", lineage_order="default", key_added="X_circle", show=False)
    np.testing.assert_allclose(places(ax), ordered(on_circle(relative)), atol=1e-12)
    np.testing.assert_allclose(four.obsm["X_circle"], on_circle(relative), atol=1e-12)
    names = [text for text in ax.texts if text.get_text() in STATES]
    assert [text.get_text() for text in names] == STATES
    np.testing.assert_allclose([text.get_position() for text in names], 1.25 * on_circle(np.eye(4)), atol=1e-12)
    assert [to_rgb(text.get_color()) for text in names] == [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1)]


def test_cells_of_other_fates_lie_in_the_middle(four):
    four.obsm["lineages_fwd"][10] = np.nan
    ax = pl.circular_projection(four, "clusters", lineages=["a", "b", "c"], show=False, key_added="X_circle")
    np.testing.assert_allclose(four.obsm["X_circle"][3], 0, atol=1e-12)  # can reach none of the three
    assert np.isnan(four.obsm["X_circle"][10]).all()
    assert len(places(ax)) == four.n_obs - 1


def test_neighbors_on_the_circle_are_alike(four):
    ax = pl.circular_projection(four, "clusters", normalize_by_mean=False, show=False)
    distances = 1 - np.corrcoef(four.obsm["lineages_fwd"].T)
    tours = [(0, *rest) for rest in itertools.permutations(range(1, 4))]
    length = {tour: sum(distances[tour[k - 1], tour[k]] for k in range(4)) for tour in tours}
    drawn = tuple(STATES.index(text.get_text()) for text in ax.texts)
    assert length[drawn] == pytest.approx(min(length.values()))
    given = pd.DataFrame(1.0, index=STATES, columns=STATES)
    for one, other in ("ac", "cb", "bd", "da"):
        given.loc[one, other] = given.loc[other, one] = 0.1
    ax = pl.circular_projection(four, "clusters", metric=given, show=False)
    assert "".join(text.get_text() for text in ax.texts) in ("acbd", "adbc")


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_shortest_tour(n):
    distances = np.random.default_rng(n).uniform(0, 1, (n, n))
    distances += distances.T

    def length(tour):
        return sum(distances[tour[k - 1], tour[k]] for k in range(n))

    found = shortest_tour(distances)
    assert sorted(found) == list(range(n))
    assert found[0] == 0
    best = min(length((0, *rest)) for rest in itertools.permutations(range(1, n)))
    assert length(found) == pytest.approx(best)


def test_priming_and_genes(four):
    early = {"clusters": ["early"]}
    keys = ["kl_divergence", "entropy", "gene_1"]
    before = four.copy()
    axes = pl.circular_projection(four, keys, early_cells=early, show=False)
    mask = (four.obs["clusters"] == "early").to_numpy()
    fates = four.obsm["lineages_fwd"]
    gene = four[:, "gene_1"].X.toarray().ravel()
    expected = [lineage_priming(fates, "kl_divergence", mask), lineage_priming(fates, "entropy"), gene]
    for ax, values in zip(axes, expected, strict=True):
        np.testing.assert_allclose(np.sort(ax.collections[1].get_array()), np.sort(values))
    assert list(four.obsm) == list(before.obsm)
    pd.testing.assert_frame_equal(four.obs, before.obs)


def test_names_and_circle(four):
    angles = {"best": [270, 0, 90, 360], "default": [0, 270, 0, 270], 30: [30, 30, 30, 30]}
    for rotation, expected in angles.items():
        ax = pl.circular_projection(four, "time", label_rot=rotation, lineage_order="default", show=False)
        assert [text.get_rotation() % 180 for text in ax.texts] == [angle % 180 for angle in expected]
        assert [one.get_gid() for one in ax.collections].count("circle") == 1
    ax = pl.circular_projection(four, "time", show_edges=False, show=False)
    assert not any(one.get_gid() == "circle" for one in ax.collections)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"lineages": ["a", "b"]}, ValueError, "at least 3 lineages"),
        ({"lineages": ["a", "b", "z"]}, KeyError, "z"),
        ({"keys": "nothing"}, KeyError, "nothing"),
        ({"keys": []}, ValueError, "keys"),
        ({"label_distance": -1}, ValueError, "label_distance"),
        ({"label_rot": "worst"}, ValueError, "label_rot"),
        ({"lineage_order": "any"}, ValueError, "lineage_order"),
        ({"metric": "crow"}, ValueError, "metric"),
        ({"metric": np.ones((3, 3))}, ValueError, "metric"),
        ({"backward": True}, KeyError, "lineages_bwd"),
        ({"shape": 3}, TypeError, "shape"),
    ],
)
def test_errors(four, arguments, error, match):
    with pytest.raises(error, match=match):
        pl.circular_projection(four, **({"keys": "clusters"} | arguments))


def test_a_lineage_without_weight(four):
    four.obsm["lineages_fwd"][:, 3] = 0
    with pytest.raises(ValueError, match=r"found none for \['d'\]"):
        pl.circular_projection(four, "clusters")
    with pytest.raises(ValueError, match="same in all cells"):
        pl.circular_projection(four, "clusters", normalize_by_mean=False)
    pl.circular_projection(four, "clusters", normalize_by_mean=False, lineage_order="default", show=False)
