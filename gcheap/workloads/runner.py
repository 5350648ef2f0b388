"""Mutator threads of a stress run: together through population, run and audit, and out.

    mutator threads   populate --+-- run ----------------------------+-- audit --+-- leave
                                 |   (warm-up)   (measurement)       |           |
    supervisor        ...........+.. waits ..... measure() ... stop()+...........+ joined

Each column of `+` is a barrier: nobody audits while another one still runs, and nobody
detaches while another one may read what it holds.  When one thread fails the run is stopped,
the barrier broken, and all leave; the first error is kept.  The supervising thread never
attaches, and looks at the run every few milliseconds, so that Ctrl-C ends it at once.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress

from gcheap.errors import HeapExhausted
from gcheap.options import format_size
from gcheap.workloads._record import Recording

TICK_SECONDS = 0.025  # how often the supervisor looks


class Run:
    """One run of a session by `mutators` threads, told what to do by a RunControl.

    Used once, from one thread.

    recordings  one for each mutator
    populated   the live data was built completely
    audited     every mutator's audit ran to its end (not: that it found no failure)
    error       the first exception of a mutator thread, or None
    """

    def __init__(self, heap, session, name, mutators, control):
        self._heap = heap
        self._session = session
        self._name = name
        self._control = control
        self._barrier = threading.Barrier(mutators, action=self._all_met)
        self._exit = threading.Barrier(mutators)
        self._met = 0
        self._lock = threading.Lock()
        self._ready = threading.Event()  # populated, or over
        self._over = threading.Event()  # the run ended by itself
        self._threads = [
            threading.Thread(target=self._mutate, args=(index,), name=f"{name}-{index}",
                             daemon=True)
            for index in range(mutators)
        ]
        self.recordings = [Recording(control) for _ in range(mutators)]
        self.populated = False
        self.audited = False
        self.error = None

    # ---- the supervising thread ----

    def start(self):
        """Starts the threads; they populate, then warm up.  RuntimeError when one cannot."""
        for count, thread in enumerate(self._threads):
            try:
                thread.start()
            except RuntimeError:
                self._threads = self._threads[:count]
                self._exit.abort()
                self._fail(None)
                self.finish()
                raise

    def wait_populated(self, watch):
        """Waits until the live data is there, or the run was stopped; calls `watch()` meanwhile."""
        while not self._ready.wait(TICK_SECONDS) and not self._control.stopped:
            watch()

    def wait(self, seconds, watch):
        """Waits for so long, or less when the run ends before; calls `watch()` meanwhile."""
        deadline = time.monotonic() + seconds
        while not self._control.stopped and (left := deadline - time.monotonic()) > 0:
            self._over.wait(min(left, TICK_SECONDS))
            watch()

    def measure(self):
        """Ends the warm-up."""
        self._control.measure()

    def stop(self):
        """Ends the run, or a population under way.  Returns at once; may be called by a
        signal handler.
        """
        self._control.stop()

    @property
    def stopped(self):
        """Whether the run was stopped, or ended by itself."""
        return self._control.stopped

    def finish(self):
        """Stops the run and waits until every thread has left."""
        self.stop()
        for thread in self._threads:
            thread.join()

    # ---- the mutator threads ----

    def _mutate(self, index):
        mutator = None
        try:
            mutator = self._heap.attach(f"{self._name}-{index}")
            self._steps(mutator, index)
        except threading.BrokenBarrierError:
            pass  # whoever broke it has an error to tell
        except BaseException as error:
            self._fail(error)  # it is raised in the supervising thread
        finally:
            # The others may still read roots out of this mutator's shadow stack.
            with suppress(threading.BrokenBarrierError):
                self._exit.wait()
            if mutator is not None:
                self._session.leave(index)
                mutator.detach()

    def _steps(self, mutator, index):
        session, recording = self._session, self.recordings[index]
        recording.bind(mutator)
        session.populate(mutator, index, recording)
        self._check_room(recording, "population")
        self._barrier.wait()
        if not self.populated:
            return
        session.run(index)
        self._check_room(recording, "the run")
        if not self._control.stopped:  # it gave up: too many failures
            self._end()
        self._barrier.wait()
        session.audit(index)
        self._barrier.wait()

    def _all_met(self):
        """Runs in one thread, once a barrier, before any is let go."""
        self._met += 1
        if self._met == 1:
            self.populated = not self._control.stopped
            self._ready.set()
        elif self._met == 3:
            self.audited = True

    def _check_room(self, recording, during):
        if recording.exhausted and self.error is None:
            stats = self._heap.stats()
            raise HeapExhausted(
                f"{self._name} exhausted the heap during {during}: "
                f"{format_size(stats.live_bytes)} live after the last cycle of a capacity of "
                f"{format_size(stats.capacity_bytes)}; give it more capacity or less live data"
            )

    def _fail(self, error):
        with self._lock:
            self.error = self.error or error
        self._end()
        self._barrier.abort()

    def _end(self):
        self._control.stop()
        self._ready.set()
        self._over.set()
