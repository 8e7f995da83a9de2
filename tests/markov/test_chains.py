import numpy as np

from tests.markov.chains import messy_chain, permuted, with_lone_cells


def test_the_messy_chain_is_what_it_claims():
    matrix, dense, stored = messy_chain()
    np.testing.assert_allclose(matrix.to_csr().toarray(), dense, atol=1e-6)
    np.testing.assert_allclose(dense.sum(axis=1), 1)
    assert not np.array_equal(stored, stored.T)
    assert (stored & (dense == 0)).any()
    assert stored.diagonal().any()
    degrees = stored.sum(axis=1)
    assert (degrees == 0).sum() >= 2
    assert (degrees == 1).any()
    assert degrees.max() > 4 * np.median(degrees[degrees > 0]) or degrees.max() >= 12
    order = np.random.default_rng(0).permutation(len(dense))
    np.testing.assert_allclose(
        permuted(dense, stored, order).to_csr().toarray(), dense[np.ix_(order, order)], atol=1e-6
    )
    larger = with_lone_cells(dense, stored, 60)
    assert len(larger.values) > len(matrix.values)
    np.testing.assert_allclose(larger.to_csr().toarray()[:40, :40], dense, atol=1e-6)
