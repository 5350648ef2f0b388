"""Fault mode `handler`: faults block in the kernel, and one thread of the heap serves them.

For programs in which SIGBUS belongs to somebody else: debuggers, and runtimes with a handler of
their own.  The descriptor lacks UFFD_FEATURE_SIGBUS and this heap installs no signal handler.
A thread that touches a missing page of the registered range sleeps inside its page fault, and
the **fault server**, the thread "gcheap-faults", reads of it from the descriptor:

    touching thread             kernel                        fault server

    touches a page  --------->  queues a message,  ------->   poll returns, read
                                looks for the page            serving := 1 .. 0 around both:
                                once more, and puts           UNCLAIMED   claim, assemble, place
                                the thread to sleep           .. PLACING  wait for PLACED
                                                              PLACED      zero it, if still missing
    runs the access  <--------  wakes who sleeps on  <------  COPY, MOVE, ZEROPAGE; WAKE
    again                       the pages

What to do follows from the state of the unit alone, and is `serve` of core/fault.pyx: the same
code that a faulting mutator runs under `sigbus`, with a bounce buffer of the server's own (I3).
The whole unit is built, so that its other pages do not fault.

**Who waits for whom.**  A mutator that sleeps in a fault is RUNNING: a pause waits for it, and it
may hold the GIL.  So the server, like a faulting mutator, takes no lock, allocates nothing and
needs no GIL (I4, I5).  It waits for nobody but the owner of a unit, and in this mode that can
only be the compactor, which owns units outside of pauses only and waits for nobody but the
server, for the units that the server owns.  An owner never waits while it owns: no cycle.

**No wake-up is lost.**  A message is queued before the kernel looks for the page a last time, and
every ioctl that brings pages wakes who sleeps on them after they are there, whether their
message was read or not.  So a thread sleeps only while its page is missing and a message of it
can be read or was read.  What may come between the fault and its service:

* *The page was placed by the compactor*, before the message was read, or after.  The compactor's
  ioctl woke the thread.  The unit is PLACED, and whether this page of it arrived or is a hole is
  not known: ZEROPAGE finds out.  It answers EEXIST when it has arrived.
* *Many threads touch one unit*: one message each.  The first builds the unit, the others get
  EEXIST.  The same when a signal lets a thread out of its fault, and it comes back.
* *A whole-moved unit has a hole there*: MOVE wakes threads on holes too; they touch the hole again
  and send another message, which finds the unit PLACED and gets ZEROPAGE.  (A second fault of one
  access needs Linux 5.7.)
* *The range is unregistered.*  All units are PLACED by then (I6), and UNREGISTER wakes everybody:
  the access runs again, on ordinary memory.  ZEROPAGE for a message that is still in hand answers
  ENOENT, and nothing more is to be done.
* *REGISTER is refused* for another space: the range is unregistered before the flip, the cycle
  relocates inside its pause, and a message of that moment needs nothing but WAKE.
* *Before the flip* a thread that has no business there (no mutator knows an address in to-space,
  I6) touches the range.  From-space is still being written: the server waits for the flip.

WAKE after every service costs less than proving for each case that somebody else has done it.

**No service is late.**  A message must not be served in a later cycle, when the same address means
another unit, or none: an innocent thread would look like a wild pointer, or a zero page would
appear in a unit that is not yet built.  `end_faults`, right after UNREGISTER, closes the cycle:

    collector:  UNREGISTER;  WAKE the range;  wait until serving = 0
    server:     serving := 1;  read, serve what was read;  serving := 0

After UNREGISTER no new message can come; WAKE removes those that are queued (a fault that was
under way when UNREGISTER woke the others may have queued one after that).  `serving` is set
before the read, sequentially consistent: when the collector sees 0, a later read finds nothing.
So `h.r` and the unit states stay as they are while the server looks at them.

**The end.**  close() stops the collector first, whose last cycle ends with the server's help; then
nothing is registered and nobody can sleep in a fault.  The bell, an eventfd, gets the server out
of its poll, and it is joined before the descriptor is closed.

**System calls.**  A kernel-mode fault, of a system call that is handed an address in to-space, is
no message: the descriptor is for user mode only, the call answers EFAULT, in both modes.

The message does not say whose fault it is, so all are counted in `faults`, those of threads that
are not attached too.  The time recorded runs from the read to the end of the service.

Sources: Documentation/admin-guide/mm/userfaultfd.rst; handle_userfault, userfaultfd_ctx_read and
userfaultfd_unregister in fs/userfaultfd.c.
"""
from gcheap.core.events cimport new_histogram
from gcheap.core.failpoint cimport (
    FP_HANDLER_POLL, FP_HANDLER_READ, FP_HANDLER_SERVED, FP_THREAD_BELL, FP_THREAD_SERVER,
    FP_UFFD_POLL, FP_UFFD_READ, FP_UFFD_WAKE, failpoint)
