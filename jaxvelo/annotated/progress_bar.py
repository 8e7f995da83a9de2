"""Progress bars: in a terminal and in a notebook, and nowhere else."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

from tqdm import TqdmWarning

from jaxvelo.configuration import settings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", TqdmWarning)  # of notebooks without widgets, whose bars are text
    from tqdm.auto import tqdm
    from tqdm.notebook import tqdm_notebook

Item = TypeVar("Item")

DELAY = 2.0
"""Seconds after which a bar is shown: what takes less needs none."""
_wanted: ContextVar[bool] = ContextVar("wanted", default=True)


def progress_bar(
    total: int | None,
    description: str,
    unit: str,
    shown: bool = True,
    *,
    initial: int = 0,
    leave: bool = False,
) -> tqdm:
    """Begin a bar on the standard error stream, to be used in a ``with`` statement.

    There is none where that stream is no terminal, so that nothing of it is in log files, nor where
    ``jaxvelo.settings.verbosity`` is below ``"info"``.

    Parameters
    ----------
    total
        How much there is to do; None if that is not known.
    description
        What is done, in a word or two.
    unit
        What is counted.
    shown
        Whether the user wants it.
    initial
        How much has been done before.
    leave
        Whether it stays when it is done.
    """
    # Without a word on it, widgets would look for a terminal too; `None` lets a bar of text look for one.
    disable = False if issubclass(tqdm, tqdm_notebook) else None
    if not shown or not _wanted.get() or settings.verbosity not in ("info", "debug"):
        disable = True
    return tqdm(
        total=total, desc=description, unit=f" {unit}", initial=initial, leave=leave, delay=DELAY, disable=disable
    )


def watched(
    items: Iterable[Item],
    total: int | None,
    description: str,
    unit: str,
    amount: Callable[[Item], int] = lambda item: 1,
    *,
    shown: bool = True,
    initial: int = 0,
) -> Iterator[Item]:
    """Give items with a bar that moves by an amount when the work on each is done; see :func:`progress_bar`."""
    with progress_bar(total, description, unit, shown, initial=initial) as bar:
        for item in items:
            yield item
            bar.update(amount(item))


@contextlib.contextmanager
def bars(shown: Any) -> Iterator[None]:
    """Show no bars within the block if ``shown`` is false; ``None`` says nothing."""
    token = _wanted.set(_wanted.get() and (shown is None or bool(shown)))
    try:
        yield
    finally:
        _wanted.reset(token)
