"""An ordinary user gets the whole product: a heap under `move`, with faults served.

The suite may run as root; then the script gives its privileges up for good before it makes a
heap.  It does so after its imports, because nobody may not be allowed to read this tree.
"""
from __future__ import annotations

import os

import pytest
from support import ROOT, kernel_offers, run_cleanly

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="not root: the whole suite runs as an ordinary user already")

SCRIPT = """
    import os, sys
    sys.path.insert(0, sys.argv[1])
    from support import check_interleaved, interleaved, node_shape
    import gcheap
    from gcheap import failpoints
    NOBODY = 65534
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    with open("/proc/self/status") as status:
        assert "CapEff:\\t0000000000000000\\n" in status.readlines()
    with gcheap.Heap("8MiB", backend=sys.argv[2]) as heap, heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), 10_000)
        if heap.backend != "stw":
            with failpoints.pause("flip.after") as point:
                heap.collect(wait=False)
                point.wait()
                assert check_interleaved(nodes, range(9_999, -1, -1)) == 10_000
            assert heap.stats().faults > 0
        heap.collect()
        assert check_interleaved(nodes) == 10_000
        print(heap.backend)
"""


@pytest.mark.parametrize("backend", ["auto", "move", "copy", "stw"])
def test_an_ordinary_user_gets_what_root_gets(backend):
    best = next(b for b in ("move", "copy", "stw") if kernel_offers(b) is None)
    if backend != "auto" and kernel_offers(backend) is not None:
        pytest.skip(f"no backend {backend} here: {kernel_offers(backend)}")
    out = run_cleanly(SCRIPT, arguments=(str(ROOT / "tests"), backend))
    assert out == f"{best if backend == 'auto' else backend}\n"
