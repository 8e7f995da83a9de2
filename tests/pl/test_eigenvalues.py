import numpy as np
import pytest

from jaxvelo import pl

pytestmark = pytest.mark.any_precision


def test_real_parts_and_the_gap(unchanged_fates):
    ax = pl.spectrum(unchanged_fates, real_only=True, show=False)
    found = np.concatenate([points.get_offsets().data for points in ax.collections])
    expected = np.column_stack([np.arange(1, 6), unchanged_fates.uns["eigendecomposition_fwd"]["D"].real])
    np.testing.assert_array_equal(found[np.argsort(found[:, 0])], expected)
    (line,) = ax.lines
    np.testing.assert_array_equal(line.get_xdata(), 2.5)  # between the second and the third
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["real", "complex pair", "eigengap, after 2"]
    assert not pl.spectrum(unchanged_fates, 2, show=False).lines[1:]


def test_complex_plane_is_the_default_with_complex_values(fates):
    ax = pl.spectrum(fates, show=False)
    found = np.concatenate([points.get_offsets().data for points in ax.collections])
    values = fates.uns["eigendecomposition_fwd"]["D"]
    assert {tuple(point) for point in found} == {(value.real, value.imag) for value in values}
    circle = ax.lines[0].get_xydata()
    np.testing.assert_allclose(np.linalg.norm(circle, axis=1), 1.0)
    (low, high), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert low < values.real.min() < values.real.max() < high
    assert bottom < -0.1 < 0.1 < top


def test_few_values_are_real(fates):
    ax = pl.spectrum(fates, 2, show=False)
    assert ax.get_xlabel() == "rank"
    assert len(ax.collections[0].get_offsets()) == 2


def test_errors(fates):
    with pytest.raises(ValueError, match="`n`"):
        pl.spectrum(fates, 0)
    with pytest.raises(KeyError, match=r"eigendecomposition_bwd.*compute_eigendecomposition"):
        pl.spectrum(fates, backward=True)
    with pytest.raises(ValueError, match="legend_loc"):
        pl.spectrum(fates, legend_loc="on data")