from gcheap.core.fault cimport fault_ended, serve
from gcheap.core.layout cimport (
    FaultServer, HeapState, LARGE_SPACES, LargeSpace, MutatorState, PHASE_PLAN, word)
from gcheap.core.native cimport (
    check_that, clock_ns, gcheap_fatal, load32_acquire, load32_seq, sleep_ns, store32_release,
    store32_seq, store64_relaxed, thread_id)
from gcheap.core.poll cimport POLLIN, poll, pollfd
from gcheap.core.space cimport free_bounce, new_bounce
from gcheap.core.threads cimport join_thread, start_thread
from gcheap.core.uffd cimport gc_uffd_msg, uffd_read, uffd_wake
from gcheap.core.units cimport is_registered
from libc.errno cimport EAGAIN, EINTR, ENOMEM, errno
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport strcpy
from posix.unistd cimport close as posix_close, write

cdef extern from "gcheap/native/uffd_abi.h" nogil:
    int GC_EVENT_PAGEFAULT

cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned int, int)
    int EFD_CLOEXEC, EFD_NONBLOCK

cdef enum:
    BATCH = 32                  # messages of one read: no more than a thread each
    WAIT_NS = 20000


cdef void wake(HeapState* h, word at, uint64_t nbytes) noexcept nogil:
    """Who sleeps on these pages touches them again."""
    cdef int error = <int>failpoint(FP_UFFD_WAKE)
    if nbytes == 0:
        return
    if error == 0:
        error = uffd_wake(h.fd, at, nbytes)
    # The range is the heap's own: what the kernel finds wrong with it is a broken invariant.
    check_that(error == 0, b"the kernel refused to wake faulting threads (address, errno)", at,
               <uint64_t>error)


cdef void serve_message(HeapState* h, gc_uffd_msg* message, uint64_t read_at) noexcept nogil:
    cdef MutatorState* m = &h.server.self
    cdef word address = message.words[1]
    cdef uint64_t pages = m.fault_pages, waits = m.fault_waits
    check_that(message.event == GC_EVENT_PAGEFAULT,
               b"an event that was not asked for (event, address)", message.event, address)
    # Acquire: the flip's stores to `r` come before its store of the phase.
    while load32_acquire(&h.phase) == PHASE_PLAN:
        sleep_ns(WAIT_NS)
    store64_relaxed(&m.faults, m.faults + 1)
    if is_registered(h, address):
        serve(h, m, address)
    failpoint(FP_HANDLER_SERVED)
    fault_ended(m, read_at, pages, waits)
    wake(h, address & ~(h.page - 1), h.page)


cdef int serve_batch(HeapState* h) noexcept nogil:
    """Reads once and serves what came; returns how many messages, or minus an errno."""
    cdef gc_uffd_msg messages[BATCH]
    cdef uint64_t read_at
    cdef int count, i
    # Before the read, sequentially consistent: see "No service is late".
    store32_seq(&h.server.serving, 1)
    count = -<int>failpoint(FP_UFFD_READ)
    if count == 0:
        count = uffd_read(h.fd, messages, BATCH)
    if count > 0:
        read_at = clock_ns()
        failpoint(FP_HANDLER_READ)
        for i in range(count):
            serve_message(h, &messages[i], read_at)
    store32_seq(&h.server.serving, 0)
    return count


