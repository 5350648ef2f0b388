"""`from gcheap cimport heap`, in a project of somebody else's."""
import importlib.util
import sys

import pytest
from embedding_support import EXAMPLES, MISSING, build_project, environment, run

pytestmark = [
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
    pytest.mark.skipif(importlib.util.find_spec("Cython") is None,
                       reason="Cython is not installed"),
]


def test_the_example_project_builds_and_checks_itself(tmp_path):
    project = build_project(EXAMPLES / "cython_runtime", tmp_path / "project")
    said = run([sys.executable, "main.py"], cwd=project, env=environment())
    assert "all right" in said


EVERY_NAME = """
from gcheap cimport heap
from libc.stdint cimport uint32_t, uint64_t

cdef uint64_t one = 1

cdef bint match(void* context, heap.MutatorState* m, heap.word obj) noexcept nogil:
    return heap.gc_load(obj, 1) == (<heap.word*>context)[0]

cdef int heard = 0

cdef void listen(void* data, heap.HeapState* h, const heap.Event* event) noexcept nogil:
    global heard
    heard |= 1 << event.kind

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
    f[1] = heap.gc_alloc_array(m, heap.SHAPE_SLOT_ARRAY, 10)
    global_word = heap.gc_alloc_pinned(m, heap.SHAPE_BYTES, 10)
    heap.gc_elements(global_word)[9] = 200
    heap.gc_raw(m, f[0], pair)[15] = 100
    heap.gc_store(m, f[0], 1, number)
    heap.gc_store_element(m, f[1], 9, f[0])
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
    assert heard >> heap.EVENT_FLIPPED & 1 and heard >> heap.EVENT_MUTATOR_REMOVED & 1
    return "done"
"""
SETUP = """
from Cython.Build import cythonize
from setuptools import Extension, setup
import gcheap
setup(ext_modules=cythonize([Extension(
    "everything", ["everything.pyx"], include_dirs=[gcheap.get_include()])], language_level=3))
"""


def test_every_name_of_the_cimport_surface_can_be_used(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "everything.pyx").write_text(EVERY_NAME)
    (source / "setup.py").write_text(SETUP)
    project = build_project(source, tmp_path / "project")
    said = run([sys.executable, "-c", "import everything; print(everything.everything("
                "b'capacity=8MiB verify=3'))"], cwd=project, env=environment())
    assert said == "done\n"
