"""Fuzzing the arguments of `gcheap.userfaultfd`: what they mean is done, or one documented error.

Addresses are those of the test's own memory, near them, or nonsense that nothing is mapped at.
"""
from __future__ import annotations

import mmap
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fuzz.anything import ANYTHING, Index
from gcheap.userfaultfd import (
    CopyMode,
    Features,
    MoveMode,
    RegisterMode,
    UffdError,
    Userfaultfd,
    ZeropageMode,
    address_of,
    read_memory,
    write_memory,
)

PAGE = mmap.PAGESIZE
PAGES = 8
HUGE = 10**400
ERRORS = (UffdError, TypeError, ValueError, OverflowError, BufferError)


def new_memory() -> mmap.mmap:
    return mmap.mmap(-1, PAGES * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


# A place in memory: whose, from which byte, and how it is named.
PLACES = st.tuples(st.sampled_from(["registered", "source"]),
                   st.one_of(st.integers(0, PAGES).map(PAGE.__mul__), st.integers(0, PAGES * PAGE)),
                   st.sampled_from(["address", "numpy", "view", "array", "index", "readonly"]))
NOWHERE = st.one_of(st.sampled_from([0, 1, PAGE, -1, 2**64 - PAGE, 2**64, HUGE, 2**63]),
                    st.sampled_from([None, "text", 1.5, [], b"", b"bytes"]))
LENGTHS = st.one_of(
    st.integers(-1, PAGES + 1).map(PAGE.__mul__), st.integers(-5, 3 * PAGE),
    st.sampled_from([2**63, 2**64 - PAGE, 2**64, HUGE, None, 1.0, "1", np.int64(PAGE),
                     Index(PAGE), True]))
MODES = st.one_of(
    st.integers(-1, 5), st.sampled_from([2**63, 2**64, HUGE, None, "x", 1.0, CopyMode.DONTWAKE,
                                         MoveMode.ALLOW_SRC_HOLES, ZeropageMode.DONTWAKE,
                                         RegisterMode.MISSING, RegisterMode.WP]))


class Ground:
    def __init__(self) -> None:
        self.memory = {"registered": new_memory(), "source": new_memory()}

    def place(self, place: Any) -> Any:
        if not isinstance(place, tuple):
            return place
        whose, offset, how = place
        memory = self.memory[whose]
        address = address_of(memory) + offset
        if how in ("address", "numpy", "index"):
            return {"address": address, "numpy": np.uint64(address), "index": Index(address)}[how]
        view = memoryview(memory)[offset:]
        if how == "readonly":
            return view.toreadonly()
        return np.frombuffer(view, "u1") if how == "array" else view


@settings(max_examples=400)
@example("copy", ("registered", 0, "address"), ("source", 0, "view"), PAGE, 0)
@example("move", ("registered", 0, "array"), ("source", 0, "numpy"), 2 * PAGE, 0)
@example("zeropage", ("registered", PAGE, "view"), None, PAGE, 0)
@given(st.sampled_from(["copy", "move", "move_all", "zeropage", "writeprotect", "continue_",
                        "poison", "wake", "unregister", "register"]),
       st.one_of(PLACES, NOWHERE), st.one_of(PLACES, NOWHERE), LENGTHS, MODES)
def test_a_call_with_any_arguments(name, dst, src, length, mode):
    """It does all that was asked and says so, or raises; memory outside of it stays as it was."""
    ground = Ground()
    for key, memory in ground.memory.items():
        if key == "source":
            memory[:] = bytes(range(256)) * (PAGES * PAGE // 256)
    other = ground.memory["source"][:]
    with Userfaultfd() as uffd:
        uffd.register(ground.memory["registered"])
        arguments = [ground.place(dst), ground.place(src), length, mode]
        if name not in ("copy", "move", "move_all"):
            del arguments[1]
        if name in ("unregister", "wake"):
            del arguments[-1]
        if name == "move_all":
            arguments[-1] = mode
        try:
            done = getattr(uffd, name)(*arguments)
        except ERRORS as error:
            assert str(error) and "\n" not in str(error)
            return
        finally:
            del arguments
        if name in ("copy", "move", "zeropage"):
            assert done == int(length) and done % PAGE == 0
            # A source within the registered range would be missing itself.
            if name == "copy" and isinstance(src, tuple) and src[0] == "source":
                at = ground.place(dst) if not isinstance(dst, tuple) else (
                    address_of(ground.memory["registered"]) + dst[1])
                assert read_memory(at, done) == other[src[1]:src[1] + done]
        if name != "move" and name != "move_all" and not (
                isinstance(dst, tuple) and dst[0] == "source"):
            assert ground.memory["source"][:] == other


@settings(max_examples=200)
@given(st.sampled_from([
           lambda: b"0123456789", lambda: bytearray(10), lambda: memoryview(bytearray(10)),
           lambda: np.zeros(10, "u1"), lambda: np.zeros((2, 5), "u1"),
           lambda: np.zeros(20, "u1")[::2], lambda: None, lambda: "text", lambda: 1.5,
           lambda: HUGE]),
       st.one_of(LENGTHS.filter(lambda n: n is not True), st.integers(-2, 12)))
def test_reading_and_writing_buffers(make, length):
    """Never beyond a buffer's end."""
    buffer = make()
    try:
        found = read_memory(buffer, length)
    except ERRORS as error:
        assert str(error)
    else:
        assert len(found) == length.__index__() <= 10
        assert found == memoryview(buffer).tobytes()[:len(found)]
    try:
        write_memory(buffer, b"x" * length)
    except (*ERRORS, MemoryError) as error:
        assert str(error) or isinstance(error, MemoryError)
    else:
        assert memoryview(buffer).tobytes()[:len(b"x" * length)] == b"x" * length


@settings(max_examples=100)
@given(st.one_of(ANYTHING, st.sampled_from(list(Features))), st.one_of(st.none(), st.booleans()),
       st.sampled_from([None, None, "/dev/null", "/nowhere", "", "\0", 5, b"/dev/null"]))
def test_opening_with_any_arguments(features, restricted, path):
    try:
        uffd = Userfaultfd(features, restricted, path)
    except (*ERRORS, OSError) as error:
        assert str(error)
    else:
        uffd.close()
        with pytest.raises(ValueError):
            uffd.fileno()


@settings(max_examples=100)
@given(st.one_of(st.integers(-2, 70), ANYTHING),
       st.sampled_from([0, 0.0, -1, 0.001, "1", "x", [], 1j, float("nan")]))
def test_reading_events_with_any_arguments(most, timeout):
    with Userfaultfd() as uffd:
        try:
            assert uffd.read_events(most, timeout) == []
        except ERRORS as error:
            assert str(error)
