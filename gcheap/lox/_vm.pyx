"""The virtual machine: native/*.h, behind one class.

A `Program` belongs to the thread that made it, which is the main thread of the Lox program.
The code it is given must come from the assembler: it is not checked again.
"""
from cpython.array cimport array
from gcheap.core.layout cimport MutatorState
from gcheap.embed.heaps cimport tagged_heap
from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from threading import get_ident

from gcheap.errors import GcheapError

cdef extern from "gcheap_python.h" nogil:
    ctypedef struct gc_heap:
        pass
    ctypedef struct gc_mutator:
        pass
    int gc_import() except -1 with gil
    gc_heap* gc_heap_of_object(object) except NULL with gil
    const char* gc_error_message()
    void gc_enter(gc_mutator*)
    void gc_leave(gc_mutator*)
    void gc_request(gc_heap*)

cdef extern from "gcheap/lox/native/lifetime.h" nogil:
    const int LOX_NATIVE_COUNT, LOX_GLOBALS, LOX_SITES, OP_COUNT, LOX_NEED
    const int LOX_OK, LOX_RUNTIME_ERROR
    const char** lox_opcode_names
    ctypedef struct lox_native_entry:
        const char* name
    const lox_native_entry* lox_natives

    ctypedef struct lox_code:
        const uint32_t* words
        uint64_t* constants
        uint32_t arity
        uint32_t quick_arity
        uint32_t need
        uint32_t cells
        uint32_t length
        uint32_t constant_count
        const uint32_t* lines
        const char* name
        uint64_t name_length
    ctypedef struct lox_unit:
        lox_code* codes
        uint64_t code_count
        uint64_t* constants
        uint64_t constant_count
    ctypedef struct lox_literal:
        uint32_t kind
        double number
        const char* bytes
        uint64_t n
    ctypedef struct lox_cache:
        pass
    ctypedef struct lox_thread:
        gc_mutator* m
        uint64_t output_length
    ctypedef struct lox_program:
        gc_heap* heap
        uint64_t (*unused)(gc_mutator*)
        lox_thread* main
        uint64_t global_count
        uint64_t site_count
        uint32_t failed
        uint32_t stop
        int32_t output_error

    int open_program(lox_program*, gc_heap*, const char*, int, int)
    void close_program(lox_program*)
    int add_natives(lox_thread*)
    int set_arguments(lox_thread*, const lox_literal*, uint64_t)
    int add_global(lox_thread*, const char*, uint64_t)
    int add_site(lox_thread*, const char*, uint64_t)
    int load_unit(lox_thread*, lox_unit*, const lox_literal*)
    void take_back(lox_program*, uint64_t, uint64_t)
    int run_script(lox_thread*, const lox_unit*)
    void reset(lox_thread*)
    void write_output(lox_thread*, uint64_t)
    void wait_for_threads(lox_program*, uint64_t)
    void stop_program(lox_program*)

gc_import()

# The tag rule of NaN-boxed values: native/value.h.
cdef tuple BOXED = (0xFFFC000000000000, 0xFFFC000000000000)

OPCODES = {lox_opcode_names[i].decode(): i for i in range(OP_COUNT)}
NATIVES = [lox_natives[i].name for i in range(LOX_NATIVE_COUNT)]
MOST_GLOBALS = LOX_GLOBALS
MOST_SITES = LOX_SITES
CACHE_WORDS = sizeof(lox_cache) // 8


def make_heap(options):
    """A `gcheap.Heap` for Lox values, with the options of the dict."""
    return tagged_heap(options, BOXED)


