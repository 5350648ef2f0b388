"""I4: what runs on a faulting thread allocates nothing, takes no lock and no GIL, and keeps errno.

A library that is preloaded (forbidden_calls.c) wraps the SIGBUS handler and ends the process when
anything of that is called in it.
"""
from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from support import kernel_offers, run_cleanly, run_python

pytestmark = pytest.mark.uninstrumented("sanitizers wrap the same calls")

SOURCE = Path(__file__).resolve().parent / "forbidden_calls.c"
PRELUDE = """
import ctypes, errno
from contextlib import nullcontext
import gcheap
from gcheap import failpoints
from support import check_interleaved, interleaved, node_shape, touch_holes
guard = ctypes.CDLL(None)
guard.handled.restype = ctypes.c_long
"""


@pytest.fixture(scope="module")
def preloaded(tmp_path_factory) -> dict[str, str]:
    library = tmp_path_factory.mktemp("preloaded") / "forbidden_calls.so"
    compiler = shlex.split(os.environ.get("CC", "cc"))
    subprocess.run([*compiler, "-shared", "-fPIC", "-O1", "-fno-builtin", "-Wall", "-Werror",
                    str(SOURCE), "-o", str(library), "-ldl", "-pthread"], check=True)
    return {"LD_PRELOAD": str(library)}


@pytest.mark.parametrize(("how", "what"), [
    ("allocates", "malloc"), ("locks", "pthread_mutex_lock"),
    ("takes_the_gil", "PyGILState_Ensure"), ("changes_errno", "errno")])
def test_a_handler_that_breaks_the_rule_is_seen(how, what, preloaded):
    done = run_python(f"import ctypes; ctypes.CDLL(None).handle_by({how.encode()})", env=preloaded)
    assert (done.returncode, done.stderr) == (97, f"on a faulting thread: {what}\n")


def test_a_handler_that_keeps_it_goes_on(preloaded):
    run_cleanly("import ctypes; ctypes.CDLL(None).handle_by(b'keeps_it')", env=preloaded)


# What happens to the ioctls of mutators meanwhile: nothing, a refusal, no memory, somebody's page.
TROUBLE = {
    "none": "nullcontext()",
    "short": "failpoints.short('mutator.{backend}', pages=1, times=20)",
    "again": "failpoints.fail('mutator.{backend}', errno.EAGAIN, times=50)",
    "memory": "failpoints.fail('mutator.{backend}', errno.ENOMEM, times=20)",
    "stray": "failpoints.fail('mutator.{backend}', errno.EEXIST, times=1)",
    "busy": "failpoints.fail('mutator.{backend}', errno.EBUSY, times=None)",
}


@pytest.mark.parametrize(("backend", "trouble", "verify"), [
    *((backend, trouble, 0) for backend in ("move", "copy") for trouble in TROUBLE
      if (backend, trouble) != ("copy", "busy")),             # fatal: nobody else's memory is read
    ("move", "none", 3), ("copy", "none", 3)])
def test_a_faulting_thread_calls_nothing_that_is_forbidden(backend, trouble, verify, preloaded,
                                                           tmp_path):
    if reason := kernel_offers(backend):
        pytest.skip(f"no backend {backend} here: {reason}")
    said = run_cleanly(PRELUDE + f"""
heap = gcheap.Heap("32MiB", backend={backend!r}, faults="sigbus", verify={verify}, unit_pages=4)
with heap.attach() as m, heap.trace({str(tmp_path / "t.json")!r}):
    nodes = interleaved(m, node_shape(heap), 5000)
    large = [m.new_slots(40_000) for _ in range(3)]
    for round in range(3):
        with failpoints.pause("flip.after", times=1) as point:
            heap.collect(wait=False)
            point.wait()
            with {TROUBLE[trouble].format(backend=backend)} as trouble:
                assert check_interleaved(nodes, range(round, 5000, 3)) > 1000
                assert not any(array[i] for array in large for i in range(0, 40_000, 512))
                assert trouble is None or trouble.hits > 0
        heap.collect()
        assert check_interleaved(nodes) == 5000
    touch_holes(heap, m)
    faults = heap.stats().faults
heap.close()
assert guard.handled() >= faults > 0, (guard.handled(), faults)
print("well")
""", env=preloaded)
    assert said == "well\n"
