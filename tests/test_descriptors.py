"""The userfaultfd of a heap is its process's alone: its ioctls act on the memory of whoever made
it, so no program that is executed, and no forked child, may have it."""
from __future__ import annotations

import os
import subprocess

import pytest
from support import Child, descriptors_of_userfaultfd, interleaved, node_shape, run_python

import gcheap
from gcheap import failpoints, userfaultfd

LIST = "for fd in /proc/self/fd/*; do readlink $fd; done; true"


def open_descriptors() -> set[int]:
    listed = {int(fd) for fd in os.listdir("/proc/self/fd")}
    return {fd for fd in listed if is_open(fd)}


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:                                         # listdir's own
        return False
    return True


@pytest.fixture
def before() -> set[int]:
    return open_descriptors()


@pytest.fixture
def busy_heap(before, make_concurrent_heap):
    """A heap in the middle of a relocation, with whatever descriptors it then has."""
    heap = make_concurrent_heap()
    with heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), 2000)
        with failpoints.pause("flip.after", times=1) as flip:
            heap.collect(wait=False)
            flip.wait()
            yield heap
            flip.release()
        heap.collect()
        assert nodes[5].key == 5


def close_on_exec(fd: int) -> bool:
    with open(f"/proc/self/fdinfo/{fd}") as info:
        flags = next(line for line in info if line.startswith("flags:"))
    return bool(int(flags.split()[1], 8) & os.O_CLOEXEC)


def test_every_descriptor_of_a_heap_is_close_on_exec(busy_heap, before):
    found = open_descriptors() - before
    assert set(map(int, descriptors_of_userfaultfd())) & found
    for fd in found:
        assert close_on_exec(fd) and not os.get_inheritable(fd)


def test_so_are_those_of_the_binding(before):
    with userfaultfd.Userfaultfd() as uffd:
        found = open_descriptors() - before
        assert uffd.fileno() in found
        assert all(close_on_exec(fd) for fd in found)


def spawned(write: int) -> None:
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", LIST], os.environ,
                         file_actions=[(os.POSIX_SPAWN_DUP2, write, 1)])
    assert os.waitpid(pid, 0)[1] == 0


def ran(write: int, **options) -> None:
    subprocess.run(["sh", "-c", LIST], stdout=write, check=True, close_fds=False, **options)


def executed(write: int) -> None:
    def child():
        os.dup2(write, 1, inheritable=True)
        os.execv("/bin/sh", ["sh", "-c", LIST])

    Child(child).join()


WAYS = {
    "subprocess": ran,
    "fork and exec": executed,
    "subprocess that forks": lambda write: ran(write, preexec_fn=lambda: None),
    "posix_spawn": spawned,
    "system": lambda write: os.system(f"({LIST}) >/proc/{os.getpid()}/fd/{write}"),
}


@pytest.mark.uninstrumented("a shell does not run with it preloaded", only="thread")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.sigbus_only("a fork waits for the relocation, which is held; see the other mode idle")
def test_no_program_that_is_executed_has_it(make_concurrent_heap, way):
    heap = make_concurrent_heap()
    with heap.attach():
        heap.collect()
        assert descriptors_of_userfaultfd()
        read, write = os.pipe()
        os.set_inheritable(write, False)
        WAYS[way](write)
        os.close(write)
        with open(read) as pipe:
            listed = pipe.read()
    assert "/" in listed and "userfaultfd" not in listed and "eventfd" not in listed


@pytest.mark.uninstrumented("a shell does not run with it preloaded", only="thread")
def test_the_mode_handler_leaves_no_program_its_bell():
    with gcheap.Heap("4MiB", backend="copy", faults="handler") as heap:
        heap.collect()
        listed = subprocess.run(["sh", "-c", LIST], capture_output=True, text=True, check=True,
                                close_fds=False).stdout
    assert "userfaultfd" not in listed and "eventfd" not in listed


def test_a_forked_child_has_it_closed_before_it_runs_a_line(concurrent):
    """Also of heaps that are not the child's, and before any handler of Python's."""
    done = run_python("""
        import os, sys
        def listed(when):
            names = []
            for fd in os.listdir("/proc/self/fd"):
                try:
                    names.append(os.readlink(f"/proc/self/fd/{fd}"))
                except OSError:
                    pass
            print(when, sum("userfaultfd" in name for name in names), flush=True)
        # Registered first, so run before gcheap's own.
        os.register_at_fork(after_in_child=lambda: listed("handler"))
        import gcheap
        options = {"backend": sys.argv[1], "faults": sys.argv[2]}
        with gcheap.Heap("4MiB", **options) as one, \\
                gcheap.Heap("4MiB", fork="none", **options) as two:
            listed("parent")
            if os.fork() == 0:
                listed("child")
                one.collect()
                listed("child's own")
                os._exit(0)
            os.wait()
            listed("parent")
            one.collect()
            two.collect()
    """, arguments=(concurrent["backend"], concurrent["faults"]))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "parent 2", "handler 0", "child 0", "child's own 1", "parent 2"]
