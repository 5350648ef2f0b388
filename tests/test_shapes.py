"""Shapes and object headers against a Python model: what numpy stores, a heap object stores."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import gcheap

SCALARS = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "?", "c16", "S5",
           ">u4", ">f8", "M8[ns]", "U3"]
ACCEPTED = {
    "pairs": [("key", "u8"), ("weight", "f8")],
    "numpy dtype": np.dtype([("key", "i4"), ("flag", "?")]),
    "comma string": "u8,f4,S3",
    "subarray": [("head", "u2"), ("vector", "f4", 3), ("matrix", "i2", (2, 2))],
    "nested struct": [("point", [("x", "f8"), ("y", "f8")]), ("n", "u1")],
    "unaligned": [("a", "u1"), ("b", "u8"), ("c", "u2")],
    "explicit offsets": {"names": ["a", "b"], "formats": ["u4", "u8"], "offsets": [3, 9]},
    "bytes field": [("name", "S12"), ("blob", "V7")],
    "big endian": [("key", ">u4"), ("other", ">f8")],
    "names and formats": {"names": ["p", "q"], "formats": ["i1", "f2"]},
}


def stored(value, dtype) -> bytes:
    """The bytes of `value` as numpy lays it out in a field of `dtype`."""
    holder = np.zeros(1, np.dtype([("field", dtype)]))
    holder["field"][0] = value
    return holder.tobytes()


def field_dtypes(raw) -> dict[str, np.dtype]:
    dtype = np.dtype(raw)
    return {name: dtype.fields[name][0] for name in dtype.names}


def assert_fields_equal(obj, model: np.void, fields: dict[str, np.dtype]) -> None:
    for name, dtype in fields.items():
        assert stored(getattr(obj, name), dtype) == stored(model[name], dtype), name


@pytest.mark.parametrize("raw", ACCEPTED.values(), ids=ACCEPTED)
def test_raw_is_whatever_numpy_takes_and_starts_as_zero(any_heap, any_mutator, raw):
    shape = any_heap.shape("S", refs=("next",), raw=raw)
    obj = any_mutator.new(shape)
    assert obj.next is None
    assert_fields_equal(obj, np.zeros(1, raw)[0], field_dtypes(raw))


@pytest.mark.parametrize("raw", ACCEPTED.values(), ids=ACCEPTED)
def test_a_fresh_object_is_zero_where_garbage_was(make_heap, raw):
    heap = make_heap("1MiB")
    shape = heap.shape("S", raw=raw)
    dirt = np.frombuffer(b"\xa5" * 4096, np.uint8)
    zero = np.zeros(1, raw)[0]
    with heap.attach() as m:
        for _ in range(4):
            for _ in range(60):
                m.new_array("u1", 4096).copy_in(dirt)
            heap.collect()
            assert_fields_equal(m.new(shape), zero, field_dtypes(raw))


@st.composite
def structs(draw):
    """A structured dtype and a filled scalar of it."""
    formats = draw(st.lists(st.sampled_from(SCALARS), min_size=1, max_size=8))
    shapes = draw(st.lists(st.sampled_from([(), (1,), (3,), (2, 2)]), min_size=len(formats),
                           max_size=len(formats)))
    fields = zip(formats, shapes, strict=True)
    dtype = np.dtype([(f"f{i}", f, shape) for i, (f, shape) in enumerate(fields)],
                     align=draw(st.booleans()))
    scalar = np.zeros(1, dtype)
    for name in dtype.names:
        field = dtype.fields[name][0]
        base, shape = (field.subdtype or (field, ()))
        scalar[name][0] = draw(hnp.arrays(base, shape)) if shape else draw(
            hnp.from_dtype(base, allow_nan=False))
    return dtype, scalar[0]


@settings(max_examples=60)
@given(given_structs=st.lists(structs(), min_size=1, max_size=4), refs=st.integers(0, 5))
def test_fields_hold_what_numpy_holds(given_structs, refs):
    with gcheap.Heap("1MiB", unit_pages=1) as heap, heap.attach() as m:
        objects = []
        for i, (dtype, scalar) in enumerate(given_structs):
            shape = heap.shape(f"S{i}", refs=tuple(f"r{k}" for k in range(refs)), raw=dtype)
            m.new(shape)                                    # garbage, so that things move
            by_keyword = m.new(shape, **{n: scalar[n] for n in dtype.names})
            by_attribute = m.new(shape)
            for name in reversed(dtype.names):
                setattr(by_attribute, name, scalar[name])
            for k in range(refs):
                setattr(by_attribute, f"r{k}", by_keyword)
            objects.append((by_keyword, by_attribute, dtype, scalar))
        for _ in range(2):
            for by_keyword, by_attribute, dtype, scalar in objects:
                fields = field_dtypes(dtype)
                assert_fields_equal(by_keyword, scalar, fields)
                assert_fields_equal(by_attribute, scalar, fields)
                for k in range(refs):
                    assert getattr(by_keyword, f"r{k}") is None
                    assert getattr(by_attribute, f"r{k}") == by_keyword
            heap.collect()


@pytest.mark.parametrize("refs", [0, 1, 2, 7, 63, 64, 65, 200])
def test_any_number_of_references(heap, mutator, refs):
    names = tuple(f"r{i}" for i in range(refs))
    shape = heap.shape("Wide", refs=names, raw=[("key", "u8")])
    leaves = [mutator.new(shape, key=i) for i in range(refs)]
    obj = mutator.new(shape, key=2**64 - 1, **dict(zip(names, leaves, strict=True)))
    heap.collect()
    assert obj.key == 2**64 - 1
    for i, name in enumerate(names):
        assert getattr(obj, name) == leaves[i]
        assert getattr(obj, name).key == i


def test_a_shape_without_any_field_has_identity_and_survives(heap, mutator):
    empty = heap.shape("Empty")
    slots = mutator.new_slots(3)
    for i in range(3):
        mutator.new(empty)
        slots[i] = mutator.new(empty)
    heap.collect()
    assert len({slots[i] for i in range(3)}) == 3
    assert slots[0].shape == empty


def test_shape_tells_its_name_and_is_shared_by_its_objects(any_heap, any_mutator):
    node = any_heap.shape("Node", refs=("next",), raw=[("key", "u8")])
    assert node.name == "Node"
    assert any_mutator.new(node).shape == node
    assert "Node" in repr(node)
    assert "Node" in repr(any_mutator.new(node))


REDEFINITIONS = {
    "other refs": {"refs": ("left", "other"), "raw": [("key", "u8")]},
    "refs in another order": {"refs": ("right", "left"), "raw": [("key", "u8")]},
    "fewer refs": {"refs": ("left",), "raw": [("key", "u8")]},
    "other raw": {"refs": ("left", "right"), "raw": [("key", "u4")]},
    "other raw name": {"refs": ("left", "right"), "raw": [("clef", "u8")]},
    "no raw": {"refs": ("left", "right")},
}


def test_the_same_definition_gives_the_same_shape(any_heap):
    first = any_heap.shape("Node", refs=("left", "right"), raw=[("key", "u8")])
    before = any_heap.stats().shapes
    again = any_heap.shape("Node", refs=["left", "right"], raw=np.dtype([("key", "<u8")]))
    assert again is first
    assert any_heap.stats().shapes == before


@pytest.mark.parametrize("other", REDEFINITIONS.values(), ids=REDEFINITIONS)
def test_another_definition_of_a_name_is_refused(any_heap, any_mutator, other):
    shape = any_heap.shape("Node", refs=("left", "right"), raw=[("key", "u8")])
    with pytest.raises(gcheap.ShapeError, match="Node"):
        any_heap.shape("Node", **other)
    assert any_mutator.new(shape, key=3).key == 3           # the first one stands


def test_equal_definitions_under_two_names_are_two_shapes(any_heap, any_mutator):
    one = any_heap.shape("One", raw=[("key", "u8")])
    two = any_heap.shape("Two", raw=[("key", "u8")])
    assert one != two
    assert any_mutator.new(one).shape == one
    assert any_mutator.new(two).shape == two


BAD_SHAPES = {
    "object dtype": ({"raw": [("thing", "O")]}, "thing|object"),
    "nested object dtype": ({"raw": [("box", [("thing", "O")])]}, "box|thing|object"),
    "raw named like a ref": ({"refs": ("key",), "raw": [("key", "u8")]}, "key"),
    "two refs of one name": ({"refs": ("left", "left")}, "left"),
    "ref is no identifier": ({"refs": ("not a name",)}, "not a name"),
    "empty ref name": ({"refs": ("",)}, "''"),
    "raw is no dtype": ({"raw": "no such type"}, "no such type"),
}


@pytest.mark.parametrize(("definition", "named"), BAD_SHAPES.values(), ids=BAD_SHAPES)
def test_a_bad_shape_is_refused_by_name(any_heap, definition, named):
    before = any_heap.stats().shapes
    with pytest.raises(gcheap.ShapeError, match=named):
        any_heap.shape("Bad", **definition)
    assert any_heap.stats().shapes == before
    assert any_heap.shape("Bad", refs=("fine",)).name == "Bad"      # the name is still free


def test_a_string_of_refs_is_not_taken_letter_by_letter(any_heap):
    with pytest.raises((gcheap.ShapeError, TypeError), match="next"):
        any_heap.shape("Bad", refs="next")


@pytest.mark.parametrize("name", ["", 7, None, b"Node"])
def test_a_shape_needs_a_name(any_heap, name):
    with pytest.raises((gcheap.ShapeError, TypeError)):
        any_heap.shape(name, refs=("next",))


def test_too_many_references_for_one_object(any_heap):
    with pytest.raises(gcheap.ShapeError, match="Giant"):
        any_heap.shape("Giant", refs=tuple(f"r{i}" for i in range(600_000)))


UNFITTING = {
    "too large": ("u1", 256, OverflowError),
    "negative unsigned": ("u8", -1, OverflowError),
    "beyond 64 bits": ("u8", 2**64, OverflowError),
    "below int64": ("i8", -2**63 - 1, OverflowError),
    "text for a number": ("u8", "seven", (TypeError, ValueError)),
    "None for a number": ("u4", None, TypeError),
    "object for a float": ("f8", object(), (TypeError, ValueError)),
    "bytes too long": ("S4", b"12345", (ValueError, OverflowError)),
    "void too long": ("V4", b"12345", (ValueError, OverflowError)),
    "wrong subarray length": (("u4", 3), [1, 2], (ValueError, TypeError)),
}


@pytest.mark.parametrize(("dtype", "value", "error"), UNFITTING.values(), ids=UNFITTING)
def test_a_value_that_does_not_fit_is_refused_and_nothing_changes(
        any_heap, any_mutator, dtype, value, error):
    shape = any_heap.shape("S", raw=[("field", dtype), ("guard", "u8")])
    obj = any_mutator.new(shape, guard=2**64 - 1)
    before = stored(obj.field, dtype)
    with pytest.raises(error, match="field"):
        obj.field = value
    with pytest.raises(error, match="field"):
        any_mutator.new(shape, field=value)
    assert stored(obj.field, dtype) == before
    assert obj.guard == 2**64 - 1


def test_the_ends_of_each_integer_fit(any_heap, any_mutator):
    for name in ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8"):
        ends = np.iinfo(name)
        obj = any_mutator.new(any_heap.shape(name, raw=[("low", name), ("high", name)]),
                              low=int(ends.min), high=int(ends.max))
        assert (obj.low, obj.high) == (ends.min, ends.max)


def test_an_unknown_attribute_is_named(any_heap, any_mutator):
    shape = any_heap.shape("Node", refs=("next",), raw=[("key", "u8")])
    obj = any_mutator.new(shape)
    with pytest.raises(AttributeError, match="nxet"):
        obj.nxet                                            # noqa: B018
    with pytest.raises(AttributeError, match="nxet"):
        obj.nxet = None
    with pytest.raises((AttributeError, TypeError), match="nxet"):
        any_mutator.new(shape, nxet=obj)
    with pytest.raises(AttributeError):
        del obj.next


def test_a_reference_field_takes_refs_only(any_heap, any_mutator):
    shape = any_heap.shape("Node", refs=("next",), raw=[("key", "u8")])
    obj = any_mutator.new(shape)
    obj.next = obj
    for wrong in (7, "x", b"x", object(), shape):
        with pytest.raises(TypeError, match="next"):
            obj.next = wrong
        with pytest.raises(TypeError, match="next"):
            any_mutator.new(shape, next=wrong)
    assert obj.next == obj
    obj.next = None
    assert obj.next is None


def test_a_field_may_have_any_name_that_is_no_dunder(any_heap, any_mutator):
    names = ("shape", "self", "handle", "core", "name")
    shape = any_heap.shape("S", refs=names, raw=[("value", "u8"), ("new", "u1")])
    obj = any_mutator.new(shape, shape=None, value=3, new=4)
    obj.handle = obj
    assert (obj.shape, obj.handle, obj.core, obj.value, obj.new) == (None, obj, None, 3, 4)
    for wrong in ("__class__", "class", "two words", "1st", "a.b"):
        with pytest.raises(gcheap.ShapeError, match=wrong):
            any_heap.shape("Bad", refs=(wrong,))
        with pytest.raises(gcheap.ShapeError, match=wrong):
            any_heap.shape("Bad", raw=[(wrong, "u8")])


def test_a_dtype_without_fields_is_one_field_called_value(any_heap, any_mutator):
    for dtype, value in (("u8", 7), ("f4", 0.5), ("S3", b"abc"), ("V2", b"xy"), (">i2", -3)):
        obj = any_mutator.new(any_heap.shape(f"one {dtype}", raw=dtype), value=value)
        assert stored(obj.value, dtype) == stored(value, dtype)


@pytest.mark.parametrize(("mask", "bits"), [(1, 1), (7, 5), (0xFFFF << 48, 0x7FF1 << 48), (3, 0)])
def test_a_shape_with_a_tag_rule_of_its_own(heap, mutator, mask, bits):
    shape = heap.shape("Tagged", refs=("a", "b", "c"), raw=[("key", "u8")], tag=(mask, bits))
    other = (mask & -mask) ^ bits                       # a word that is no reference
    word = other | 0x1230
    kept = []
    for i in range(300):
        mutator.new(shape)
        kept.append(mutator.new(shape, key=i, a=kept[-1] if kept else None,
                                c=gcheap.Tagged(word)))
        kept[-1].b = kept[-1]
    for _ in range(2):
        heap.collect()
        for i, ref in enumerate(kept):
            assert ref.key == i and ref.b == ref and ref.c == gcheap.Tagged(word)
            assert ref.a == (kept[i - 1] if i else None)
    with pytest.raises(ValueError, match="tag"):
        kept[0].a = gcheap.Tagged(bits | 0x1230)


@pytest.mark.parametrize("tag", [(1, 2), (8, 0), (-1, 0), (7,), "x", (1 << 64, 0), (1 << 40, 0)])
def test_a_bad_tag_rule_is_refused(any_heap, tag):
    with pytest.raises(gcheap.ShapeError, match="Bad"):
        any_heap.shape("Bad", refs=("a",), tag=tag)


def test_a_shape_of_another_heap_is_refused(any_heap, any_mutator):
    with gcheap.Heap("1MiB") as other:
        foreign = other.shape("Node", refs=("next",))
        with pytest.raises(gcheap.GcheapError):
            any_mutator.new(foreign)


def test_shapes_may_be_declared_on_a_thread_that_is_not_attached(any_heap):
    shape = any_heap.shape("Node", raw=[("key", "u8")])     # nobody is attached here
    with any_heap.attach() as m:
        assert m.new(shape, key=5).key == 5


def test_thousands_of_shapes(any_heap, any_mutator):
    shapes = [any_heap.shape(f"S{i}", refs=("r",) * (i % 2), raw=[("key", "u8")])
              for i in range(3000)]
    objects = [any_mutator.new(shape, key=i) for i, shape in enumerate(shapes)]
    any_heap.collect()
    for i, obj in enumerate(objects):
        assert obj.key == i
        assert obj.shape == shapes[i]
