"""Blocks of cells with what they gather, and the loop that reads one block ahead."""

import numpy as np
import pytest
import scipy.sparse as sp

from jaxvelo.graph import NeighborGraph, _row_blocks
from jaxvelo.graph._row_blocks import BudgetTooSmall, LocalGraphs, near_order, read_ahead, row_blocks

pytestmark = pytest.mark.any_precision


def shuffled_ring(n_cells=300, n_neighbors=3, seed=0):
    """Each cell with the next and the last ones on a ring, under random numbers; one cell has no neighbours."""
    name = np.random.default_rng(seed).permutation(n_cells)
    steps = np.concatenate([np.arange(1, n_neighbors + 1), -np.arange(1, n_neighbors + 1)])
    rows = np.repeat(np.arange(n_cells), len(steps))
    columns = (rows + np.tile(steps, n_cells)) % n_cells
    kept = (rows != 7) & (columns != 7)
    ones = np.ones(kept.sum())
    return sp.csr_matrix((ones, (name[rows[kept]], name[columns[kept]])), shape=(n_cells, n_cells))


def n_rows(n_own, n_gathered):
    return n_own + n_gathered


@pytest.mark.parametrize("budget", [30, 100, 10_000])
def test_blocks_are_as_large_as_fits_and_gather_their_neighbors(budget):
    graph = shuffled_ring()
    order = near_order(graph)
    blocks = list(row_blocks(graph, order, n_rows, budget))
    np.testing.assert_array_equal(np.sort(np.concatenate([block.own for block in blocks])), np.arange(300))
    for block in blocks:
        expected = set(graph[block.own].indices) | set(block.own)
        assert set(block.gathered) == expected
        assert len(block.gathered) == len(expected)
        assert n_rows(len(block.own), len(block.gathered)) <= budget
        more = order[block.end - len(block.own) : block.end + 1]
        if block.end < 300:  # one cell more would be too much
            assert len(more) + len(set(graph[more].indices) | set(more)) > budget


def test_neighbors_are_near_in_the_order():
    graph = shuffled_ring()
    gathered = [len(b.gathered) for order in (near_order(graph), np.arange(300)) for b in [*_of_fifty(graph, order)]]
    assert sum(gathered[:6]) < 1.3 * 300
    assert sum(gathered[6:]) > 3 * 300


def _of_fifty(graph, order):
    return row_blocks(graph, order, lambda n_own, n_gathered: n_own + 0 * n_gathered, 50)


def test_blocks_from_a_position_on_cover_the_rest():
    graph = shuffled_ring()
    order = near_order(graph)
    first = next(row_blocks(graph, order, n_rows, 60))
    rest = list(row_blocks(graph, order, n_rows, 90, first.end))
    np.testing.assert_array_equal(
        np.sort(np.concatenate([b.own for b in [first, *rest]])), np.arange(300), "each cell once"
    )


def test_a_budget_for_less_than_a_cell_says_what_is_needed():
    graph = shuffled_ring()
    with pytest.raises(BudgetTooSmall) as error:
        next(row_blocks(graph, np.arange(300), n_rows, 4))
    assert error.value.needed == 1 + 6 + 1, "of a cell and six neighbours"
    assert len(list(row_blocks(graph, np.arange(300), n_rows, error.value.needed))) >= 290


@pytest.mark.parametrize(("many_blocks", "n_shapes"), [(100, 1), (1, 3)])
def test_rows_of_local_graphs_are_those_of_the_graph(many_blocks, n_shapes, monkeypatch):
    monkeypatch.setattr(_row_blocks, "MANY_BLOCKS", many_blocks)
    csr = shuffled_ring(90).tolil()
    csr[3, :40] = 1  # a hub, in a bucket of its own
    csr = csr.tocsr()
    graph = NeighborGraph.from_csr(csr)
    order = near_order(csr)
    blocks = [next(row_blocks(csr, order, n_rows, 110))]  # a large one, then smaller ones
    blocks += row_blocks(csr, order, n_rows, 60, blocks[0].end)
    local = LocalGraphs(graph, blocks)
    values = [np.asarray(of_bucket) for of_bucket in graph.edges["connectivities"].values]
    back, shapes, degrees = local.empty(values[0].dtype), set(), np.zeros(90, dtype=int)
    for block in blocks:
        pattern, places = local.pattern(block)
        here = local.of_block(block, values, places)
        shape = local.shape(block)
        assert shape.n_own >= len(block.own)
        assert shape.n_gathered >= len(block.gathered)
        assert shape.n_rows == tuple(map(len, pattern.rows))
        shapes.add(shape)
        for rows, columns, mask, of_bucket in zip(pattern.rows, pattern.columns, pattern.mask, here, strict=True):
            cells, others = block.gathered[rows], block.gathered[columns]
            for row in np.flatnonzero(mask.any(axis=1)):
                np.testing.assert_array_equal(np.sort(others[row, mask[row]]), np.sort(csr[cells[row]].indices))
                np.testing.assert_array_equal(of_bucket[row, mask[row]], 1)
                degrees[cells[row]] += mask[row].sum()
        local.put_back(back, here, places)
    assert len(blocks) > 3
    assert len(shapes) == n_shapes
    np.testing.assert_array_equal(degrees, np.diff(csr.indptr))
    for found, expected in zip(back, values, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([64] * 3, [0] * 3),
        ([64] + [33] * 40 + [32] * 16, [0] * 41 + [1] * 16),
        ([64] + [32] * 15, [0] * 16),
        ([64] + [30] * 10 + [8] * 5, [0] * 16),  # ten and five are too few for a program of their own
        ([64] + [30] * 10 + [8] * 20 + [1] * 20, [0] + [0] * 10 + [2] * 40),
        ([64] + [30] * 10 + [16] * 6, [0] + [1] * 16),  # a quarter goes with the halves, of which there are enough then
    ],
)
def test_smaller_blocks_have_smaller_shapes_if_there_are_many(sizes, expected):
    np.testing.assert_array_equal(_row_blocks._halvings(np.array(sizes)), expected)


def test_reading_is_one_item_ahead_and_keeps_nothing():
    alive = []

    class Found:
        def __init__(self, item):
            self.item = item
            alive.append(item)

        def __del__(self):
            alive.remove(self.item)

    for item, found in read_ahead(Found, iter(range(6))):
        assert found.item == item
        assert len(alive) <= 3
        del found
    assert alive == []


def test_errors_of_reading_and_of_the_loop_come_through():
    def read(item):
        if item == 2:
            raise OSError("gone")
        return item

    seen = []
    with pytest.raises(OSError, match="gone"):
        seen.extend(item for item, _ in read_ahead(read, range(5)))
    assert seen == [0, 1]
    with pytest.raises(ZeroDivisionError):
        sum(1 / item for item, _ in read_ahead(lambda item: item, range(5)))
