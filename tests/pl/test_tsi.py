import anndata
import numpy as np
import pandas as pd
import pytest

from jaxvelo import pl

pytestmark = pytest.mark.any_precision

CURVE = pd.DataFrame(
    {
        "number_of_macrostates": [5.0, 4.0, 3.0, 2.0, 1.0],
        "identified_terminal_states": [3.0, 2.0, 2.0, 1.0, 1.0],
        "optimal_identification": [3.0, 3.0, 3.0, 2.0, 1.0],
    },
    index=list("01234"),
)


@pytest.mark.parametrize("table", [CURVE, anndata.AnnData(CURVE)], ids=["frame", "CellRank"])
def test_curves_and_score(table):
    ax = pl.tsi(table, show=False)
    found, best = ax.lines
    np.testing.assert_array_equal(found.get_xydata(), CURVE.to_numpy()[::-1, :2])
    np.testing.assert_array_equal(best.get_ydata(), [1, 2, 3, 3, 3])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["identified, score 0.75", "at best"]
    assert "score 0.67" in pl.tsi(table, 3, show=False).get_legend().get_texts()[0].get_text()


def test_errors():
    with pytest.raises(TypeError, match=r"table of `GPCCA.tsi\(\)`"):
        pl.tsi(0.7)
    with pytest.raises(KeyError, match="optimal_identification"):
        pl.tsi(CURVE.iloc[:, :2])
    with pytest.raises(ValueError, match="n_macrostates"):
        pl.tsi(CURVE, 0)
