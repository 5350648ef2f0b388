"""SIGBUS is shared with the rest of the process: others' faults go to others' handlers.

Everything here changes process-wide signal state or dies of a signal, so it runs in fresh
interpreters.
"""
from __future__ import annotations

import signal
import textwrap

import pytest
from support import ROOT, kernel_offers, run_cleanly, run_python

PRELUDE = f"""
import ctypes, faulthandler, mmap, os, signal, sys, tempfile
sys.path.insert(0, {str(ROOT / "tests")!r})
from support import check_interleaved, interleaved, node_shape
import gcheap
from gcheap import failpoints
libc = ctypes.CDLL(None)

def break_a_mapping():
    "Touches a page beyond the end of its file: a SIGBUS that is no business of a heap."
    with tempfile.TemporaryFile() as f:
        f.truncate(mmap.PAGESIZE)
        window = mmap.mmap(f.fileno(), mmap.PAGESIZE)
        f.truncate(0)
        window[0]

def heap_at_work(m):
    "A walk that needs our own handler, with the compactor held."
    nodes = interleaved(m, node_shape(heap), 5000)
    before = heap.stats().faults
    with failpoints.pause("flip.after") as point:
        heap.collect(wait=False)
        point.wait()
        assert check_interleaved(nodes) == 5000
    heap.collect()
    assert heap.stats().faults > before
    return nodes
"""

pytestmark = pytest.mark.skipif(kernel_offers("copy") is not None,
                                reason=f"no SIGBUS mode: {kernel_offers('copy')}")


def script(body: str) -> str:
    return PRELUDE + textwrap.dedent(body)


def test_without_an_earlier_handler_the_process_dies_of_sigbus():
    done = run_python(script("""
        heap = gcheap.Heap("4MiB")
        with heap.attach() as m:
            heap_at_work(m)
            print("worked", flush=True)
            break_a_mapping()
            print("not reached", flush=True)
    """))
    assert done.stdout == "worked\n"
    assert done.returncode == -signal.SIGBUS


def test_an_earlier_faulthandler_reports_a_foreign_sigbus():
    done = run_python(script("""
        faulthandler.enable()
        heap = gcheap.Heap("4MiB")
        with heap.attach() as m:
            heap_at_work(m)
            break_a_mapping()
    """))
    assert done.returncode == -signal.SIGBUS
    assert "Bus error" in done.stderr and "break_a_mapping" in done.stderr


@pytest.mark.parametrize("form", ["signal", "sigaction"])
def test_an_earlier_handler_of_c_code_gets_a_foreign_sigbus(form):
    done = run_python(script(f"""
        form = {form!r}
        if form == "signal":
            @ctypes.CFUNCTYPE(None, ctypes.c_int)
            def earlier(number):
                os.write(1, b"earlier %d" % number)
                os._exit(42)
            libc.signal(signal.SIGBUS, earlier)
        else:
            @ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
            def earlier(number, info, context):
                address = ctypes.cast(info + 16, ctypes.POINTER(ctypes.c_uint64))[0]
                os.write(1, b"earlier %d" % number)
                os._exit(42 if address else 43)
            class Action(ctypes.Structure):
                _fields_ = [("handler", ctypes.c_void_p), ("mask", ctypes.c_ulong * 16),
                            ("flags", ctypes.c_int), ("restorer", ctypes.c_void_p)]
            SA_SIGINFO = 4
            action = Action(ctypes.cast(earlier, ctypes.c_void_p), flags=SA_SIGINFO)
            assert libc.sigaction(signal.SIGBUS, ctypes.byref(action), None) == 0
        heap = gcheap.Heap("4MiB")
        with heap.attach() as m:
            heap_at_work(m)
            break_a_mapping()
    """))
    assert done.stdout == f"earlier {int(signal.SIGBUS)}", done
    assert done.returncode == 42


def test_a_foreign_sigbus_of_a_thread_that_is_not_attached():
    done = run_python(script("""
        import threading
        faulthandler.enable()
        heap = gcheap.Heap("4MiB")
        thread = threading.Thread(target=break_a_mapping)
        thread.start()
        thread.join()
    """))
    assert done.returncode == -signal.SIGBUS
    assert "Bus error" in done.stderr and "break_a_mapping" in done.stderr


REPLACEMENTS = {                # (before the heap is made, while it is at work)
    "faulthandler enabled": ("pass", "faulthandler.enable()"),
    "faulthandler disabled": ("faulthandler.enable()", "faulthandler.disable()"),
    "default action": ("pass", "libc.signal(signal.SIGBUS, 0)"),
}


@pytest.mark.parametrize(("before", "change"), REPLACEMENTS.values(), ids=REPLACEMENTS)
def test_a_handler_that_was_replaced_is_put_back(before, change):
    assert run_cleanly(script(f"""
        {before}
        heap = gcheap.Heap("4MiB")
        with heap.attach() as m:
            heap_at_work(m)
            assert heap.stats().handler_reinstalls == 0
            {change}
            heap_at_work(m)
            assert heap.stats().handler_reinstalls > 0
            print("survived")
    """)) == "survived\n"


def test_the_faulthandler_that_replaced_ours_is_chained():
    done = run_python(script("""
        heap = gcheap.Heap("4MiB")
        with heap.attach() as m:
            faulthandler.enable()
            heap_at_work(m)
            assert heap.stats().handler_reinstalls > 0
            break_a_mapping()
    """))
    assert done.returncode == -signal.SIGBUS
    assert "Bus error" in done.stderr and "break_a_mapping" in done.stderr, done.stderr


def test_attaching_unblocks_sigbus():
    """A thread that faults with SIGBUS blocked is killed by the kernel."""
    assert run_cleanly(script("""
        heap = gcheap.Heap("4MiB")
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGBUS])
        with heap.attach() as m:
            heap_at_work(m)
            print("survived")
    """)) == "survived\n"


def test_the_heap_works_after_others_were_closed():
    assert run_cleanly(script("""
        first = gcheap.Heap("4MiB")
        heap = gcheap.Heap("4MiB")
        third = gcheap.Heap("4MiB")
        first.close()
        with heap.attach() as m:
            heap_at_work(m)
            third.close()
            heap_at_work(m)
            print("survived")
    """)) == "survived\n"
