"""The examples of the docstrings run, and give what they show.

How one is written. It stands in the last section, ``Examples``, of the docstring of a public name: one to four lines
that a user would type, and what comes::

    Examples
    --------
    >>> jv.tl.velocity_confidence(adata)
    >>> round(float(adata.obs["velocity_confidence"].mean()), 1)
    0.9

It finds the modules and names of ``example_data.py``: ``jv``, ``np``, ``jnp``, ``jax``, ``sp``, ``pd``, ``eqx``,
``optax``, ``anndata``, and copies of its own of ``counts``, ``adata``, ``fitted``, ``vk``, ``ck``, ``kernel``, ``g``,
``result``, ``problem``, ``graph``, ``x``, ``v``, ``spliced``, ``unspliced``, ``time``, ``fates``, ``T``,
``parametrization`` and ``fit_problem``. The working directory is an empty folder. Log lines are no output. Numbers are
rounded so far that they are the same in single and double precision, or shapes are shown.
"""

import doctest

import pytest

from tests.docstrings.example_data import names_for
from tests.docstrings.public_names import PublicName, public_names
from tests.docstrings.sections import sections_of

# Written to hold at either precision, and compiled for one.
pytestmark = pytest.mark.any_precision

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# What an example needs beyond the packages that all tests need.
EXTRAS = {"kernels.RealTimeKernel.compute_couplings": "ott"}
WITH_EXAMPLES = [public for public in public_names() if "Examples" in sections_of(public.docstring)]


def run_example(public: PublicName) -> str:
    """Run the examples of a docstring, and return what differs from what they show."""
    text = sections_of(public.docstring)["Examples"]
    parsed = doctest.DocTestParser().get_examples(text)
    # Warnings about a line of an example are errors, as those about a line of a test.
    names = {"__name__": "tests.docstrings.example", **names_for("".join(example.source for example in parsed))}
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS, verbose=False)
    runner.run(doctest.DocTest(parsed, names, public.name, None, None, text), out=report.append)
    return "".join(report)


@pytest.mark.parametrize("public", WITH_EXAMPLES, ids=lambda public: public.name)
def test_example(public, tmp_path, monkeypatch):
    if public.name in EXTRAS:
        pytest.importorskip(EXTRAS[public.name])
    monkeypatch.chdir(tmp_path)
    assert not run_example(public)


def documented(text: str) -> PublicName:
    """A name whose docstring is this example."""

    def function():
        pass

    function.__doc__ = f"Do it.\n\nExamples\n--------\n{text}\n"
    return PublicName("function", function)


def test_examples_can_fail():
    """They are compared, what they raise is told, and they cannot change each other's data."""
    assert "Expected:" in run_example(documented(">>> counts.shape\n(150, 41)"))
    assert "KeyError" in run_example(documented('>>> counts.obs["absent"]\n0'))
    assert "UserWarning" in run_example(documented('>>> import warnings\n>>> warnings.warn("no")'))
    assert not run_example(documented('>>> counts.obs["mine"] = 1\n>>> counts.shape\n(150, 40)'))
    assert not run_example(documented('>>> "mine" in counts.obs\nFalse'))
