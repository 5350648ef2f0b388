"""The fault path: SIGBUS on a page that has not arrived.

With UFFD_FEATURE_SIGBUS the kernel does not block a thread that touches a missing page of a
registered range: it sends that thread SIGBUS, and the thread builds the page's whole unit
itself, places it, and runs the instruction again.  What to do follows from the state of the
unit alone:

    UNCLAIMED              claim it; won: assemble and place it.  Lost: as the next line
    ASSEMBLING .. PLACING  wait until its owner has placed it
    PLACED                 the page is a hole of a whole-moved unit: zero it.  Without this the
                           thread would fault on it forever
    beyond the plan        a wild pointer: say so and abort

Races with the end of a relocation: the collector leaves PHASE_RELOCATE before it unregisters,
so a thread that finds another phase, or whose ioctl says that nothing is registered, just
runs its instruction again.

The handler is plain C-level code: it touches from-space, side tables and its own stack, takes
no lock, allocates nothing, preserves errno (I4).  Its mask holds every signal, because a
handler that left the thread while it owns a unit would hang all waiters.  A SIGBUS that is
not ours goes to whoever had the handler before us.  `faulthandler.enable()` and `disable()`
replace our handler without a word, so it is checked before each REGISTER (`ensure_handler`).

With faults="handler" none of the signal part is used, and a thread of the heap calls `serve`:
see core/handler.pyx.

Source: SigbusHandler of Android ART's mark-compact collector.
"""
from gcheap.core.events cimport hist_record
from gcheap.core.failpoint cimport FP_MUTATOR_FAULT, FP_MUTATOR_WAIT, failpoint
from gcheap.core.layout cimport HeapState, MutatorState, PHASE_RELOCATE, PLACED, word
from gcheap.core.native cimport (
    add64_relaxed, clock_ns, gcheap_fatal, load32_acquire, load64_acquire, mutex_lock,
    mutex_unlock, set_errno, sleep_ns, store64_relaxed, store64_release)
from gcheap.core.place cimport place_hole
from gcheap.core.records cimport FAULT_BUILT, FAULT_HOLE, FAULT_WAITED, TRACE_FAULT
from gcheap.core.relocate cimport build_unit
from gcheap.core.safepoint cimport thread_mutator
from gcheap.core.trace cimport trace_slice, tracing
from gcheap.core.units cimport claim, is_registered, state_of, unit_at, unit_size, wait_placed
from libc.errno cimport ENOSPC, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

cdef extern from "<signal.h>" nogil:
    ctypedef struct sigset_t:
        pass
    ctypedef struct siginfo_t:
        int si_code
        int si_pid
        void* si_addr
    ctypedef void (*info_handler)(int, siginfo_t*, void*) noexcept nogil
    ctypedef void (*plain_handler)(int) noexcept nogil
    struct sigaction_t "sigaction":
        plain_handler sa_handler
        info_handler sa_sigaction
        sigset_t sa_mask
        int sa_flags
    int sigaction(int, const sigaction_t*, sigaction_t*)
    int SIGBUS, SA_SIGINFO, BUS_ADRERR, SI_TKILL
    plain_handler SIG_DFL, SIG_IGN

cdef extern from "<unistd.h>" nogil:
    int getpid()

cdef enum:
    MAX_HEAPS = 256             # heaps with a userfaultfd, alive at once in one process
    FINISH_NS = 20000

cdef struct Watched:
    uint64_t start              # the heap's reservation; 0: free.  Atomic
    uint64_t nbytes
    uint64_t heap

# Written by watch and unwatch, read by the handler, which looks at a heap only for an address
# inside its reservation: then a mutator is running in it, and so it exists.
cdef Watched watched[MAX_HEAPS]
cdef uint32_t watch_lock = 0
cdef sigaction_t previous
cdef uint64_t foreign_chained = 0
cdef uint32_t install_lock = 0

cdef extern from *:
    """
    /* Set while this thread is inside a handler that we called. */
    static __thread int gcheap_chaining __attribute__((tls_model("initial-exec")));
    """
    int chaining "gcheap_chaining"


