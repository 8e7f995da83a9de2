import numpy as np
import pandas as pd
import pytest

from jaxvelo import pl

pytestmark = pytest.mark.any_precision


def heights(ax):
    return {bars.get_label(): [bar.get_height() for bar in bars] for bars in ax.containers}


def test_heights_are_counts(unchanged_fates):
    ax = pl.macrostate_composition(unchanged_fates, "clusters", show=False)
    table = pd.crosstab(unchanged_fates.obs["clusters"], unchanged_fates.obs["macrostates_fwd"])
    assert heights(ax) == {name: list(row) for name, row in table.iterrows() if row.any()}
    assert [label.get_text() for label in ax.get_xticklabels()] == ["early", "late_1", "late_2"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(heights(ax))[::-1]
    np.testing.assert_allclose(ax.containers[0].patches[0].get_facecolor(), (1, 0, 0, 1))


def test_shares_of_samples(fates):
    rng = np.random.default_rng(0)
    fates.obsm["shares"] = pd.DataFrame(rng.dirichlet([1, 1], fates.n_obs), columns=["a", "b"], index=fates.obs_names)
    fates.obs["size"] = rng.uniform(1, 9, fates.n_obs)
    ax = pl.macrostate_composition(fates, {"obsm": "shares"}, weight_key="size", states=["late_2", "early"], show=False)
    for name in "ab":
        weighted = fates.obsm["shares"][name] * fates.obs["size"]
        expected = [weighted[fates.obs["macrostates_fwd"] == state].sum() for state in ("late_2", "early")]
        np.testing.assert_allclose(heights(ax)[name], expected)


def test_errors(fates):
    with pytest.raises(KeyError, match="nowhere"):
        pl.macrostate_composition(fates, "nowhere")
    with pytest.raises(ValueError, match="weight_key"):
        pl.macrostate_composition(fates, "clusters", weight_key="time")
    with pytest.raises(ValueError, match="width"):
        pl.macrostate_composition(fates, "clusters", width=2)
    with pytest.raises(ValueError, match="data frame"):
        pl.macrostate_composition(fates, {"obsm": "X_umap"})
    with pytest.raises(KeyError, match="macrostates_bwd"):
        pl.macrostate_composition(fates, "clusters", backward=True)
