"""Fuzzing what becomes contents: shapes, dtypes, values of fields and elements, indices, buffers.

Each is either accepted, and then reads back as what was written, or refused by a documented error;
nothing is cut or wrapped without a word.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import gcheap
from fuzz.anything import ANYTHING, HUGE, Index
from fuzz.layouts import array_bytes, rounded

REFUSALS = (TypeError, ValueError, OverflowError)
DTYPES = st.one_of(
    hnp.scalar_dtypes(), hnp.nested_dtypes(max_leaves=4, max_itemsize=64),
    hnp.array_dtypes(max_size=4, allow_subarrays=True),
    st.sampled_from(["u1", "f2", "<f4", ">f4", ">i8", "c8", "g", "S3", "U2", "V5", "M8[s]",
                     "m8[ms]", "?", "u8", "i8", "S0", "V0", "O", "T", "u1,i2", "(2,3)f4",
                     "(0,)i4"]))


@pytest.fixture(scope="module")
def heap():
    with gcheap.Heap("64MiB", verify=1) as heap:
        yield heap


@pytest.fixture(scope="module")
def m(heap):
    with heap.attach() as m:
        yield m


def says(error: BaseException) -> None:
    message = str(error)
    assert message and len(message) < 4000, message


# ---- shapes and dtypes -------------------------------------------------------------------

NAMES = st.one_of(st.text(max_size=4), st.from_regex(r"[a-c_]{1,3}", fullmatch=True),
                  st.sampled_from(["class", "__init__", "shape", "uid", "é", "ﬁ", "a b", 1, None]))
RAWS = st.one_of(DTYPES, ANYTHING, st.lists(st.tuples(NAMES, DTYPES), max_size=4), st.text(
    alphabet="iufcSUVMmO?<>=|,()0123456789{}:'[] ", max_size=12))
TAGS = st.one_of(st.none(), ANYTHING, st.tuples(st.integers(0, 2**64), st.integers(0, 2**64)),
                 st.tuples(st.sampled_from([1, 7, 0xFFFF << 48, 2**64 - 8]), st.integers(0, 8)))
MADE = iter(range(10**9))


def declare(heap: gcheap.Heap, refs: Any, raw: Any, tag: Any) -> gcheap.Shape | None:
    name = f"shape {next(MADE)}"
    try:
        shape = heap.shape(name, refs=refs, raw=raw, tag=tag)
    except gcheap.ShapeError as error:
        says(error)
        return None
    assert heap.shape(name, refs=refs, raw=raw, tag=tag) is shape
    return shape


@settings(max_examples=250)
@given(refs=st.one_of(st.lists(NAMES, max_size=3), ANYTHING), raw=RAWS, tag=TAGS)
def test_a_shape_of_any_kind(refs, raw, tag):
    with gcheap.Heap("1MiB", backend="stw") as heap, heap.attach() as m:
        shape = declare(heap, refs, raw, tag)
        if shape is None:
            return
        size = shape.raw.itemsize if shape.raw is not None else 0
        assert shape.nbytes == max(16, rounded(8 + 8 * len(shape.refs) + size))
        ref = m.new(shape)
        for name in shape.refs:
            assert getattr(ref, name) is None
            setattr(ref, name, ref)
        heap.collect()
        for name in shape.refs:
            assert getattr(ref, name) == ref
        for name in shape.raw.names or ("value",) if shape.raw is not None else ():
            getattr(ref, name)


@pytest.mark.parametrize("given_name", ["", None, 1, b"bytes", "\ud800", "\0", "x" * 10_000])
def test_a_name_of_any_kind(given_name, tmp_path):
    """Whatever a shape and a thread may be called, reports can be made of it."""
    with gcheap.Heap("1MiB", backend="stw") as heap:
        try:
            mutator = heap.attach(given_name)
        except (TypeError, ValueError) as error:
            says(error)
            mutator = heap.attach()
        with mutator as m:
            try:
                kept = m.new(heap.shape(given_name))
            except gcheap.ShapeError as error:
                says(error)
                return
            heap.snapshot(tmp_path / "snapshot")
            assert [row["shape"] for row in heap.census()] == [given_name.rstrip("\0")]
            assert heap.why_alive(kept) is None


@settings(max_examples=250)
@example("S5", Index(HUGE))
@given(st.one_of(DTYPES, ANYTHING), st.one_of(st.integers(0, 40), ANYTHING))
def test_an_array_of_any_kind(dtype, length):
    with gcheap.Heap("1MiB", backend="stw") as heap, heap.attach() as m:
        try:
            array = m.new_array(dtype, length)
        except (gcheap.ShapeError, gcheap.HeapExhausted, ValueError, TypeError) as error:
            says(error)
            return
        assert len(array) == length.__index__() and array.dtype == np.dtype(dtype)
        assert bytes(array) == bytes(len(array) * array.dtype.itemsize)
        assert heap.census()["bytes"] == array_bytes(array.dtype.itemsize, len(array))
        heap.collect()
        assert array.copy_out().dtype == array.dtype
        if heap.stats().live_bytes < heap.capacity // 4:
            assert bytes(m.new_array(dtype, length, pinned=True)) == bytes(array)


# ---- values ------------------------------------------------------------------------------

SCALARS = st.sampled_from(
    ["u1", "i1", "u2", "i4", "u8", "i8", "f2", "f4", "f8", ">f4", ">f8", ">i2", ">u8", "c8", "c16",
     "g", "S3", "U2", "V4", "?", "M8[s]", "M8[D]", "m8[ms]", "u1,i2", "S2,f2", "(2,)u1"])
VALUES = st.one_of(
    ANYTHING, st.integers(-70_000, 70_000), st.sampled_from(
        [1e300, -1e39, 65520.0, 1e5, math.inf, math.nan, 2**53 + 1, 1e300j, complex(1, 1e39),
         b"abcd", b"ab\0", "abc", "é", b"12345", np.void(b"12345"), np.int64(300), np.uint8(7),
         np.float64(1e300), np.datetime64("2020-01-01T00:00:00.5"), np.timedelta64(1500, "us"),
         np.timedelta64(1, "D"), np.array([1, 2], "u1"), np.array([300, 2]), (1, 2), (300, 70_000),
         (np.int64(300), 1), (b"abc", 1e6), (b"ab", 1.5), [1, 2], [1.5, 2]]))


def same(found: Any, given_value: Any, dtype: np.dtype) -> bool:
    """Whether what was read is what was given; a float may be rounded, never to infinity."""
    if isinstance(given_value, Index):
        given_value = given_value.__index__()
    if dtype.subdtype is not None:
        wanted = np.asarray(given_value)
        return all(same(f, w, dtype.base) for f, w in zip(
            np.ravel(found), np.ravel(np.broadcast_to(wanted, dtype.shape)), strict=True))
    if dtype.names is not None:
        if not isinstance(given_value, (tuple, np.void)):
            given_value = (given_value,) * len(dtype.names)
        return all(same(found[name], value, dtype.fields[name][0])
                   for name, value in zip(dtype.names, given_value, strict=True))
    if dtype.kind in "fc":
        try:
            wanted = complex(given_value)
        except OverflowError:               # only a long double holds it
            return dtype.char in "gG"
        parts = ((complex(found).real, wanted.real), (complex(found).imag, wanted.imag))
        return all((math.isnan(f) and math.isnan(w)) or (f == w) or (
            math.isfinite(f) and abs(f - w) <= max(abs(w), 1e-4) * 1e-3) for f, w in parts)
    if dtype.kind == "V":
        raw = given_value.tobytes() if isinstance(given_value, np.generic) else bytes(given_value)
        return bytes(found) == raw.ljust(dtype.itemsize, b"\0")
    if dtype.kind in "SU":
        wanted = given_value if isinstance(given_value, (bytes, str)) else np.asarray(given_value)
        return bool(np.asarray(found) == np.asarray(wanted).astype(dtype.kind))
    if dtype.kind in "Mm":
        if np.asarray(given_value).dtype.kind in "iub":     # so many of the dtype's units
            return int(found.astype("i8")) == int(given_value)
        if np.isnat(found):
            wanted = np.asarray(given_value)
            return wanted.dtype.kind not in "mM" or bool(np.all(np.isnat(wanted)))
    return bool(np.all(np.asarray(found) == np.asarray(given_value)))


@settings(max_examples=600)
@example(">f4", 1e300)
@example("f2", 1e6)
@example("c8", complex(1, 1e39))
@example("S3", "é")
@example("V4", np.void(b"12345"))
@example("M8[s]", np.datetime64("2020-01-01T00:00:00.5"))
@example("u1,i2", (np.int64(300), 1))
@example("S2,f2", (b"abc", 1e6))
@example("u1", HUGE)
@given(SCALARS, VALUES)
def test_an_element_of_any_kind(m, text, value):
    """a[i] = value and a field of a shape take the same, and keep what they took."""
    dtype = np.dtype(text)
    where = [m.new(m_shape(m, dtype))]
    if dtype.subdtype is None:
        where.append(m.new_array(dtype, 2))
    outcomes = []
    for ref in where:
        fixed = not isinstance(ref, gcheap.RawArray)
        try:
            if fixed:
                ref.it = value
            else:
                ref[1] = value
        except REFUSALS as error:
            says(error)
            outcomes.append(type(error))
            continue
        found = ref.it if fixed else ref[1]
        assert same(found, value, dtype), f"{value!r} became {found!r} in {dtype}"
        outcomes.append(None)
    assert len(set(outcomes)) == 1, outcomes


SHAPES: dict = {}


def m_shape(m: gcheap.Mutator, dtype: np.dtype) -> gcheap.Shape:
    if dtype not in SHAPES:
        SHAPES[dtype] = HEAPS[m].shape(f"of {dtype}", raw=[("it", dtype)])
    return SHAPES[dtype]


HEAPS: dict = {}


@pytest.fixture(autouse=True, scope="module")
def known(heap, m):
    HEAPS[m] = heap
    yield
    HEAPS.clear()
    SHAPES.clear()


@settings(max_examples=300)
@example("i4", np.array([1.5]))
@example("f4", np.array([0.1]))
@example("f8", np.array([2**53 + 1]))
@example("f4", np.array([math.nan]))
@example("f4", np.array([1e300]))
@given(SCALARS, st.one_of(
    ANYTHING, hnp.arrays(hnp.scalar_dtypes(), st.integers(0, 4)),
    hnp.arrays(st.sampled_from(["i8", "f8", "u1", ">i4", "c16"]), st.integers(0, 4)),
    st.lists(VALUES, max_size=3)))
def test_copy_in_of_any_kind(m, text, values):
    """What goes in as a whole comes out as it was, or is refused as a whole."""
    dtype = np.dtype(text)
    assume(dtype.subdtype is None)
    array = m.new_array(dtype, 4)
    try:
        array.copy_in(values)
    except (*REFUSALS, BufferError, IndexError) as error:
        says(error)
        assert not isinstance(error, IndexError) or np.size(values) > 4 or len(values) > 4
        assert bytes(array) == bytes(4 * dtype.itemsize)
        return
    raw = isinstance(values, (bytes, bytearray, memoryview)) and dtype.itemsize == 1
    wanted = np.frombuffer(values, "u1") if raw else np.ravel(np.asarray(values))
    found = array.copy_out()[:len(wanted)]
    if raw:
        assert found.tobytes() == wanted.tobytes()
    else:
        for f, w in zip(found, wanted, strict=True):
            assert same(f, w, dtype), f"{values!r} became {found!r}"


# ---- buffers -----------------------------------------------------------------------------

@settings(max_examples=200)
@given(st.sampled_from(["u1", "i4", "f8", ">i2", "u1,i2", "c8"]), st.integers(0, 9),
       st.integers(-3, 3).filter(bool), st.sampled_from(["C", "F", "memoryview", "slice", "2d"]))
def test_buffers_with_any_strides(m, text, count, step, how):
    whole = np.arange(count * abs(step) * 2, dtype="u8").astype("u1").astype(
        "u1" if "," in text else text)
    if "," in text:
        whole = np.resize(whole, len(whole) * 3).view(text)
    strided = whole[::step]
    if how in ("F", "2d"):
        strided = np.asfortranarray(np.stack([strided, strided])) if how == "F" else (
            np.stack([strided, strided]))
    source = memoryview(strided) if how == "memoryview" else strided
    wanted = np.ravel(strided)
    array = m.new_array(text, len(wanted) + 1)
    try:
        if how == "slice":
            array[:len(wanted)] = source
        else:
            array.copy_in(source)
    except (ValueError, BufferError) as error:
        assert how == "memoryview", error       # the one kind that may not be contiguous
        says(error)
        return
    assert array.copy_out()[:-1].tobytes() == wanted.astype(text).tobytes()
    assert bytes(m.new_bytes(source)) == memoryview(source).tobytes()


# ---- indices -----------------------------------------------------------------------------

INDICES = st.one_of(st.integers(-12, 12), ANYTHING)


@settings(max_examples=300)
@example(0, HUGE)
@given(st.integers(0, 9), INDICES)
def test_an_index_of_any_kind(m, length, index):
    model = list(range(1, length + 1))
    array, slots = m.new_array("u2", length), m.new_slots(length)
    array.copy_in(np.array(model, "u2"))
    for i in range(length):
        slots[i] = gcheap.Tagged(2 * i + 1)
    for sequence, value in ((array, lambda x: x), (slots, lambda x: 2 * x - 1)):
        if sequence is array and isinstance(index, slice):
            continue
        try:
            wanted = model[index]
        except (TypeError, IndexError) as error:
            with pytest.raises(type(error)) as caught:
                sequence[index]
            says(caught.value)
            with pytest.raises(type(error)):
                sequence[index] = 1 if sequence is array else None
            continue
        if isinstance(index, slice):
            with pytest.raises(TypeError):
                sequence[index]
            continue
        found = sequence[index]
        assert (found if sequence is array else found.__hash__()) == value(wanted)


@settings(max_examples=300)
@given(st.integers(0, 9), st.slices(12), st.one_of(st.none(), st.integers(0, 12)))
def test_a_slice_of_any_kind(m, length, index, given_length):
    model = np.arange(length, dtype="u2")
    array = m.new_array("u2", length)
    array.copy_in(model)
    if index.indices(length)[2] != 1:
        with pytest.raises(ValueError):
            array[index]
        return
    assert list(array[index]) == list(model[index])
    fresh = np.arange(100, 100 + (len(model[index]) if given_length is None else given_length))
    try:
        array[index] = fresh
    except ValueError as error:
        says(error)
        assert len(fresh) != len(model[index])
    else:
        model[index] = fresh
    assert list(array) == list(model)


@settings(max_examples=200)
@given(st.integers(0, 9), INDICES)
def test_copy_in_from_any_place(m, length, start):
    array = m.new_array("u2", length)
    try:
        array.copy_in(np.array([7], "u2"), start)
    except (IndexError, TypeError) as error:
        says(error)
        assert not any(array)
    else:
        at = start.__index__()
        assert 0 <= at < length and [x == 7 for x in array] == [i == at for i in range(length)]


@settings(max_examples=200)
@example(HUGE)
@given(ANYTHING)
def test_a_slot_takes_refs_none_and_tagged_values(m, value):
    slots = m.new_slots(1)
    with pytest.raises(TypeError) as caught:
        slots[0] = value
    says(caught.value)
    try:
        word = gcheap.Tagged(value)
    except (TypeError, OverflowError) as error:
        says(error)
        return
    try:
        slots[0] = word
    except ValueError as error:
        says(error)
        assert slots[0] is None
    else:
        number = value.__index__()
        assert slots[0] == (gcheap.Tagged(number) if number else None)
