"""Ctrl-C as a flag: a run must end in order, whenever and however often it is pressed."""

from __future__ import annotations

import signal
import threading


class Interrupt:
    """While entered, Ctrl-C calls `stop` instead of raising KeyboardInterrupt.

    `stop` runs inside a signal handler of the main thread, between any two bytecodes of it:
    it must take no lock.  Elsewhere than in the main thread, or when the program handles
    SIGINT in a way of its own, nothing is changed.
    """

    def __init__(self, stop):
        self._stop = stop
        self._installed = False
        self.seen = False

    def __enter__(self):
        if (threading.current_thread() is threading.main_thread()
                and signal.getsignal(signal.SIGINT) is signal.default_int_handler):
            signal.signal(signal.SIGINT, self._note)
            self._installed = True
        return self

    def __exit__(self, *exc_info):
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _note(self, _signal, _frame):
        self.seen = True
        self._stop()
