"""A process with one processor core, and with it one thread that runs programs."""

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.any_precision

# Arrays beyond 100 kB, which the runtime copies in a thread of its own, and weights that are still being computed when
# the pseudotime is asked for, so that its program runs in such a thread too.
PROGRAM = """
    import os
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import jax
    import jax.numpy as jnp
    import numpy as np
    import scipy.sparse as sp
    from jaxvelo.dynamics import diffusion_pseudotime
    from jaxvelo.graph import NeighborGraph

    n_cells, width, rng = 2_000, 16, np.random.default_rng(0)
    bands = [rng.uniform(0.5, 1.5, n_cells - k) for k in range(1, width)]
    upper = sp.csr_matrix(sp.diags_array(bands, offsets=range(1, width)))
    graph = NeighborGraph.from_csr(upper + upper.T)
    values = graph.edges["connectivities"].values
    matrix = jnp.asarray(rng.normal(size=(400, 400)), dtype=float)

    @jax.jit
    def at_work(values, matrix):
        matrix = jax.lax.fori_loop(0, 10, lambda _, x: jnp.tanh(x @ x), matrix)
        return tuple(value + 0 * matrix[0, 0] for value in values)

    @jax.jit
    def total(values, graph, root):
        return jnp.sum(diffusion_pseudotime(graph, values, root, n_components=4))

    for root in range(4):
        print(float(total(at_work(values, matrix), graph, root)))
    gradient = jax.grad(total)(at_work(values, matrix), graph, 0)
    assert all(np.isfinite(leaf).all() for leaf in gradient)
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processor cores are chosen on Linux only")
def test_the_pseudotime_comes_on_one_core():
    program = [sys.executable, "-c", textwrap.dedent(PROGRAM)]
    result = subprocess.run(program, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr
    totals = [float(line) for line in result.stdout.split()]
    assert len(totals) == 4
    assert all(100 < total < 2_000 for total in totals)
