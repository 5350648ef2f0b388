/* How a program or extension module in C reaches gcheap: fills in `gc_api` of gcheap.h.
 *
 * An extension module calls gc_import() in its init function.  A program with a main() of its own
 * calls gc_start() first and gc_stop() last; it is linked with libpython
 * (`gcheap config --cflags --libs`).
 */
#ifndef GCHEAP_PYTHON_H
#define GCHEAP_PYTHON_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include "gcheap.h"

/* Imports gcheap.  The GIL is held.  -1: it failed, and a Python exception (ImportError) says why. */
static inline int gc_import(void) {
    PyObject *module, *capsule;
    const gc_api_table *table;
    if (gc_api) return 0;
    module = PyImport_ImportModule("gcheap.embed.capi");
    if (!module) return -1;
    capsule = PyObject_GetAttrString(module, "_C_API");
    Py_DECREF(module);
    if (!capsule) return -1;
    table = (const gc_api_table *)PyCapsule_GetPointer(capsule, "gcheap.embed.capi._C_API");
    Py_DECREF(capsule);         /* the module keeps the table */
    if (!table) return -1;
    if (table->abi != GC_ABI || table->size < sizeof *table) {
        PyErr_Format(PyExc_ImportError,
                     "this module was built with a gcheap.h of ABI %d (%zu bytes), the installed "
                     "gcheap has ABI %u (%u bytes); build it again with the gcheap.h of "
                     "`gcheap config --cflags`", GC_ABI, sizeof *table,
                     (unsigned)table->abi, (unsigned)table->size);
        return -1;
    }
    gc_api = table;
    return 0;
}

/* A gcheap.Heap as a heap, and the other way round (a new reference).  The GIL is held.  NULL: a
 * Python exception is set.  The heap lives as long as the Python object, or until it is closed. */
static inline gc_heap *gc_heap_of_object(PyObject *object) {
    return gc_api->heap_of_object(object);
}
static inline PyObject *gc_object_of_heap(gc_heap *heap) {
    return (PyObject *)gc_api->object_of_heap(heap);
}

/* For a program of its own: starts a Python interpreter and imports gcheap; the GIL is free when
 * it returns.  `python`: the interpreter whose packages are used, as in "/venv/bin/python"; NULL: the
 * first python3 of PATH.  -1: it failed; the reason is on standard error. */
static PyThreadState *gc_python_state;

static inline int gc_start(const char *python) {
    PyConfig config;
    PyStatus status;
    PyConfig_InitPythonConfig(&config);
    config.install_signal_handlers = 0;
    status = PyConfig_SetBytesString(&config, &config.program_name, python ? python : "python3");
    if (!PyStatus_Exception(status)) status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status)) {
        fprintf(stderr, "gcheap: Python does not start: %s\n",
                status.err_msg ? status.err_msg : "no reason given");
        return -1;
    }
    if (gc_import() != 0) {
        PyObject *name = PySys_GetObject("executable"), *prefix = PySys_GetObject("prefix");
        PyErr_Print();
        PySys_FormatStderr(
            "gcheap: the Python that was started is %S (of %S), and it cannot import gcheap. Activate "
            "the environment that gcheap is installed in before this program runs, or name that "
            "environment's python to gc_start(), or install gcheap in this one.\n",
            name ? name : Py_None, prefix ? prefix : Py_None);
        Py_FinalizeEx();
        return -1;
    }
    gc_python_state = PyEval_SaveThread();
    return 0;
}

/* Ends the interpreter, on the thread of gc_start(), when every heap is closed. */
static inline int gc_stop(void) {
    PyEval_RestoreThread(gc_python_state);
    gc_api = NULL;
    return Py_FinalizeEx();
}
#endif
