"""`from gcheap cimport heap`, in a project of somebody else's."""
import importlib.util
import re
import sys
from pathlib import Path

import pytest
from embedding_support import EXAMPLES, MISSING, build_project, environment, run
from support import ROOT

import gcheap

pytestmark = [
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
    pytest.mark.skipif(importlib.util.find_spec("Cython") is None,
                       reason="Cython is not installed"),
]


def test_the_example_project_builds_and_checks_itself(tmp_path):
    project = build_project(EXAMPLES / "cython_runtime", tmp_path / "project")
    said = run([sys.executable, "main.py"], cwd=project, env=environment())
    assert "all right" in said


PAGE = ROOT / "docs/how-to/embed-from-cython.md"
EVERY_NAME = """
from gcheap cimport heap
from libc.stdint cimport uint32_t, uint64_t, uintptr_t

cdef uint64_t one = 1

cdef bint match(void* context, heap.MutatorState* m, heap.word obj) noexcept nogil:
    return heap.gc_load(obj, 1) == (<heap.word*>context)[0]

cdef extern from *:
    '''
    /* Events come from several threads at once. */
    static int heard;
    static int hear(int kinds) { return __atomic_or_fetch(&heard, kinds, __ATOMIC_RELAXED); }
    '''
    int hear(int) nogil

cdef void listen(void* data, heap.HeapState* h, const heap.Event* event) noexcept nogil:
    hear(1 << event.kind)

def everything(options):
    cdef heap.TagRule rule
    cdef heap.ShapeSpec spec
    cdef heap.Statistics sums
    cdef heap.HeapState* h
    cdef heap.MutatorState* m
    cdef heap.RootArea* area
    cdef heap.Guardian* g
    cdef heap.WeakTable* t
    cdef heap.WeakTable* names
    cdef heap.word global_word = 0, value = 0, number = 8 * 5 + 1
    cdef heap.word* f
    cdef heap.word* slot
    cdef uint32_t pair, handle, weak
    rule.mask, rule.bits = 7, 0
    h = heap.gc_new_heap(options, &rule)
    assert h != NULL, heap.gc_error_message()
    assert heap.gc_set_listener(h, listen, NULL) == 0
    spec.name, spec.kind, spec.slots, spec.raw_bytes, spec.tag = (
        b"pair", heap.SHAPE_FIXED, b"next number", 16, NULL)
    pair = heap.gc_define_shape(h, &spec)
    assert pair
    m = heap.gc_attach(h, b"cython")
    assert m != NULL and heap.gc_current(h) == m
    heap.gc_enter(m)
    area = heap.gc_add_roots(m, &global_word, &one, &rule)
    f = heap.gc_push(m, 2)
    f[0] = heap.gc_alloc(m, pair)
    assert heap.gc_alloc_sized(m, pair, h.shapes[pair].bytes)
    f[1] = heap.gc_alloc_array(m, heap.SHAPE_SLOT_ARRAY, 10)
    global_word = heap.gc_alloc_pinned(m, heap.SHAPE_BYTES, 10)
    heap.gc_elements(global_word)[9] = 200
    heap.gc_raw(m, f[0], pair)[15] = 100
    heap.gc_store(m, f[0], 1, number)
    heap.gc_store_element(m, f[1], 9, f[0])
    heap.gc_publish(m, f[0], 0, number)
    assert heap.gc_acquire(f[0], 0) == number and not heap.gc_replace(m, f[0], 0, 3, 0)
    assert heap.gc_replace(m, f[0], 0, number, 0) and heap.gc_load(f[0], 0) == 0
    heap.gc_publish_element(m, f[1], 8, number)
    assert heap.gc_acquire_element(f[1], 8) == number
    assert not heap.gc_replace_element(m, f[1], 8, 0, f[0])
    assert heap.gc_replace_element(m, f[1], 8, number, f[0])
    slot = <heap.word*>f[1] + 2
    heap.gc_publish_slot(m, f[1], slot, number)
    assert heap.gc_acquire_slot(slot) == number and heap.gc_load_element(f[1], 0) == number
    assert not heap.gc_replace_slot(m, f[1], slot, 0, 13)
    assert heap.gc_replace_slot(m, f[1], slot, number, 13)
    heap.gc_store_slot(m, f[1], slot, f[0])
    handle = heap.gc_new_handle(m, f[0])
    weak = heap.gc_new_weak(m, f[0])
    g = heap.gc_new_guardian(h)
    assert heap.gc_guard(m, g, f[0], 0) == 0
    t = heap.gc_new_table(h)
    names = heap.gc_new_table(h)
    assert heap.gc_table_put(m, t, f[0], f[1]) == 0 and heap.gc_table_count(t) == 1
    assert heap.gc_intern_add(m, names, 3, match, &number, f[0]) == f[0]
    assert heap.gc_identity_hash(m, f[0]) == heap.gc_identity_hash(m, f[0])
    f[0] = 0
    heap.gc_request(h)
    heap.gc_collect(h)
    heap.gc_poll(m)
    f[0] = heap.gc_load_element(f[1], 9)
    assert heap.gc_load_element(f[1], 0) == f[0] == heap.gc_load_element(f[1], 8)
    assert heap.gc_shape_of(f[0]) == pair and heap.gc_length(f[1]) == 10
    assert heap.gc_raw(m, f[0], pair)[15] == 100 and heap.gc_elements(global_word)[9] == 200
    assert heap.gc_handle_load(m, handle) == f[0] == heap.gc_weak_load(m, weak)
    assert heap.gc_intern_find(m, names, 3, match, &number) == f[0]
    assert heap.gc_table_get(m, t, f[0], &value) and value == f[1]
    heap.gc_handle_store(m, handle, f[1])
    assert heap.gc_table_remove(m, t, f[0])
    f[0] = f[1] = 0
    heap.gc_drop_handle(h, handle)
    heap.gc_collect(h)
    assert heap.gc_weak_load(m, weak) == 0
    value = heap.gc_guardian_poll(m, g)
    assert heap.gc_load(value, 1) == number
    heap.gc_drop_weak(h, weak)
    heap.gc_drop_guardian(g)
    heap.gc_drop_table(t)
    heap.gc_drop_table(names)
    heap.gc_remove_roots(m, area)
    heap.gc_pop(m, 2)
    heap.gc_get_statistics(h, &sums)
    assert sums.relocations >= 2
    heap.gc_leave(m)
    heap.gc_detach(m)
    assert heap.gc_close_heap(h) == 0
    assert hear(0) >> heap.EVENT_FLIPPED & 1 and hear(0) >> heap.EVENT_MUTATOR_REMOVED & 1
    return "done"

def make_array(address, shape, length):
    # The length word of an array that was made, or why it was not.
    cdef heap.MutatorState* m = <heap.MutatorState*><uintptr_t>address
    cdef heap.word made
    cdef uint64_t n = length
    cdef uint32_t s = shape
    with nogil:
        heap.gc_enter(m)
        made = heap.gc_alloc_array(m, s, n)
        if made:
            n = heap.gc_length(made)
        heap.gc_leave(m)
    return n if made else heap.gc_error_message().decode()
"""
LENGTHS = """
import everything
import gcheap

with gcheap.Heap("64MiB") as heap, heap.attach() as m:
    blob = m.new_array("V24", 1).shape
    for shape, item in (1, 8), (2, 1), (blob.id, 24):
        for length in sorted({(1 << bits) + more for bits in range(24, 65) for more in (-1, 0, 1)}):
            if length >> 64:
                continue
            made = everything.make_array(m.native(), shape, length)
            if length <= 1 << 24 if item == 1 else item * length <= 32 << 20:
                assert made == length, (shape, length, made)
            elif length > (64 << 20) // item:
                assert f"cannot hold an array of {length} elements of {item} bytes" in made, made
            else:
                assert made == length or "is full" in made, (shape, length, made)
    assert heap.stats().used_bytes <= 64 << 20
print("done")
"""
SETUP = """
from Cython.Build import cythonize
from setuptools import Extension, setup
import gcheap
setup(ext_modules=cythonize([Extension(
    "everything", ["everything.pyx"], include_dirs=[gcheap.get_include()])], language_level=3))
"""


