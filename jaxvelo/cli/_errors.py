"""What becomes of errors: those that our own checks raise, and those that nobody has foreseen."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

BAD_INPUT, UNFORESEEN = 2, 1
# Types that our checks raise.
CHECKS = (ArithmeticError, IndexError, KeyError, RuntimeError, TypeError, ValueError)


class StepError(Exception):
    """A step failed in a way that no check has foreseen; the message says which, and how."""


@contextlib.contextmanager
def step(name: str, remedy: str = "") -> Iterator[None]:
    """Name the step in which another package fails: its own message alone may be no more than ``'params'``.

    Parameters
    ----------
    name
        What is done, as the beginning of a sentence that goes on with "failed".
    remedy
        What the user can do instead, as a sentence.
    """
    try:
        yield
    except Exception as error:
        if is_foreseen(error):
            raise
        raise StepError(f"{name} failed with {described(error)} {remedy}".rstrip()) from error


def is_foreseen(error: BaseException) -> bool:
    """Whether an error tells the user what is wrong with the input: one of our own checks, a file, a missing package.

    The same types come from other packages with messages that only their authors understand, so the place where the
    error was raised decides. A message of one word, such as that of a KeyError, is none of a check.
    """
    if isinstance(error, (OSError, ImportError)):
        return True
    if type(error) not in CHECKS or " " not in message_of(error):
        return False
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    origin = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__", ""))
    return origin.split(".")[0] == "jaxvelo"


def reason(error: BaseException) -> str:
    """Why a step failed that the command goes on without, for a warning."""
    return message_of(error) if is_foreseen(error) else described(error)


def described(error: BaseException) -> str:
    """Type and message of an error of another package, as one line that ends in a full stop."""
    text = message_of(error).rstrip(".")
    return f"{type(error).__name__}: {text}." if text else f"{type(error).__name__}."


def message_of(error: BaseException) -> str:
    """Return the message of an error as one line; that of a KeyError without the quotes of its representation."""
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    return " ".join(str(message).split())