cdef void await_message(HeapState* h) noexcept nogil:
    """Sleeps until there is a message, or the bell rings."""
    cdef pollfd waited[2]
    cdef int error = <int>failpoint(FP_UFFD_POLL)
    waited[0].fd = h.fd
    waited[1].fd = h.server.bell
    waited[0].events = waited[1].events = POLLIN
    waited[0].revents = waited[1].revents = 0
    if error == 0 and poll(waited, 2, -1) < 0:
        error = errno
    if error:
        check_that(error == EINTR, b"poll of the userfaultfd failed (errno)", error, 0)
        return
    # POLLERR and its like: the descriptor is not ours any more, and faults would block for good.
    check_that(not (waited[0].revents | waited[1].revents) & ~POLLIN,
               b"the userfaultfd broke; was it closed by somebody? (events of it, of the bell)",
               waited[0].revents, waited[1].revents)


cdef void* server_main(void* argument) noexcept nogil:
    cdef HeapState* h = <HeapState*>argument
    cdef int count
    # Relaxed: a trace names its track by it.
    store64_relaxed(<uint64_t*>&h.server.self.thread_id, <uint64_t>thread_id())
    while not load32_acquire(&h.server.stop):
        failpoint(FP_HANDLER_POLL)
        count = serve_batch(h)
        if count > 0:
            continue                    # there may be more
        if count != -EAGAIN and count != -EINTR:
            gcheap_fatal(b"the userfaultfd cannot be read (errno)", <uint64_t>-count, 0)
        await_message(h)
    return NULL


cdef FaultServer* new_server(HeapState* h) noexcept nogil:
    """NULL when memory is out.  release_heap frees it: stats() reads it until then."""
    cdef FaultServer* s = <FaultServer*>calloc(1, sizeof(FaultServer))
    if s == NULL:
        return NULL
    s.bell = -1
    s.self.heap = h
    strcpy(s.self.name, b"gcheap-faults")
    s.self.fault_hist = new_histogram()
    if s.self.fault_hist == NULL:
        free(s)
        return NULL
    return s


cdef int start_fault_server(HeapState* h) noexcept nogil:
    """Starts the thread that serves the faults of `h`, whose descriptor is open without SIGBUS.

    Returns an errno; stop_fault_server is due whatever it returns.
    """
    cdef int error = <int>failpoint(FP_THREAD_BELL)
    if h.server == NULL:
        h.server = new_server(h)
        if h.server == NULL:
            return ENOMEM
    if error == 0 and h.server.self.bounce == 0:
        error = new_bounce(h, &h.server.self.bounce)
    if error:
        return error
    h.server.bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
    if h.server.bell < 0:
        return errno
    store32_release(&h.server.stop, 0)
    error = <int>failpoint(FP_THREAD_SERVER)
    if error:
        return error
    return start_thread(&h.server.thread, b"gcheap-faults", server_main, h)


cdef void stop_fault_server(HeapState* h) noexcept nogil:
    """Ends the thread, if there is one.  The collector has stopped: nothing is registered."""
    cdef uint64_t once = 1
    if h.server == NULL:
        return
    store32_release(&h.server.stop, 1)
    if h.server.thread:
        write(h.server.bell, &once, sizeof(once))
        join_thread(&h.server.thread)
    forget_fault_server(h)
    free_bounce(h, h.server.self.bounce)
    h.server.self.bounce = 0


cdef void forget_fault_server(HeapState* h) noexcept nogil:
    """Lets go of a thread that has ended, or that a forked child does not have."""
    if h.server == NULL:
        return
    h.server.thread = 0
    h.server.serving = 0
    if h.server.bell >= 0:
        posix_close(h.server.bell)
        h.server.bell = -1


cdef void end_faults(HeapState* h) noexcept nogil:
    """Nothing is registered any more: returns when no message of this cycle is left, neither
    in the kernel nor in the server's hands."""
    cdef LargeSpace* s
    cdef int i
    if h.server == NULL:
        return
    wake(h, h.r.to_base, h.r.registered_bytes)
    for i in range(LARGE_SPACES):
        s = &h.large[i]
        wake(h, s.to_base, s.registered << s.shift)
    while load32_seq(&h.server.serving):
        sleep_ns(WAIT_NS)
