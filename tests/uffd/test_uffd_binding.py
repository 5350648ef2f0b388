"""The binding itself: opening, flags, buffers, errors, threads, closing, forking, typing."""
from __future__ import annotations

import asyncio
import gc
import importlib.util
import mmap
import os
import pickle
import select
import subprocess
import sys
import warnings
from errno import EACCES, EBADF, EBUSY, EEXIST, EINVAL, ENOENT, ENOTTY, EPERM
from pathlib import Path

import numpy as np
import pytest
from support import PATIENCE, wait_until
from uffd_support import (
    PAGE,
    Child,
    Worker,
    advise,
    content,
    one_event,
    page_of,
    present,
    reader,
    run_python,
    wait_readable,
)

import gcheap
import gcheap.userfaultfd
from gcheap.errors import GcheapError
from gcheap.userfaultfd import (
    CopyMode,
    Features,
    Ioctls,
    MissingFeatures,
    MoveMode,
    RegisterMode,
    UffdError,
    Userfaultfd,
    address_of,
    read_memory,
    write_memory,
)

PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS


@pytest.fixture
def memory():
    """Four pages as an mmap object."""
    return mmap.mmap(-1, 4 * PAGE, flags=PRIVATE)


# -- opening -------------------------------------------------------------------------------

def test_a_descriptor_is_non_blocking_and_not_inherited_by_programs(uffd):
    assert uffd.fileno() >= 0 and not uffd.closed
    assert not os.get_blocking(uffd.fileno())
    assert not os.get_inheritable(uffd.fileno())
    assert uffd.read_events() == []
    assert uffd.opened_by in ("syscall", "device")
    assert Ioctls.REGISTER | Ioctls.UNREGISTER | Ioctls.API in uffd.ioctls


def test_features_are_negotiated_and_reported(make_uffd):
    supported = make_uffd().supported
    uffd = make_uffd(supported & Features.SIGBUS)
    assert uffd.features == supported & Features.SIGBUS
    assert uffd.supported == supported
    assert make_uffd((supported & Features.SIGBUS).value).features == uffd.features


def test_features_that_the_kernel_lacks_raise_with_both_lists(uffd):
    unknown = Features(1 << 62)
    wanted = uffd.supported & Features.SIGBUS | unknown
    with pytest.raises(MissingFeatures) as caught:
        Userfaultfd(wanted)
    error = caught.value
    assert isinstance(error, UffdError) and isinstance(error, OSError)
    assert error.errno == EINVAL
    assert (error.requested, error.missing, error.available) == (wanted, unknown, uffd.supported)
    assert hex(1 << 62) in str(error) and "SIGBUS" in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert (again.missing, str(again)) == (error.missing, str(error))


def test_a_path_is_opened_in_place_of_the_system_call(tmp_path):
    try:
        with Userfaultfd(path="/dev/userfaultfd") as uffd:
            assert uffd.opened_by == "device"
    except UffdError as error:
        assert error.errno in (ENOENT, EACCES, EPERM)
        assert "device" in str(error)
    with pytest.raises(UffdError) as refusal:
        Userfaultfd(path=tmp_path / "nothing")
    assert refusal.value.errno == ENOENT
    with pytest.raises(UffdError) as refusal:
        Userfaultfd(path="/dev/null")
    assert refusal.value.errno == ENOTTY


def test_the_device_is_tried_after_the_system_call_and_user_mode_last(monkeypatch):
    from gcheap.userfaultfd import opening
    tried = []

    def refuse(how):
        def way(*arguments):
            tried.append((how, arguments[-1]))
            return -EPERM
        return way
    monkeypatch.setattr(opening._ioctls, "open_syscall", refuse("syscall"))
    monkeypatch.setattr(opening, "_open_device", refuse("device"))
    with pytest.raises(UffdError) as refusal:
        Userfaultfd()
    assert refusal.value.errno == EPERM and "seccomp" in str(refusal.value)
    assert tried == [("syscall", False), ("device", False), ("syscall", True), ("device", True)]
    tried.clear()
    with pytest.raises(UffdError):
        Userfaultfd(user_mode_only=True)
    assert tried == [("syscall", True), ("device", True)]


# -- arguments -----------------------------------------------------------------------------

