"""Budgets that a user gives, and what is free."""

import pytest

from jaxvelo.annotated import memory_limit
from jaxvelo.annotated.memory_limit import bytes_of, for_pieces_and_blocks, format_bytes, free_memory, within
from jaxvelo.graph._row_blocks import BudgetTooSmall

pytestmark = pytest.mark.any_precision


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (1000, 1000),
        (2.5e6, 2_500_000),
        ("1000", 1000),
        ("8 GiB", 8 * 1024**3),
        ("1.5G", 1.5 * 1024**3),
        ("500 MB", 500_000_000),
        (" 2 kib ", 2048),
        ("7 B", 7),
    ],
)
def test_bytes_of_numbers_and_texts(given, expected):
    assert bytes_of(given) == expected


@pytest.mark.parametrize("given", ["much", "8 GB/s", "", ".", "1.2.3 GB", -1, 0, float("nan"), float("inf"), True, [8]])
def test_everything_else_is_an_error_that_names_it(given):
    with pytest.raises(ValueError, match="Expected `memory_limit`"):
        bytes_of(given)


def test_half_of_what_is_free_by_default(monkeypatch, logged):
    assert 0 < free_memory() < 2**50
    monkeypatch.setattr(memory_limit, "free_memory", lambda: 4 * 1024**3)
    assert bytes_of(None) == 2 * 1024**3
    assert "2 GiB of the 4 GiB of memory that are free" in logged()


@pytest.mark.parametrize("n_bytes", [5, 1023, 1024, 10**6, 123_456_789, 10**12])
def test_texts_are_taken_back(n_bytes):
    assert bytes_of(format_bytes(n_bytes)) == pytest.approx(n_bytes, rel=5e-3)


def test_the_remedy_of_a_small_budget_is_enough():
    for needed in (100, 123_456, 10**10):
        with pytest.raises(ValueError, match="found 30 B") as error, within(30):
            raise BudgetTooSmall(needed)
        asked = bytes_of(str(error.value).split("memory_limit='")[1].split("'")[0])
        assert needed <= for_pieces_and_blocks(asked)[1] <= 1.1 * needed + 10