@pytest.fixture(scope="session")
def everything(tmp_path_factory):
    """The project whose module is EVERY_NAME, built once."""
    source = tmp_path_factory.mktemp("source")
    (source / "everything.pyx").write_text(EVERY_NAME)
    (source / "setup.py").write_text(SETUP)
    return build_project(source, tmp_path_factory.mktemp("cython") / "project")


def test_every_name_of_the_cimport_surface_can_be_used(everything):
    said = run([sys.executable, "-c", "import everything; print(everything.everything("
                "b'capacity=8MiB verify=3'))"], cwd=everything, env=environment())
    assert said == "done\n"


def test_no_length_of_an_array_overflows(everything):
    assert run([sys.executable, "-c", LENGTHS], cwd=everything, env=environment()) == "done\n"


# ---- the same names as in C --------------------------------------------------------------

# Functions of the headers that heap.pxd does not have, and why.
C_ALONE = {
    "gc_start": "an extension module is started by Python",
    "gc_stop": "the same",
    "gc_import": "a cimport imports",
}
# What the rest is called there; the page says it, too.
NAMES = {
    "gc_word": "word", "gc_heap": "HeapState", "gc_mutator": "MutatorState", "gc_roots": "RootArea",
    "gc_shape": "uint32_t", "gc_handle": "uint32_t", "gc_weak": "uint32_t",
    "gc_guardian": "Guardian", "gc_table": "WeakTable", "gc_tag_rule": "TagRule",
    "gc_shape_spec": "ShapeSpec", "gc_statistics": "Statistics", "gc_event": "Event",
    "gc_listener": "Listener", "gc_match": "WeakMatch",
    "GC_SHAPE_SLOTS": "SHAPE_SLOT_ARRAY", "GC_SHAPE_BYTES": "SHAPE_BYTES",
    "GC_FIXED": "SHAPE_FIXED", "GC_SLOT_ARRAY": "SHAPE_SLOTS", "GC_RAW_ARRAY": "SHAPE_RAW",
}
# Of the header, for nobody's use but its own.
INTERNAL = {"gc_api", "gc_api_table", "gc_python_state", "gc_shape_info", "GC_ABI", "GC_LIKELY",
            "GC_UNLIKELY"}


