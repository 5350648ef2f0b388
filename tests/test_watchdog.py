"""The safepoint watchdog names the mutator that keeps a pause waiting."""
from __future__ import annotations

import os
import re
import threading

import pytest
from support import PATIENCE, MutatorThread, kernel_offers, run_cleanly, wait_until

import gcheap
from gcheap import failpoints
from gcheap.core import _testing

LINE = re.compile(r"gcheap: the pause (\w+) has waited (\d+) ms for mutator '([^'\n]*)' "
                  r"\(thread (\d+)\): [^\n]+\n")
FIRST_PAUSE = {"move": "mark_start", "copy": "mark_start", "stw": "full"}


class Heard:
    """Standard error so far, whoever wrote it."""

    def __init__(self, capfd) -> None:
        self._capfd = capfd
        self._text = ""

    def lines(self) -> list[tuple[str, str, str, str]]:
        self._text += self._capfd.readouterr().err
        return LINE.findall(self._text)

    def only_lines(self) -> bool:
        return LINE.sub("", self._text) == ""


def stay(m) -> int:
    """Runs in the heap without a poll, until the failpoint lets it go."""
    _testing.stay_running(m.native())
    return threading.get_native_id()


@pytest.mark.sigbus_only("the stop is the same")
def test_a_mutator_that_does_not_stop_is_named_again_and_again(make_heap, capfd):
    heap, heard = make_heap("4MiB", safepoint_warning_ms=5), Heard(capfd)
    with MutatorThread(heap, "the one") as other, failpoints.pause("mutator.running") as running:
        stuck = other.start(stay)
        running.wait()
        heap.collect(wait=False)
        wait_until(lambda: len(heard.lines()) >= 5, "five warnings")
        running.release()
        thread = stuck.result(PATIENCE)
        heap.collect()
        lines = heard.lines()
        assert heard.only_lines()
        assert {(phase, name, int(tid)) for phase, _, name, tid in lines} == {
            (FIRST_PAUSE[heap.backend], "the one", thread)}
        waited = [int(ms) for _, ms, _, _ in lines]
        assert waited[0] >= 5
        # At 5, 10, 20, 40 ms ...: each warning is due when the time has doubled.
        assert all(later >= 5 << n for n, later in enumerate(waited))
        assert heap.stats().slow_safepoints == 1            # one stop, however many lines


def test_the_mutator_that_is_late_is_named_and_no_other(any_heap, capfd):
    heard = Heard(capfd)
    with (gcheap.Heap("4MiB", safepoint_warning_ms=5) as heap,
          MutatorThread(heap, "prompt"), MutatorThread(heap, "late") as late,
          MutatorThread(heap, "quick"), failpoints.pause("mutator.running") as running):
        stuck = late.start(stay)
        running.wait()
        heap.collect(wait=False)
        wait_until(lambda: len(heard.lines()) >= 2, "two warnings")
        running.release()
        stuck.result(PATIENCE)
        heap.collect()
        assert {name for _, _, name, _ in heard.lines()} == {"late"}


@pytest.mark.skipif(kernel_offers("copy") is not None, reason="no faults here")
def test_a_mutator_held_in_a_fault_is_named(capfd):
    """It is in the heap: no pause can go on without it, although the compactor could."""
    heard = Heard(capfd)
    with (gcheap.Heap("4MiB", faults="sigbus", safepoint_warning_ms=5) as heap,
          heap.attach() as m, MutatorThread(heap, "reader") as reader):
        shape = heap.shape("Node", refs=("next",), raw=[("key", "u8")])
        m.new(shape)
        ref = m.new(shape, key=5)
        with failpoints.pause("flip.after", times=1) as flip, \
                failpoints.pause("mutator.fault", times=1) as fault:
            heap.collect(wait=False)
            flip.wait()
            read = reader.start(lambda m: _testing.read_words(m.native(), ref, 3))
            fault.wait()
            flip.release()
            wait_until(lambda: heap.stats().cycles == 1, "the end of the cycle")
            assert heard.lines() == []
            heap.collect(wait=False)                        # its first pause wants the reader
            wait_until(heard.lines, "a warning")
            assert {(phase, name) for phase, _, name, _ in heard.lines()} == {
                ("mark_start", "reader")}
            fault.release()
        assert read.result(PATIENCE)[2] == 5
        heap.collect()


def test_zero_turns_it_off(capfd):
    with (gcheap.Heap("4MiB", safepoint_warning_ms=0) as heap, MutatorThread(heap) as other,
          failpoints.pause("mutator.running") as running):
        stuck = other.start(stay)
        running.wait()
        heap.collect(wait=False)
        with pytest.raises(TimeoutError):
            failpoints.pause("mark.before").wait(0.2)       # nobody gets there
        running.release()
        stuck.result(PATIENCE)
        heap.collect()
        assert capfd.readouterr().err == ""
        assert heap.stats().slow_safepoints == 0


def test_a_name_cannot_forge_lines(capfd):
    heard = Heard(capfd)
    with (gcheap.Heap("4MiB", safepoint_warning_ms=5) as heap,
          MutatorThread(heap, "a\nb\x1b[31m\x7fé") as other,
          failpoints.pause("mutator.running") as running):
        stuck = other.start(stay)
        running.wait()
        heap.collect(wait=False)
        wait_until(heard.lines, "a warning")
        running.release()
        stuck.result(PATIENCE)
        heap.collect()
        assert {name for _, _, name, _ in heard.lines()} == {"a?b?[31m?é"}


@pytest.mark.parametrize("stderr", ["a full pipe", "closed"])
def test_a_standard_error_that_takes_nothing_holds_no_pause(stderr):
    """The line is lost; the pause, and with it every mutator, is not."""
    assert run_cleanly("""
        import os, sys, threading
        from support import wait_until
        import gcheap
        from gcheap import failpoints
        from gcheap.core import _testing
        kept = os.dup(2)
        if sys.argv[1] == "closed":
            os.close(2)
        else:
            unread, full = os.pipe()
            os.set_blocking(full, False)
            try:
                while True:
                    os.write(full, b"x" * 4096)
            except BlockingIOError:
                pass
            os.set_blocking(full, True)
            os.dup2(full, 2)
        with gcheap.Heap("4MiB", safepoint_warning_ms=1) as heap, \\
                failpoints.pause("mutator.running") as running:
            native = []
            def run():
                with heap.attach() as m:
                    native.append(m.native())
                    _testing.stay_running(m.native())
            thread = threading.Thread(target=run)
            thread.start()
            running.wait()
            heap.collect(wait=False)
            wait_until(lambda: _testing.slow_safepoints(native[0]), "a warning that is due")
            running.release()
            thread.join()
            heap.collect()
            assert heap.stats().slow_safepoints >= 1
        os.dup2(kept, 2)
        print("went on")
    """, arguments=(stderr,)) == "went on\n"


@pytest.mark.parametrize("value", [-1, 86_400_001, "soon", 1.5, True])
def test_values_that_are_refused(value):
    with pytest.raises(gcheap.OptionError, match="safepoint_warning_ms"):
        gcheap.Heap("1MiB", safepoint_warning_ms=value)


def test_the_environment_sets_it():
    assert run_cleanly("""
        import gcheap
        gcheap.Heap("1MiB").close()
    """, env={"GCHEAP_SAFEPOINT_WARNING_MS": "0"}) == ""
    assert "GCHEAP_SAFEPOINT_WARNING_MS" not in os.environ