def test_addresses_and_buffers_mean_the_same(uffd, memory):
    start = address_of(memory)
    uffd.register(memory)
    assert uffd.copy(memory, page_of(1), PAGE) == PAGE
    assert uffd.copy(start + PAGE, page_of(2), PAGE) == PAGE
    assert uffd.copy(memoryview(memory)[2 * PAGE:], np.full(PAGE, 3, "u1"), PAGE) == PAGE
    assert uffd.zeropage(np.int64(start + 3 * PAGE), PAGE) == PAGE
    assert memory[:] == page_of(1) + page_of(2) + page_of(3) + bytes(PAGE)
    assert read_memory(memory, 2) == b"\1\1"
    write_memory(memory, b"hi")
    assert memory[:3] == b"hi\1"


def test_a_numpy_array_is_memory_too(mover):
    base = np.frombuffer(mmap.mmap(-1, 4 * PAGE, flags=PRIVATE), "u8")
    mover.register(base)
    source = np.frombuffer(mmap.mmap(-1, PAGE, flags=PRIVATE), "u8")
    source[:] = 7
    assert mover.move(base, source, PAGE) == PAGE
    assert (base[:PAGE // 8] == 7).all()


def test_buffers_that_are_too_short_read_only_or_none_are_python_errors(uffd, memory):
    uffd.register(memory)
    with pytest.raises(ValueError, match="has 4 bytes"):
        uffd.copy(memory, b"four", PAGE)
    with pytest.raises(ValueError, match=f"has {4 * PAGE} bytes"):
        uffd.zeropage(memory, 5 * PAGE)
    with pytest.raises(TypeError, match="read-only"):
        uffd.zeropage(bytes(PAGE), PAGE)
    with pytest.raises(TypeError, match="read-only"):
        uffd.register(bytes(PAGE))
    for nonsense in (None, 1.5, "text"):
        with pytest.raises(TypeError):
            uffd.zeropage(nonsense, PAGE)
    with pytest.raises(TypeError, match="length"):
        uffd.register(address_of(memory))
    for address, length in ((-1, PAGE), (1 << 64, PAGE), (0, -PAGE), (0, 1 << 64)):
        with pytest.raises(ValueError, match="64-bit"):
            uffd.zeropage(address, length)
    with pytest.raises(ValueError, match="the buffer has"):
        read_memory(memory, 5 * PAGE)
    with pytest.raises(BufferError):
        write_memory(bytes(2), b"xy")
    with pytest.raises(ValueError, match="max_events"):
        uffd.read_events(0)


def test_flags_of_another_ioctl_are_a_type_error(mover, scratch):
    """MoveMode.ALLOW_SRC_HOLES and CopyMode.WP are the same bit."""
    start = scratch.map(PAGE)
    mover.register(start, PAGE)
    with pytest.raises(TypeError, match="CopyMode"):
        mover.copy(start, page_of(1), PAGE, MoveMode.ALLOW_SRC_HOLES)
    with pytest.raises(TypeError, match="MoveMode"):
        mover.move(start, start, PAGE, CopyMode.DONTWAKE)
    with pytest.raises(TypeError, match="Features"):
        Userfaultfd(RegisterMode.MISSING)
    assert mover.copy(start, page_of(1), PAGE, int(CopyMode.DONTWAKE.value)) == PAGE


def test_registering_returns_the_ioctls_of_the_range(make_uffd, scratch):
    uffd = make_uffd(Features.MOVE)
    ioctls = uffd.register(scratch.map(PAGE), PAGE)
    assert Ioctls.COPY | Ioctls.ZEROPAGE | Ioctls.MOVE | Ioctls.WAKE in ioctls
    assert Ioctls.WRITEPROTECT not in ioctls


# -- buffers stay alive --------------------------------------------------------------------

def test_a_registered_mmap_cannot_be_closed_until_it_is_unregistered(uffd, memory):
    uffd.register(memory)
    with pytest.raises(BufferError):
        memory.close()
    uffd.unregister(memory)
    memory.close()


def test_a_buffer_lives_until_its_last_page_is_unregistered(uffd):
    memory = mmap.mmap(-1, 4 * PAGE, flags=PRIVATE)
    start = address_of(memory)
    uffd.register(memory)
    uffd.unregister(start + PAGE, PAGE)
    uffd.unregister(start + 2 * PAGE, 2 * PAGE)
    with pytest.raises(BufferError):
        memory.close()
    uffd.unregister(start, PAGE)
    memory.close()


def test_dropping_the_last_reference_keeps_a_registered_buffer_mapped(uffd):
    memory = mmap.mmap(-1, PAGE, flags=PRIVATE)
    start = address_of(memory)
    uffd.register(memory)
    del memory
    gc.collect()
    uffd.copy(start, page_of(4), PAGE)
    assert read_memory(start, 1) == b"\4"
    uffd.close()
    assert f"{start:x}-" not in Path("/proc/self/maps").read_text()


def test_a_refused_registration_keeps_nothing(uffd, memory):
    with pytest.raises(UffdError):
        uffd.register(memoryview(memory)[1:], PAGE)
    gc.collect()
    memory.close()


# -- errors --------------------------------------------------------------------------------

def test_an_error_carries_errno_progress_and_a_sentence(mover, scratch):
    src, dst = scratch.filled(2), scratch.map(3 * PAGE)
    mover.register(dst, 3 * PAGE)
    mover.zeropage(dst + PAGE, PAGE)
    with pytest.raises(OSError) as caught:
        mover.move(dst, src, 2 * PAGE)
    error = caught.value
    assert isinstance(error, UffdError) and isinstance(error, GcheapError)
    assert (error.done, error.ioctl) == (PAGE, "MOVE")
    assert f"after {PAGE} of {2 * PAGE} bytes" in str(error) and "call again" in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert (again.errno, again.done, again.ioctl, str(again)) == (
        error.errno, error.done, error.ioctl, str(error))


# -- move_all ------------------------------------------------------------------------------

def test_move_all_copies_what_is_shared_and_moves_the_rest(mover, scratch):
    src, dst = scratch.filled(8), scratch.map(8 * PAGE)
    mover.register(dst, 8 * PAGE)
    with Child():
        for i in (0, 1, 5):                         # written since: exclusive again
            write_memory(src + i * PAGE, read_memory(src + i * PAGE, 1))
        report = mover.move_all(dst, src, 8 * PAGE)
    assert read_memory(dst, 8 * PAGE) == content(1, 8)
    assert (report.moved, report.copied, report.done) == (3 * PAGE, 5 * PAGE, 8 * PAGE)
    assert report.moved_ranges == [(0, 2 * PAGE), (5 * PAGE, PAGE)]
    assert report.copied_ranges == [(2 * PAGE, 3 * PAGE), (6 * PAGE, 2 * PAGE)]
    assert [present(src + i * PAGE) for i in range(8)] == [
        i not in (0, 1, 5) for i in range(8)]


def test_move_all_without_fallback_raises_what_it_reached(mover, scratch):
    src, dst = scratch.filled(4), scratch.map(4 * PAGE)
    mover.register(dst, 4 * PAGE)
    with Child():
        write_memory(src, b"\2")
        with pytest.raises(UffdError) as caught:
            mover.move_all(dst, src, 4 * PAGE, fallback=None)
    assert (caught.value.errno, caught.value.done) == (EBUSY, PAGE)
    assert caught.value.report.moved_ranges == [(0, PAGE)]


def test_move_all_passes_holes_and_stops_at_a_mapped_page(mover, scratch):
    src, dst = scratch.map(4 * PAGE), scratch.map(4 * PAGE)
    write_memory(src + PAGE, page_of(1))
    mover.register(dst, 4 * PAGE)
    with pytest.raises(UffdError) as caught:
        mover.move_all(dst, src, 4 * PAGE)
    assert caught.value.errno == ENOENT
    mover.zeropage(dst + 3 * PAGE, PAGE)
    with pytest.raises(UffdError) as caught:
        mover.move_all(dst, src, 4 * PAGE, MoveMode.ALLOW_SRC_HOLES)
    assert (caught.value.errno, caught.value.done) == (EEXIST, 3 * PAGE)
    assert read_memory(dst + PAGE, PAGE) == page_of(1)
    with pytest.raises(ValueError, match="fallback"):
        mover.move_all(dst, src, PAGE, fallback="swap")
    with pytest.raises(UffdError) as caught:
        mover.move_all(dst, src, 0)
    assert caught.value.errno == EINVAL


def test_move_all_gives_up_on_an_event_that_its_caller_ought_to_read(make_uffd, scratch):
    uffd = make_uffd(Features.EVENT_REMOVE | Features.MOVE)
    start, src = scratch.map(2 * PAGE), scratch.filled(1)
    uffd.register(start, 2 * PAGE)
    uffd.zeropage(start, PAGE)
    drop = Worker(lambda: advise(start, PAGE, mmap.MADV_DONTNEED))
    wait_readable(uffd)
    with pytest.raises(UffdError, match="event") as caught:
        uffd.move_all(start + PAGE, src, PAGE, patience=0.0)
    assert caught.value.report.calls >= 1
    uffd.read_events()
    drop.result()
    assert uffd.move_all(start + PAGE, src, PAGE).moved == PAGE


# -- waiting -------------------------------------------------------------------------------

def test_select_and_poll_see_events(uffd, scratch):
    start = scratch.map(PAGE)
    uffd.register(start, PAGE)
    assert select.select([uffd], [], [], 0)[0] == []
    late = reader(start)
    assert select.select([uffd], [], [], PATIENCE)[0] == [uffd]
    poll = select.poll()
    poll.register(uffd)
    assert poll.poll(0) == [(uffd.fileno(), select.POLLIN)]
    uffd.read_events()
    assert poll.poll(0) == []
    uffd.zeropage(start, PAGE)
    late.result()


def test_an_asyncio_loop_serves_faults(uffd, scratch):
    start = scratch.map(8 * PAGE)
    uffd.register(start, 8 * PAGE)

    async def main() -> bytes:
        loop = asyncio.get_running_loop()

        def ready() -> None:
            for event in uffd.read_events():
                number = (event.page - start) // PAGE
                uffd.copy(event.page, page_of(number + 1), PAGE)
        loop.add_reader(uffd, ready)
        try:
            return await asyncio.wait_for(
                asyncio.to_thread(read_memory, start, 8 * PAGE), PATIENCE)
        finally:
            loop.remove_reader(uffd)

    assert asyncio.run(main()) == b"".join(page_of(i + 1) for i in range(8))


def test_serve_runs_until_it_is_stopped(uffd, scratch):
    start = scratch.map(8 * PAGE)
    uffd.register(start, 8 * PAGE)
    server = Worker(lambda: uffd.serve(lambda event: uffd.zeropage(event.page, PAGE)))
    assert Worker(lambda: read_memory(start, 8 * PAGE)).result() == bytes(8 * PAGE)
    assert not server.done
    uffd.stop()
    assert server.result() == 8
    uffd.stop()                                     # said before: ends the next one
    assert uffd.serve(print) == 0


def test_close_ends_serve_and_waiting_for_events(uffd):
    servers = [Worker(lambda: uffd.serve(print)) for _ in range(2)]
    waits = Worker(lambda: uffd.read_events(timeout=None))
    # Asleep in poll; for the lock of another Python thread they would sleep elsewhere.
    wait_until(lambda: all("poll" in thread.wchan() or thread.wchan() == "0" and thread.sleeps()
                           for thread in (*servers, waits)), "all of them wait")
    uffd.close()
    assert [server.result() for server in servers] == [0, 0]
    with pytest.raises(ValueError, match="closed"):
        waits.result()


def test_a_handler_that_raises_loses_no_fault(uffd, scratch):
    start = scratch.map(2 * PAGE)
    uffd.register(start, 2 * PAGE)
    late = [reader(start), reader(start + PAGE)]

    def fail(event):
        raise LookupError(event.page)
    with pytest.raises(LookupError):
        uffd.serve(fail)

    def serve(event):
        uffd.zeropage(event.page, PAGE)
        if present(start) and present(start + PAGE):
            uffd.stop()
    uffd.serve(serve)
    assert [thread.result() for thread in late] == [b"\0", b"\0"]


# -- threads -------------------------------------------------------------------------------

def test_a_call_that_waits_in_the_kernel_does_not_hold_the_gil(full_uffd, scratch):
    """COPY from a source that is missing itself: its fault is served by a Python thread."""
    uffd = full_uffd()
    dst, src = scratch.map(PAGE), scratch.map(PAGE)
    uffd.register(dst, PAGE)
    uffd.register(src, PAGE)
    call = Worker(lambda: uffd.copy(dst, src, PAGE))
    assert one_event(uffd).address == src
    assert not call.done
    uffd.copy(src, page_of(6), PAGE)
    assert call.result() == PAGE
    assert read_memory(dst, PAGE) == page_of(6)


def test_reading_events_does_not_hold_the_gil(uffd, scratch):
    start = scratch.map(PAGE)
    uffd.register(start, PAGE)
    wait = Worker(lambda: uffd.read_events(timeout=None))
    wait_until(wait.sleeps, "the reader of events waits")
    late = reader(start)
    event, = wait.result()
    uffd.zeropage(event.page, PAGE)
    late.result()
    assert uffd.read_events(timeout=0.001) == []


# -- closing -------------------------------------------------------------------------------

def test_after_close_everything_says_so(uffd, scratch):
    number = uffd.fileno()
    start = scratch.map(PAGE)
    uffd.close()
    uffd.close()
    assert uffd.closed and "closed" in repr(uffd)
    with pytest.raises(OSError) as caught:
        os.fstat(number)
    assert caught.value.errno == EBADF
    for call in (uffd.fileno, uffd.read_events, lambda: uffd.register(start, PAGE),
                 lambda: uffd.unregister(start, PAGE), lambda: uffd.copy(start, start, PAGE),
                 lambda: uffd.move(start, start, PAGE), lambda: uffd.zeropage(start, PAGE),
                 lambda: uffd.writeprotect(start, PAGE), lambda: uffd.continue_(start, PAGE),
                 lambda: uffd.poison(start, PAGE), lambda: uffd.wake(start, PAGE),
                 lambda: uffd.move_all(start, start, PAGE), lambda: uffd.serve(print)):
        with pytest.raises(ValueError, match="closed"):
            call()


def test_closing_lets_waiting_threads_go_on_with_zeros(uffd, scratch):
    start = scratch.map(PAGE)
    uffd.register(start, PAGE)
    late = reader(start)
    one_event(uffd)
    late.wait_blocked()
    uffd.close()
    assert late.result() == b"\0"


def test_unregistering_lets_waiting_threads_go_on_with_zeros(uffd, scratch):
    start = scratch.map(PAGE)
    uffd.register(start, PAGE)
    late = reader(start)
    one_event(uffd)
    uffd.unregister(start, PAGE)
    assert late.result() == b"\0"


def test_close_gives_the_number_back_only_after_the_last_call(full_uffd, scratch):
    """Otherwise that call could act on whatever was opened under the same number."""
    uffd, other = full_uffd(), full_uffd()
    dst, src = scratch.map(PAGE), scratch.map(PAGE)
    uffd.register(dst, PAGE)
    other.register(src, PAGE)
    call = Worker(lambda: uffd.copy(dst, src, PAGE))
    assert one_event(other).address == src          # the call is in the kernel
    number = uffd.fileno()
    uffd.close()
    os.fstat(number)
    with pytest.raises(ValueError, match="closed"):
        uffd.zeropage(dst, PAGE)
    other.copy(src, page_of(1), PAGE)
    assert call.result() == PAGE
    with pytest.raises(OSError):
        os.fstat(number)


def test_a_descriptor_that_is_dropped_warns_and_closes():
    uffd = Userfaultfd(user_mode_only=True)
    number = uffd.fileno()
    with pytest.warns(ResourceWarning, match="unclosed"):
        del uffd
        gc.collect()
    with pytest.raises(OSError):
        os.fstat(number)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Userfaultfd(user_mode_only=True):
            pass


def test_a_descriptor_cannot_be_pickled(uffd):
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(uffd)


# -- forking -------------------------------------------------------------------------------

def test_a_child_that_closes_its_copy_leaves_the_parents_alone(uffd, memory):
    uffd.register(memory)
    with Child(uffd.close):
        pass
    assert uffd.copy(memory, page_of(1), PAGE) == PAGE
    with pytest.raises(UffdError) as caught:
        uffd.copy(memory, page_of(1), PAGE)
    assert caught.value.errno == EEXIST


# -- documents -----------------------------------------------------------------------------

def test_the_example_of_the_module_runs(make_uffd):
    make_uffd()
    result = run_python(indented_block(gcheap.userfaultfd.__doc__) + "\nprint(memory[:1])")
    assert (result.returncode, result.stdout) == (0, "b'x'\n"), result.stderr


def test_the_example_of_the_reference_runs(make_uffd):
    make_uffd()
    page = Path(__file__).parents[2] / "docs" / "reference" / "userfaultfd.md"
    if not page.exists():
        pytest.skip("the documents are not beside the tests")
    result = run_python(page.read_text().split("```python\n")[1].split("```")[0])
    assert (result.returncode, result.stdout) == (0, "b'xxx'\n"), result.stderr


def indented_block(text: str) -> str:
    return "\n".join(line[4:] for line in text.splitlines() if line.startswith("    "))


# -- typing --------------------------------------------------------------------------------

def test_stubs_agree_with_the_modules(tmp_path):
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed")
    # mypy refuses to run in site-packages, and finds an installed package from anywhere.
    home = Path(gcheap.__file__).parent.parent
    configuration = tmp_path / "mypy.ini"           # its cache need not go where we stand
    configuration.write_text(f"[mypy]\ncache_dir = {tmp_path / 'cache'}\n")
    result = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "gcheap.userfaultfd",
         "--mypy-config-file", configuration],
        cwd=tmp_path if home.name.endswith("-packages") else home,
        capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