def test_the_cimport_surface_has_the_names_of_the_header():
    package = Path(gcheap.__path__[0])
    header = "".join((package / "include" / name).read_text()
                     for name in ("gcheap.h", "gcheap_python.h"))
    code = re.sub(r"/\*.*?\*/", "", header, flags=re.S)
    functions = set(re.findall(r"^static inline [^(=;]*?\b(gc_\w+)\(", code, flags=re.M))
    others = set(re.findall(r"\b(?:gc|GC)_\w+", code)) - functions - INTERNAL - set(C_ALONE)
    lines = (package / "heap.pxd").read_text().partition('"""')[2].partition('"""')[2]
    named = set(re.findall(r"\b[A-Za-z]\w*", lines))
    assert len(functions) > 50
    assert functions - named == set(C_ALONE)
    # In the other direction: what has "gc_" in its name there and is none of C's, is slow paths.
    assert {name for name in named if name.startswith("gc_")} - functions == {
        "gc_alloc_slow", "gc_alloc_array_slow"}
    for name in others:
        assert NAMES.get(name, name.replace("GC_", "EVENT_")) in named, name
    page = PAGE.read_text()
    for name, called in NAMES.items():
        assert f"`{name}`" in page and f"`{called}`" in page, name


def test_the_example_of_the_page(tmp_path):
    blocks = re.findall(r"^```(?:python|cython)\n(.*?)^```$", PAGE.read_text(), re.S | re.M)
    source = tmp_path / "source"
    source.mkdir()
    for name, text in zip(("setup.py", "mine.pyx", "main.py"), blocks, strict=True):
        (source / name).write_text(text)
    project = build_project(source, tmp_path / "project")
    assert run([sys.executable, "main.py"], cwd=project, env=environment()) == "499500\n"
