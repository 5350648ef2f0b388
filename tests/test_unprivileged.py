"""An ordinary user gets the whole product: a heap under `move`, with faults served.

The suite may run as root; then the script gives its privileges up for good before it makes a
heap.  It does so after its imports, because nobody may not be allowed to read this tree.
"""
from __future__ import annotations

import errno
import os

import pytest
from support import ROOT, kernel_offers, run_cleanly, run_python

AS_ROOT = pytest.mark.skipif(
    os.geteuid() != 0, reason="not root: the whole suite runs as an ordinary user already")

BECOME_NOBODY = """
    NOBODY = 65534
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
"""
# Nothing is left that a program could be given or could ask for.
GIVE_UP_EVERYTHING = """
    libc = ctypes.CDLL(None, use_errno=True)
    PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 23, 24, 38
    for capability in range(64):
        if libc.prctl(PR_CAPBSET_READ, capability, 0, 0, 0) == 1:
            assert libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
""" + BECOME_NOBODY + """
    left = {line.split()[0]: line.split()[1] for line in open("/proc/self/status")
            if line.startswith(("Cap", "NoNew"))}
    assert left.pop("NoNewPrivs:") == "1" and set(left.values()) == {"0" * 16}, left
"""
USE = """
    with open("/proc/self/status") as status:
        assert "CapEff:\\t0000000000000000\\n" in status.readlines()
    with gcheap.Heap("8MiB", backend=sys.argv[2], faults=sys.argv[3]) as heap, heap.attach() as m:
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
IMPORTS = """
    import ctypes, os, sys
    sys.path.insert(0, sys.argv[1])
    from support import check_interleaved, interleaved, node_shape
    import gcheap
    gcheap.Records                  # and numpy, before the tree cannot be read
    from gcheap import failpoints
"""


@AS_ROOT
@pytest.mark.parametrize("without", [BECOME_NOBODY, GIVE_UP_EVERYTHING],
                         ids=["nobody", "no new privileges"])
@pytest.mark.parametrize("faults", ["sigbus", "handler"])
@pytest.mark.parametrize("backend", ["auto", "move", "copy", "stw"])
def test_an_ordinary_user_gets_what_root_gets(backend, faults, without):
    best = next(b for b in ("move", "copy", "stw") if kernel_offers(b) is None)
    if backend != "auto" and kernel_offers(backend) is not None:
        pytest.skip(f"no backend {backend} here: {kernel_offers(backend)}")
    out = run_cleanly(IMPORTS + without + USE,
                      arguments=(str(ROOT / "tests"), backend, faults))
    assert out == f"{best if backend == 'auto' else backend}\n"


# A filter as containers have it: userfaultfd(2) answers with an errno, and the device with EACCES.
REFUSED = """
    import ctypes, os, struct, sys
    import gcheap
    gcheap.Records                  # and numpy, before the tree cannot be read
    number = {"x86_64": 323, "aarch64": 282}[os.uname().machine]
    if os.geteuid() == 0:
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
    if os.access("/dev/userfaultfd", os.R_OK | os.W_OK):
        sys.exit(77)
    code = b"".join(struct.pack("HBBI", *line) for line in (
        (0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x50000 | int(sys.argv[1])),
        (0x06, 0, 0, 0x7FFF0000)))
    kept = ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxP", 4, ctypes.addressof(kept))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.c_char_p(program)):
        sys.exit(77)
    with gcheap.Heap("4MiB") as heap, heap.attach() as m:
        kept = [(m.new_slots(3), m.new_bytes(b"x" * i)) for i in range(2000)]
        del kept[::2]
        heap.collect()
        assert [len(data) for _, data in kept] == list(range(1, 2000, 2))
        print(heap.backend, heap.fault_mode, heap.stats().relocations, heap.why, sep="|")
    try:
        gcheap.Heap("4MiB", backend=sys.argv[2])
    except gcheap.OptionError as error:
        print(error)
"""


@pytest.mark.parametrize("wanted", ["move", "copy"])
@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS])
def test_where_userfaultfd_is_refused_a_heap_stops_the_world_and_says_so(number, wanted):
    done = run_python(REFUSED, arguments=(str(number), wanted))
    if done.returncode == 77:
        pytest.skip("no seccomp filter can be installed here, or anybody may open the device")
    assert (done.returncode, done.stderr) == (0, "")
    taken, refused = done.stdout.splitlines()
    backend, mode, relocations, why = taken.split("|")
    assert (backend, mode, relocations) == ("stw", "none", "1")
    for said in (why, refused):
        assert "userfaultfd(2) answers" in said and os.strerror(number) in said
    assert "inside a pause" in why and f"backend={wanted!r} is not available" in refused
