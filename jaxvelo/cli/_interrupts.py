"""Ctrl-C ends a run once and for all, wherever it comes."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator

DELAY = 0.05
"""Seconds after which a lost interrupt comes again."""


@contextlib.contextmanager
def one_interrupt() -> Iterator[None]:
    """Raise a KeyboardInterrupt at the first interrupt; further ones are ignored: the process is about to end.

    Python cannot raise out of the callbacks of its garbage collection: it would print the trace of an interrupt that
    comes in one, and go on. Such an interrupt comes again a moment later.

    Where interrupts are ignored (a run in the background) or are someone else's, and in threads other than the main
    one, all stays as it is.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    former_hook = sys.unraisablehook

    def interrupted(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    def again() -> None:
        signal.raise_signal(signal.SIGINT)

    def lost(unraisable: "sys.UnraisableHookArgs") -> None:
        if unraisable.exc_type is not KeyboardInterrupt:
            former_hook(unraisable)
            return
        signal.signal(signal.SIGINT, interrupted)
        # Not at once: this is within the callback still.
        timer = threading.Timer(DELAY, again)
        timer.daemon = True
        timer.start()

    signal.signal(signal.SIGINT, interrupted)
    sys.unraisablehook = lost
    try:
        yield
    finally:
        sys.unraisablehook = former_hook
        if signal.getsignal(signal.SIGINT) is interrupted:
            signal.signal(signal.SIGINT, signal.default_int_handler)
