/* An extension module in C: heaps of Python in C, heaps of C in Python. */
#include "gcheap_python.h"

static PyObject *failed(void) {
    PyErr_SetString(PyExc_RuntimeError, gc_error_message());
    return NULL;
}

/* shadowed(heap, n, callback): makes a list of n cells, without the GIL, that the shadow stack of
 * the calling thread holds, and one cell that a root area holds; returns callback(). */
static PyObject *shadowed(PyObject *self, PyObject *args) {
    PyObject *object, *callback, *result = NULL;
    gc_heap *heap;
    gc_mutator *m;
    gc_roots *area;
    gc_word *frame, words[4] = { 0 };
    uint64_t count = 4;
    unsigned long n;
    (void)self;
    if (!PyArg_ParseTuple(args, "OkO", &object, &n, &callback)) return NULL;
    if (!(heap = gc_heap_of_object(object))) return NULL;
    if (!(m = gc_current(heap))) return failed();
    gc_shape cell = gc_define_shape(heap, &(gc_shape_spec){ .name = "cell", .slots = "next value" });
    if (!cell) return failed();
    Py_BEGIN_ALLOW_THREADS
    gc_enter(m);
    frame = gc_push(m, 1);
    area = gc_add_roots(m, words, &count, NULL);
    for (unsigned long i = 0; i < n; i++) {
        gc_word made = gc_alloc(m, cell);
        gc_store(m, made, 0, frame[0]);
        gc_store(m, made, 1, 8 * i + 1);
        frame[0] = made;
    }
    words[3] = gc_alloc(m, cell);
    gc_store(m, words[3], 1, 8 * 1234 + 1);
    gc_leave(m);
    Py_END_ALLOW_THREADS
    result = PyObject_CallNoArgs(callback);         /* looks at the heap from Python */
    gc_enter(m);
    gc_remove_roots(m, area);
    gc_pop(m, 1);
    gc_leave(m);
    return result;
}

/* boxed_heap(options): a gcheap.Heap whose references are NaN-boxed. */
static PyObject *boxed_heap(PyObject *self, PyObject *args) {
    static const gc_tag_rule rule = { 0xFFFC000000000000u, 0xFFFC000000000000u };
    const char *options;
    gc_heap *heap;
    (void)self;
    if (!PyArg_ParseTuple(args, "s", &options)) return NULL;
    heap = gc_new_heap(options, &rule);
    return heap ? gc_object_of_heap(heap) : failed();
}

/* close(heap): ends a heap, whoever made it. */
static PyObject *close_heap(PyObject *self, PyObject *object) {
    gc_heap *heap = gc_heap_of_object(object);
    (void)self;
    if (!heap) return NULL;
    if (gc_close_heap(heap) != 0) return failed();
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    { "shadowed", shadowed, METH_VARARGS, NULL },
    { "boxed_heap", boxed_heap, METH_VARARGS, NULL },
    { "close", close_heap, METH_O, NULL },
    { 0 }
};
static PyModuleDef module = { PyModuleDef_HEAD_INIT, .m_name = "extension", .m_methods = methods };

PyMODINIT_FUNC PyInit_extension(void) {
    if (gc_import() != 0) return NULL;
    return PyModule_Create(&module);
}
