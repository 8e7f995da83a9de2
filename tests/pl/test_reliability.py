import numpy as np
import pandas as pd
import pytest

from jaxvelo import pl

pytestmark = pytest.mark.any_precision

TABLE = pd.DataFrame({"predicted": [0.9, 0.1, 0.5], "observed": [0.8, 0.1, 0.9], "count": [30, 70, 0]})


def test_points_counts_and_error():
    ax = pl.reliability(TABLE, show=False)
    (bars,) = ax.containers
    np.testing.assert_array_equal(bars[0].get_xydata(), [[0.1, 0.1], [0.9, 0.8]])
    (strip,) = ax.child_axes
    heights = [segment[1][1] for segment in strip.collections[0].get_segments()]
    assert heights == [70, 30]
    # 30 of 100 predictions are off by 0.1.
    assert ax.get_legend().get_texts()[0].get_text() == "expected calibration error 0.030"


def test_intervals_cover_as_often_as_they_say():
    # Wilson's interval of 8 of 10: a textbook value (Brown, Cai & DasGupta 2001).
    ax = pl.reliability(pd.DataFrame({"predicted": [0.5], "observed": [0.8], "count": [10]}), show=False)
    (segment,) = ax.containers[0][2][0].get_segments()
    np.testing.assert_allclose(segment[:, 1], [0.490, 0.943], atol=1e-3)


def test_several_tables():
    ax = pl.reliability({"convention": TABLE, "fitted": TABLE.assign(observed=TABLE["predicted"])}, show=False)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "convention, error 0.030",
        "fitted, error 0.000",
    ]


def test_errors():
    with pytest.raises(TypeError, match="data frames"):
        pl.reliability(np.ones((2, 3)))
    with pytest.raises(KeyError, match="count"):
        pl.reliability(TABLE[["predicted", "observed"]])
    with pytest.raises(ValueError, match="from 0 to 1"):
        pl.reliability(TABLE.assign(observed=2.0))
