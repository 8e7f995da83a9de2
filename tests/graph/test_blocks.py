import jax
import pytest

from jaxvelo.graph._blocks import BLOCK_BYTES, DEVICE_BLOCK_BYTES, block_rows, on_cpu


@pytest.mark.parametrize(("backend", "n_bytes"), [("cpu", BLOCK_BYTES), ("elsewhere", DEVICE_BLOCK_BYTES)])
def test_bytes_of_a_block(backend, n_bytes, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    width, row_bytes = 64, 1024
    assert block_rows((1 << 20, width), row_bytes) == n_bytes // (width * row_bytes)
    # Divisors of the number of rows alone; a row that is too large is a block, and so is a small bucket.
    assert block_rows((24, width), row_bytes) == 24
    assert block_rows((1 << 10, width), 1 << 30) == 1
    # What is asked for counts, on any device.
    assert block_rows((1 << 20, width), row_bytes, 1 << 18) == 4


def test_the_default_device_counts(monkeypatch):
    """Before the backend, and by name too."""
    assert on_cpu() == (jax.default_backend() == "cpu")
    monkeypatch.setattr(jax, "default_backend", lambda: "elsewhere")
    assert not on_cpu()
    with jax.default_device(jax.devices("cpu")[0]):
        assert on_cpu()
    with jax.default_device("cpu"):
        assert on_cpu()
    assert not on_cpu()
