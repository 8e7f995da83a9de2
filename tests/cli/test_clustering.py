"""Which column is taken for the clusters, and how they are named."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from jaxvelo.cli._clustering import choose_clusters, guess_clusters, starting_cells
from tests.cli.conftest import STOCHASTIC

pytestmark = pytest.mark.any_precision

N = 60
THREE = np.array(["a", "b", "c"])[np.arange(N) % 3]
CATEGORIES = pd.Categorical(THREE)


def table(**columns) -> ad.AnnData:
    return ad.AnnData(obs=pd.DataFrame(columns, index=[f"cell{i}" for i in range(N)]))


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"first": CATEGORIES, "clusters": CATEGORIES}, "clusters"),
        ({"batch": CATEGORIES, "Cell_Type": CATEGORIES}, "Cell_Type"),
        ({"sample_id": CATEGORIES, "donor": CATEGORIES, "phase": CATEGORIES, "stage": CATEGORIES}, "stage"),
        ({"sample": CATEGORIES, "orig.ident": CATEGORIES}, None),
        ({"leiden": CATEGORIES, "cell_type": CATEGORIES}, "cell_type"),
        ({"kind": CATEGORIES, "leiden_r0.5": CATEGORIES}, "leiden_r0.5"),
        ({"kind": CATEGORIES, "RNA_snn_res.0.8": np.arange(N) % 4}, "RNA_snn_res.0.8"),
        ({"kind": CATEGORIES, "leiden": np.arange(N) % 4}, "leiden"),  # whole numbers
        ({"n_counts": np.arange(N) % 4, "kind": THREE}, "kind"),  # text; numbers of another name are none
        ({"text": THREE, "kind": CATEGORIES}, "kind"),
        ({"celltype": THREE}, "celltype"),
        ({"louvain": np.where(np.arange(N) < 5, np.nan, np.arange(N) % 4)}, "louvain"),  # some are missing
        ({"clusters": np.linspace(0, 1, N), "kind": CATEGORIES}, "kind"),
        ({"clusters": pd.Categorical(["all"] * N), "kind": CATEGORIES}, "kind"),  # one level
        ({"is_good": np.arange(N) % 2 == 0}, None),
        ({"barcode": pd.Categorical([f"A{i}" for i in range(N)]), "kind": CATEGORIES}, "kind"),
        ({"tag": pd.Categorical([f"A{i % 57}" for i in range(N)]), "kind": CATEGORIES}, "kind"),
        ({"clusters": [f"A{i}" for i in range(N)]}, None),
        ({"doublet_cluster": CATEGORIES}, None),
        ({}, None),
    ],
)
def test_guess(columns, expected):
    assert guess_clusters(table(**columns)) == expected


def test_a_name_that_is_chosen_is_taken(caplog):
    cells = table(batch=CATEGORIES, one=["all"] * N, tag=[f"A{i}" for i in range(N)], flag=np.arange(N) % 2 == 0)
    for key in ("batch", "one", "tag", "flag"):
        assert choose_clusters(cells, key) == key
        assert isinstance(cells.obs[key].dtype, pd.CategoricalDtype)
    assert "holds 60 clusters of 60 cells" in caplog.text
    assert list(cells.obs["flag"].cat.categories) == ["False", "True"]


def test_columns_that_hold_no_clusters():
    cells = table(depth=np.linspace(0, 1, N), empty=pd.Categorical([None] * N, categories=["a"]))
    with pytest.raises(ValueError, match="found numbers of type float64"):
        choose_clusters(cells, "depth")
    with pytest.raises(ValueError, match="all values are missing"):
        choose_clusters(cells, "empty")
    with pytest.raises(KeyError, match=r"found the columns \['depth', 'empty'\]"):
        choose_clusters(cells, "leiden")


def test_names_that_read_the_same_are_an_error():
    cells = table(kind=pd.Categorical([1, "1", "b"] * (N // 3)))
    with pytest.raises(ValueError, match="several that read"):
        choose_clusters(cells, "kind")


@pytest.mark.parametrize(
    ("column", "start", "n_cells"),
    [
        (np.arange(N) % 4, "2", 15),
        (np.where(np.arange(N) < 4, np.nan, np.arange(N) % 4), "2", 14),
        (pd.Categorical(np.arange(N) % 4), "2", 15),
        (pd.Categorical((np.arange(N) % 4).astype(float)), "2", 15),
        (pd.Categorical([None, "nan", "b"] * (N // 3)), "nan", 20),  # a name, and not what is missing
        (np.arange(N) % 2 == 0, "True", 30),
    ],
)
def test_start_by_the_text_of_a_name(column, start, n_cells):
    cells = table(kind=column)
    choose_clusters(cells, "kind")
    assert starting_cells(cells, "kind", start).sum() == n_cells


def test_start_that_is_no_cluster_or_has_no_cells():
    cells = table(kind=CATEGORIES.add_categories("d"))
    with pytest.raises(ValueError, match="found `e`"):
        starting_cells(cells, "kind", "e")
    with pytest.raises(ValueError, match=r"Expected cells in the cluster `d`.* There are cells in \['a', 'b', 'c'\]"):
        starting_cells(cells, "kind", "d")
    with pytest.raises(ValueError, match="and no clusters"):
        starting_cells(cells, None, "a")


def test_cells_in_no_cluster_are_drawn_and_not_in_the_flow(cells, run):
    names = cells.obs["clusters"].astype(object)
    names[:40] = np.nan
    cells.obs["clusters"] = pd.Categorical(names)
    result = run(cells, *STOCHASTIC).succeeded()
    assert "40 cells are in no cluster of `obs['clusters']`" in result.out
    assert "nan" not in result.out
    assert "no cluster " in result.out[result.out.index("They end in") :]
    assert {"stream.png", "grid.png", "random_walks.png", "proportions.png"} <= set(result.files)
    assert result.cells.obs["clusters"].isna().sum() == 40


@pytest.mark.usefixtures("undrawn")
def test_a_repeated_barcode_is_not_guessed(cells, run):
    cells.obs = pd.DataFrame(
        {
            "barcode": pd.Categorical([f"AAAC{i % 147}-1" for i in range(cells.n_obs)]),
            "cell_type": cells.obs["clusters"].to_numpy(),
        },
        index=cells.obs_names,
    )
    assert "Guessed that the clusters are `obs['cell_type']`" in run(cells, *STOCHASTIC).succeeded().out