cdef class Program:
    """A Lox program on a heap of make_heap(), which nobody else uses.

    `run` executes units one after the other; `close`, on the same thread, ends the program, and
    after it the heap may be closed.
    """
    cdef lox_program* p
    cdef object heap                # keeps it
    cdef object thread              # whose program it is
    cdef bint closed
    cdef int out
    cdef readonly bint loaded       # the last unit's names are the program's

    def __cinit__(self, heap, int out, int err, bytes name):
        self.heap = heap
        self.thread = get_ident()
        self.out = out
        self.p = <lox_program*>calloc(1, sizeof(lox_program))
        if self.p == NULL:
            raise MemoryError
        cdef gc_heap* native = gc_heap_of_object(heap)
        cdef int opened
        cdef const char* text = name
        with nogil:
            opened = open_program(self.p, native, text, out, err)
        self.p.unused = unused_by
        if not opened:
            message = (<bytes>gc_error_message()).decode(errors="replace")
            self.close()
            raise GcheapError(f"a Lox program cannot begin: {message}")

    def __dealloc__(self):
        if self.closed:             # else its words are roots still, of a heap that may collect
            free(self.p)

    cdef int check_thread(self) except -1:
        if get_ident() != self.thread:
            raise GcheapError("a Lox program belongs to the thread that began it, and this is "
                              "another one")
        if self.closed:
            raise GcheapError("this Lox program has ended")
        return 0

    def begin(self, arguments):
        """Defines the natives, the first globals, and what args() returns; True: done."""
        self.check_thread()
        cdef list texts = list(arguments)
        cdef lox_literal* literals = <lox_literal*>calloc(len(texts) + 1, sizeof(lox_literal))
        cdef uint64_t n = len(texts)
        cdef int done
        if literals == NULL:
            raise MemoryError
        for i, text in enumerate(texts):
            fill_literal(&literals[i], text)
        with nogil:
            gc_enter(self.p.main.m)
            done = add_natives(self.p.main) and set_arguments(self.p.main, literals, n)
            finish(self.p)
        free(literals)
        return bool(done)

    def run(self, codes, new_globals, new_sites):
        """Loads a unit and runs its script; the exit status, 0 or 70.

        Where memory ends before it is loaded nothing of it is left: `loaded` says so.
        OSError when output could not be written.
        """
        self.loaded = False
        self.check_thread()
        cdef lox_unit* unit = new_unit(codes)
        cdef list constants = [value for code in codes for value in code.constants]
        cdef lox_literal* literals = <lox_literal*>calloc(len(constants) + 1, sizeof(lox_literal))
        cdef int done = 1, loaded
        cdef uint64_t globals_before = self.p.global_count, sites_before = self.p.site_count
        cdef lox_thread* t = self.p.main
        cdef const char* text
        cdef uint64_t n
        if unit == NULL or literals == NULL:
            free(literals)
            free_unit(unit)
            raise MemoryError
        for i, value in enumerate(constants):
            fill_literal(&literals[i], value)
        with nogil:
            gc_enter(t.m)
        for name in new_globals:
            text, n = name, len(name)
            done = done and add_global(t, text, n)
        for name in new_sites:
            text, n = name, len(name)
            done = done and add_site(t, text, n)
        with nogil:
            loaded = done and load_unit(t, unit, literals)
            if not loaded:
                take_back(self.p, globals_before, sites_before)
            done = loaded and run_script(t, unit)
            finish(self.p)
        free(literals)
        if not loaded:
            free_unit(unit)
        self.loaded = loaded
        if self.p.output_error:
            error = self.p.output_error
            raise OSError(error, strerror_of(error), f"file descriptor {self.out}")
        return LOX_OK if done else LOX_RUNTIME_ERROR

    @property
    def failed(self):
        """Whether a spawned thread had a run-time error."""
        return self.p.failed != 0

    def wait(self):
        """Waits for the threads that the program spawned."""
        self.check_thread()
        with nogil:
            wait_for_threads(self.p, 0)

    def stop(self):
        """Ends the program's threads at their next safepoint; any thread may call it."""
        stop_program(self.p)
        gc_request(self.p.heap)         # the pauses of a cycle are safepoints of every thread

    def close(self):
        self.check_thread()
        with nogil:
            close_program(self.p)
        self.closed = True


cdef uint64_t unused_by(gc_mutator* m) noexcept nogil:
    """Bytes that the TLAB of the calling thread's mutator has left, units not begun included."""
    cdef MutatorState* state = <MutatorState*>m
    return state.tlab_limit - state.tlab_top


cdef str strerror_of(int error):
    import os

    return os.strerror(error)


cdef void finish(lox_program* p) noexcept nogil:
    """The main thread leaves the heap; what it printed is written."""
    reset(p.main)
    gc_leave(p.main.m)
    write_output(p.main, p.main.output_length)


cdef void fill_literal(lox_literal* literal, value):
    """`value` must outlive the literal."""
    if value is None:
        literal.kind = 3
    elif isinstance(value, float):
        literal.kind, literal.number = 0, value
    elif isinstance(value, bytes):
        literal.kind, literal.bytes, literal.n = 1, value, len(value)
    else:
        literal.kind, literal.n = 2, value


cdef lox_unit* new_unit(codes):
    """Codes, words, lines and names in one block, the constants in another; NULL: no memory."""
    cdef lox_unit* unit = <lox_unit*>calloc(1, sizeof(lox_unit))
    cdef uint64_t count = len(codes), nbytes = count * sizeof(lox_code), at, constant = 0
    cdef lox_code* code
    cdef array words, lines
    cdef char* block
    for made in codes:
        nbytes += 8 * len(made.words) + len(made.name or b"") + 8
        constant += len(made.constants)
    block = <char*>calloc(1, nbytes)
    if unit == NULL or block == NULL:
        free(unit)
        free(block)
        return NULL
    unit.codes = <lox_code*>block
    unit.code_count = count
    unit.constant_count = constant
    unit.constants = <uint64_t*>calloc(constant + 1, 8)
    if unit.constants == NULL:
        free_unit(unit)
        return NULL
    at = count * sizeof(lox_code)
    constant = 0
    for i, made in enumerate(codes):
        code = &unit.codes[i]
        words, lines = made.words, made.lines
        code.length = len(words)
        code.arity = made.arity
        code.need = made.need
        code.quick_arity = made.arity if made.need <= LOX_NEED else 0xFFFFFFFF
        code.cells = made.cells
        code.constants = unit.constants + constant
        code.constant_count = len(made.constants)
        constant += code.constant_count
        code.words = <uint32_t*>(block + at)
        memcpy(block + at, words.data.as_chars, 4 * code.length)
        at += 4 * code.length
        code.lines = <uint32_t*>(block + at)
        memcpy(block + at, lines.data.as_chars, 4 * code.length)
        at += 4 * code.length
        if made.name is not None:
            code.name = block + at
            code.name_length = len(made.name)
            memcpy(block + at, <char*>made.name, code.name_length)
            at += (code.name_length + 8) & ~<uint64_t>7
    return unit


cdef void free_unit(lox_unit* unit):
    if unit != NULL:
        free(unit.codes)
        free(unit.constants)
        free(unit)