cdef bint serve(HeapState* h, MutatorState* m, word address) noexcept nogil:
    """Makes the page at `address` of a relocating heap appear.

    m   whose bounce buffer and counters to use: the faulting thread's mutator, the fault
        server's own, or NULL, which can only wait

    False: the range is no longer registered, and the access can be run again.
    """
    cdef word end
    cdef uint64_t unit = unit_at(h, address, &end)
    if address >= end:
        gcheap_fatal(b"an access beyond the objects: a wild pointer (address, end)", address, end)
    failpoint(FP_MUTATOR_FAULT)
    if state_of(h, unit) == PLACED:
        return place_hole(h, address & ~(h.page - 1))
    if m != NULL and claim(h, unit):
        # Counted first: the thread that is woken finds its own fault in the statistics.
        store64_relaxed(&m.fault_pages, m.fault_pages + unit_size(h, unit) // h.page)
        build_unit(h, m, unit)
        return True
    # Somebody else's, or a thread without a bounce buffer of its own: the compactor comes by.
    if m != NULL:
        store64_relaxed(&m.fault_waits, m.fault_waits + 1)
    failpoint(FP_MUTATOR_WAIT)
    wait_placed(h, unit)
    return True


cdef void fault_ended(MutatorState* m, uint64_t started, uint64_t pages,
                      uint64_t waits) noexcept nogil:
    """Counts the time of a fault served by the calling thread with `m`, whose counters were `pages`
    and `waits` before."""
    cdef uint32_t how = FAULT_HOLE
    hist_record(m.fault_hist, clock_ns() - started)
    if tracing(m.heap):
        pages = m.fault_pages - pages
        if pages:
            how = FAULT_BUILT
        elif m.fault_waits > waits:
            how = FAULT_WAITED
        trace_slice(m, TRACE_FAULT, how, pages, started)


cdef void pass_on(int number, siginfo_t* info, void* context) noexcept nogil:
    """A SIGBUS that is none of ours: the earlier handler's, or the end of the process."""
    global chaining
    cdef sigaction_t default
    # A handler that we call may itself end up here again: because it calls *its* predecessor,
    # which may be this one, or because, as faulthandler does, it restores that predecessor and
    # raises the signal anew.  The second round ends the process instead of looping.
    cdef bint again = chaining or (info.si_code == SI_TKILL and info.si_pid == getpid()
                                   and load64_acquire(&foreign_chained))
    if info.si_code > 0:
        store64_release(&foreign_chained, 1)
    if not again and previous.sa_flags & SA_SIGINFO:
        chaining = 1
        previous.sa_sigaction(number, info, context)
        chaining = 0
        return
    if not again and previous.sa_handler != SIG_DFL and previous.sa_handler != SIG_IGN:
        chaining = 1
        previous.sa_handler(number)
        chaining = 0
        return
    if info.si_code <= 0 and not again and previous.sa_handler == SIG_IGN:
        return
    memset(&default, 0, sizeof(default))
    default.sa_handler = SIG_DFL
    sigaction(SIGBUS, &default, NULL)
    if info.si_code <= 0:
        raise_signal(SIGBUS)            # delivered when this handler returns


cdef extern from "<signal.h>" nogil:
    int raise_signal "raise"(int)


cdef void on_sigbus(int number, siginfo_t* info, void* context) noexcept nogil:
    cdef int saved = errno
    cdef word address = <word>info.si_addr
    cdef HeapState* h
    cdef MutatorState* m
    cdef uint64_t start, started, pages = 0, waits = 0
    cdef int i
    if info.si_code == BUS_ADRERR:
        for i in range(MAX_HEAPS):
            start = load64_acquire(&watched[i].start)
            if start == 0 or address - start >= watched[i].nbytes:
                continue
            h = <HeapState*>watched[i].heap
            # Acquire: the flip's stores to `r` come before its store of the phase.
            if (load32_acquire(&h.phase) == PHASE_RELOCATE
                    and is_registered(h, address)):
                started = clock_ns()
                m = thread_mutator(h)
                if m != NULL:
                    pages = m.fault_pages
                    waits = m.fault_waits
                serve(h, m, address)
                if m != NULL:
                    store64_relaxed(&m.faults, m.faults + 1)
                    fault_ended(m, started, pages, waits)
                else:
                    add64_relaxed(&h.foreign_faults, 1)
            else:
                # The range is being unregistered, and the access runs again.  The sleep lets
                # the collector do so even when this thread has the higher priority.
                sleep_ns(FINISH_NS)
            set_errno(saved)
            return
    pass_on(number, info, context)
    set_errno(saved)


cdef bint install() noexcept nogil:
    """Puts our handler in place, unless it is there; says whether somebody else's was."""
    global previous
    cdef sigaction_t ours, now
    cdef bint foreign
    mutex_lock(&install_lock)       # collectors of several heaps come here
    sigaction(SIGBUS, NULL, &now)
    foreign = not (now.sa_flags & SA_SIGINFO and now.sa_sigaction == on_sigbus)
    if foreign:
        previous = now
        memset(&ours, 0, sizeof(ours))
        ours.sa_sigaction = on_sigbus
        ours.sa_flags = SA_SIGINFO
        # Not sigfillset, which leaves out the signal of pthread_cancel: a thread that is ended
        # asynchronously must place its unit first.
        memset(&ours.sa_mask, 0xFF, sizeof(ours.sa_mask))
        sigaction(SIGBUS, &ours, NULL)
    mutex_unlock(&install_lock)
    return foreign


cdef void ensure_handler(HeapState* h) noexcept nogil:
    """Puts our handler back if somebody replaced it; theirs is called for what is not ours.
    A heap whose faults a thread serves leaves SIGBUS to the program."""
    if h.server == NULL and install():
        add64_relaxed(&h.handler_reinstalls, 1)


cdef int watch_heap(HeapState* h) noexcept nogil:
    """Makes faults in the heap's reservation ours.  Returns ENOSPC when MAX_HEAPS are."""
    cdef int i, error = ENOSPC
    install()
    mutex_lock(&watch_lock)
    for i in range(MAX_HEAPS):
        if watched[i].start == 0:
            watched[i].heap = <uint64_t>h
            watched[i].nbytes = h.reservation_bytes
            store64_release(&watched[i].start, h.reservation)
            error = 0
            break
    mutex_unlock(&watch_lock)
    return error


cdef void unwatch_heap(HeapState* h) noexcept nogil:
    cdef int i
    mutex_lock(&watch_lock)
    for i in range(MAX_HEAPS):
        if watched[i].start and watched[i].heap == <uint64_t>h:
            store64_release(&watched[i].start, 0)
    mutex_unlock(&watch_lock)


cdef void lock_fault_path() noexcept nogil:
    mutex_lock(&watch_lock)
    mutex_lock(&install_lock)


cdef void unlock_fault_path() noexcept nogil:
    mutex_unlock(&install_lock)
    mutex_unlock(&watch_lock)
