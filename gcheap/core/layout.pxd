"""The data model: every structure that more than one part of the core reads or writes.

Addresses are `word`s; an object is 8-byte aligned: one header word, then reference slots,
then raw bytes.  An array has its length (elements) in a second word before its elements.

A heap owns two equal halves of address space.  One holds the objects; a cycle slides the
live ones into the other.  `unit` is the grain of TLABs, claiming, assembly and placement;
`block` (512 bytes, 64 words) is the grain of the live bitmap and its prefix sums.
"""
from gcheap.core.records cimport (
    CAUSES, Cause, CauseTotals, Events, Histogram, IOCTL_KINDS, IoctlCounts, PauseKind, PauseRecord,
    TraceRing, Tracing)
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

ctypedef uint64_t word

cdef enum:
    WORD = 8                    # bytes
    BLOCK_WORDS = 64
    BLOCK_BYTES = 512
    NO_START = 64               # Block.first_start: no object starts in this block

# ---- objects ---------------------------------------------------------------------------

cdef enum ShapeKind:
    SHAPE_FIXED = 0             # header, `refs` slots, raw bytes
    SHAPE_SLOTS = 1             # header, length, length slots
    SHAPE_RAW = 2               # header, length, length * item bytes

cdef struct ShapeInfo:
    uint64_t bytes              # SHAPE_FIXED: whole object, a multiple of 8, at least 16
    uint32_t kind
    uint32_t refs               # SHAPE_FIXED: slots
    uint64_t item               # SHAPE_RAW: bytes per element
    uint64_t tag_mask           # a slot word w is a reference when (w & mask) == bits
    uint64_t tag_bits           # ... and w & ~mask is not 0; its address is w & ~mask

cdef enum:
    MAX_SHAPES = 65536
    SHAPE_SLOT_ARRAY = 1        # predefined: m.new_slots
    SHAPE_BYTES = 2             # predefined: m.new_bytes

# ---- side tables of one cycle ------------------------------------------------------------

cdef struct Block:              # 512 bytes of from-space; one cache line holds four
    uint64_t live               # a bit per word of a live object
    uint32_t before             # live words in all blocks below
    uint32_t first_start        # word offset of the lowest live object start, or NO_START

cdef struct Straddle:           # what lies at the start of a unit when an object runs into it
    uint64_t words              # words of that object in this unit
    uint64_t slots              # how many of them, from the first, are slots
    uint32_t shape
    uint32_t skip               # words before the first slot: 1 when it is cut after its header

cdef struct UnitPlan:           # how to build one slid unit of to-space
    uint64_t first              # from-space word index of its first live word
    uint32_t words              # that it holds; the rest is zero
    uint32_t whole              # 1: a dense chunk of from-space that moves as it is
    Straddle straddle

# ---- large objects: core/large.pyx -----------------------------------------------------------

cdef enum:                      # the first two: indices of HeapState.large
    LARGE_RUNS = 0              # slot arrays, and raw ones below HUGE_LEAST; grain: a unit
    LARGE_HUGE = 1              # raw arrays of HUGE_LEAST bytes and more; grain: 2 MiB
    LARGE_SPACES = 2
    HUGE = 2 << 20              # bytes of a huge page
    HUGE_LEAST = 8 << 20        # rounding to huge pages costs at most a quarter

cdef struct LargeRun:           # one a grain; all but `first` mean something at an object's first
    uint64_t bytes              # of the object that starts at this grain; 0: none does
    uint32_t shape
    uint32_t epoch              # atomic: of the last marking that reached it
    uint32_t first              # the grain at which the object that covers this one starts
    uint32_t other              # from-space: the grain it goes to; to-space: where it comes from
    uint32_t seen               # verification's own
    uint32_t unused

cdef struct LargeSpace:         # two halves of its own; grains are counted from a half's base
    uint64_t top                # atomic: grains handed out in the current half
    uint64_t limit              # atomic: mutators wait for the flip beyond it
    uint64_t half_bytes
    uint64_t half_grains
    uint64_t first_state        # where its grains begin in HeapState.states
    uint32_t shift              # log2(bytes of a grain)
    uint32_t unused
    word base[2]
    LargeRun* runs[2]
    # One cycle's relocation.
    word from_base
    word to_base
    LargeRun* from_runs
    LargeRun* to_runs
    uint64_t tams               # top at mark start
    uint64_t from_grains        # top at the flip: what forwarding maps
    uint64_t slid               # grains of marked objects
    uint64_t grains             # slid and black: planned for placement
    uint64_t black_shift        # to-space minus from-space grain of black objects, modulo 2^64
    uint64_t registered         # grains

cdef struct PinnedSpace:        # core/pinned.pyx; one entry a page
    word base
    uint64_t nbytes
    uint64_t pages
    LargeRun* runs
    uint32_t shift              # log2(bytes of a page)
    uint32_t lock               # guards the entries, cursor and top
    uint64_t cursor             # where the search for a place begins
    uint64_t top                # no object lies above this page
    uint64_t raised             # nor one that was placed since the last sweep began above this one
    uint64_t used               # atomic: bytes, whole pages

cdef enum UnitState:            # see core/units.pyx for the protocol
    UNCLAIMED = 0
    ASSEMBLING = 1
    ASSEMBLED = 2
    PLACING = 3
    PLACED = 4

cdef enum PlacedBy:             # who built a unit: for whoever looks at it
    PLACED_BY_COMPACTOR = 0
    PLACED_BY_MUTATOR = 1       # in a fault; faults="handler": the fault thread, for a mutator

cdef enum ChunkState:           # a unit-sized, aligned chunk of from-space
    CHUNK_IN_USE = 0            # some unit that reads from it is not PLACED
    CHUNK_FREE = 1              # evacuated: may be a buffer, or be released
    CHUNK_TAKEN = 2             # somebody's assembly buffer, or moved away

cdef enum Backend:
    BACKEND_MOVE = 0
    BACKEND_COPY = 1
    BACKEND_STW = 2

cdef enum Phase:
    PHASE_IDLE = 0
    PHASE_MARK = 1
    PHASE_PLAN = 2
    PHASE_RELOCATE = 3          # from the flip until every unit is PLACED
    PHASE_FINISH = 4

cdef struct AddressSet:         # object addresses of the reservation; see core/addresses.pyx
    word low                    # what bit 0 stands for
    uint64_t span               # bytes of address space covered
    uint64_t* bits              # one a word of the heap; NULL: not opened
    uint8_t* groups             # one a GROUP_WORDS of bits: 0, none of them is set
    uint64_t bytes              # of both tables: one mapping

# ---- the write barrier's log ---------------------------------------------------------------

cdef enum:
    SATB_ENTRIES = 1021

cdef struct SatbBuffer:         # old values of overwritten slots; see core/satb.pyx
    SatbBuffer* next
    uint64_t count
    uint64_t read               # entries that the marker has looked at; its own
    word entry[SATB_ENTRIES]

# ---- mutators ----------------------------------------------------------------------------

cdef struct HeapState           # below; mutators point back to it

cdef enum MutatorRun:           # MutatorState.run
    OUTSIDE = 0                 # not in the heap: may block, may hold the GIL, does not count
    RUNNING = 1                 # may touch objects; every pause waits for it
    PARKED = 2                  # stopped at a safepoint inside a running stretch

cdef enum:
    SHADOW_WORDS = 1 << 20      # capacity of one shadow stack (address space; touched lazily)

cdef struct MutatorState:
    # The hot line: what inline allocation touches.  The first six are `struct gc_mutator` of
    # gcheap.h, which compiled programs rely on.
    word tlab_top
    word tlab_end               # end of the current unit: no small object crosses it
    HeapState* heap
    word* shadow_top
    word* shadow_end
    void* user                  # the embedder's
    word tlab_limit             # end of the TLAB (whole units)
    uint32_t run                # MutatorRun; see core/safepoint.pyx
    uint32_t detached
    word tlab_start             # where tlab_top stood when allocation was last accounted
    SatbBuffer* satb            # old values logged while marking is on, or NULL
    # Cold.
    word* shadow
    word bounce                 # a unit-sized, pre-faulted buffer of this mutator's own (I3)
    uint64_t allocated          # bytes of objects, accounted up to tlab_start
    uint32_t handle_free        # private chain of free handles, 0 = none
    uint32_t tlab_changes       # odd while the TLAB is being replaced: a seqlock for stats()
    uint32_t owners             # atomic: the thread and the Python object; the last frees it
    uint32_t no_memory          # 1: its last stall failed because the kernel had no memory
    uint64_t faults
    uint64_t fault_pages        # pages this mutator placed in faults
    uint64_t fault_waits        # faults on a unit somebody else owned
    uint64_t stalls
    uint64_t stall_ns
    uint64_t stall_max_ns
    Histogram* fault_hist       # ns in the fault path
    uint64_t hash_state         # of the generator of identity hashes
    int64_t thread_id
    MutatorState* next          # the heap's list
    MutatorState* thread_next   # the thread's list: one mutator a heap
    word tlab_hidden            # collect_every: where tlab_end really is; see core/stress.pyx
    uint64_t since_cycle        # collect_every: allocations since this mutator asked for one
    uint32_t flips              # HeapState.flips when this thread last made sure of SIGBUS
    char name[32]
    TraceRing* ring             # atomic; NULL: there is none

# ---- the thread that serves faults -------------------------------------------------------

cdef struct FaultServer:        # faults="handler"; see core/handler.pyx
    MutatorState self           # attached to nothing: its bounce buffer and its counters
    unsigned long thread
    int bell                    # eventfd: rung to stop the thread, -1 when there is none
    uint32_t stop
    uint32_t serving            # atomic: 1 from before a read until what it gave is served

# ---- handles -----------------------------------------------------------------------------

cdef enum:
    HANDLE_CHUNK = 4096
    HANDLE_CHUNKS = 65536
    HANDLE_DROPPED = 0x80000000     # HandleChunk.link: free; the low bits link the chain

cdef enum ObserverLevel:        # whether a handle counts as a root in introspection
    OBSERVER_NONE = 0           # it does
    OBSERVER_REF = 1            # handed out by introspection: explains nobody's life
    OBSERVER_CURSOR = 2         # introspection's own bookmark: keeps its object, says nothing

cdef struct HandleChunk:
    word value[HANDLE_CHUNK]        # an address; meaningless while the handle is free
    uint32_t link[HANDLE_CHUNK]     # 0: live; else HANDLE_DROPPED | next free index
    uint8_t observer[HANDLE_CHUNK]  # ObserverLevel

cdef struct RootArea:           # words of an embedder's own that are roots; see core/roots.pyx
    RootArea* next
    MutatorState* owner         # it ends with it
    word* base
    const uint64_t* count       # how many words are roots now
    uint64_t tag_mask
    uint64_t tag_bits

# ---- listening -----------------------------------------------------------------------------

cdef enum EventKind:            # gc_event.kind of gcheap.h
    EVENT_REQUESTING_STOP = 0
    EVENT_MUTATORS_STOPPED = 1
    EVENT_RESTARTING_MUTATORS = 2
    EVENT_MARKED = 3
    EVENT_FLIPPED = 4
    EVENT_RELOCATED = 5
    EVENT_MUTATOR_ADDED = 6
    EVENT_MUTATOR_STOPPING = 7
    EVENT_MUTATOR_RESTARTED = 8
    EVENT_MUTATOR_REMOVED = 9

cdef struct Event:              # gc_event of gcheap.h
    uint32_t kind
    uint32_t pause              # PauseKind
    uint64_t cycle
    MutatorState* mutator

ctypedef void (*Listener)(void* data, HeapState* h, const Event* event) noexcept nogil

# ---- one cycle's relocation ----------------------------------------------------------------

cdef struct Relocation:
    word from_base
    uint64_t from_bytes         # [from_base, from_base + from_bytes) is what forwarding maps
    uint64_t tams_bytes         # top at mark start, relative to from_base; unit-aligned
    uint64_t black_shift        # to_base-relative minus from_base-relative offset of black units
    word to_base
    uint64_t slid_words         # live words below TAMS, and wasted ones
    uint64_t wasted_words       # garbage inside dense runs, padding before them
    uint64_t dense_units        # slid units that move whole
    uint64_t slid_units
    uint64_t units              # slid + black units: planned for assembly
    uint64_t registered_bytes   # R - to_base
    uint32_t backend            # this cycle's: stw when to-space could not be registered
    uint64_t chunks             # from-space chunks that may be recycled: those below TAMS
    uint64_t take_cursor        # compactor only: below it nothing is FREE any more
    uint64_t release_cursor     # compactor only
    uint64_t free_hint          # atomic: a chunk that was freed lately
    uint32_t waiters            # atomic: threads waiting for any unit; a batch ends early for them
    uint32_t unused

cdef enum:
    WAIT_SHARDS = 64

cdef struct Mapped:             # what the tables describe, for core/pagemap.pyx; atomic
    uint64_t sequence           # 1 + the flips so far; 0: nothing, from a plan to its flip
    uint64_t chunks             # from-space chunks whose live words the plan has counted
    uint64_t from_units         # of from-space at the flip
    uint64_t units              # of to-space, to be placed
    uint64_t gap_end            # the unit from which on allocation went on: between them is nothing
    uint64_t old_gap            # of the old half
    uint64_t old_gap_end
    uint64_t grains[LARGE_SPACES]
    uint64_t from_grains[LARGE_SPACES]
    uint64_t grain_gap_end[LARGE_SPACES]
    uint64_t old_grain_gap[LARGE_SPACES]
    uint64_t old_grain_gap_end[LARGE_SPACES]

# ---- stress and verification -----------------------------------------------------------------

cdef struct StressModes:        # set when the heap is made; see core/stress.pyx
    uint64_t collect_every      # a full cycle at so many allocations of a mutator; 0: off
    uint64_t place_delay_ns     # before every placement
    uint32_t always_relocate
    uint32_t unused

cdef struct Verification:       # what the checks keep from phase to phase; see core/verify.pyx
    uint64_t placed_before      # bytes moved and copied up to this cycle's flip
    uint64_t floating_bytes     # marked by the last cycle, though nothing reached them at Mark End
    uint32_t closed_half        # 1 + the half that is inaccessible now; 0: neither
    uint32_t unused
# ---- pacing, stalls, exhaustion ------------------------------------------------------------

cdef enum PolicyKind:           # gcheap/policy.py has one class for each
    POLICY_FIXED = 0
    POLICY_FACTOR = 1
    POLICY_MEMBALANCER = 2

cdef struct Pacing:             # when a cycle starts; see core/pacing.pyx
    # The policy: written before the collector starts, never again.
    uint32_t policy             # PolicyKind
    uint32_t unused
    double factor               # POLICY_FACTOR: limit = live * factor
    double c                    # POLICY_MEMBALANCER: collector seconds per second, a byte
    uint64_t minimum            # bytes: the limit is never lower
    uint64_t idle_ns            # a heap that allocates nothing for so long is collected; 0: never
    # Asked for by any thread, atomic.
    uint64_t shrink_ticket      # cycles up to this one give back what they can at once
    # Results, atomic: the collector writes, any thread reads.
    uint64_t limit              # soft heap size, bytes of objects
    uint64_t peak_limit
    # Measured; the collector's own.
    double rate                 # bytes/s that a cycle must expect: quick to rise, slow to fall
    double flip_seconds         # from the start of a cycle until room is back: the same
    double rate_between         # bytes/s from the end of the last cycle to the start of this one
    uint64_t stalls_begun       # stalls so far when the last cycle began
    double allocated_bytes      # sums that forget: their quotients are smoothed speeds
    double allocated_seconds
    double marked_bytes
    double marked_seconds
    uint64_t begun_bytes        # handed_out when the last cycle began
    uint64_t begun_cpu_ns
    uint64_t ended_bytes        # ... and when it ended
    uint64_t ended_ns
    uint64_t idle_bytes         # handed_out when allocation was last seen to go on
    uint64_t idle_since_ns
    uint64_t table_bytes        # side tables may hold pages for so many bytes of a half

cdef struct Stalls:             # see core/stalls.pyx
    uint32_t lock               # futex mutex: the histogram
    uint32_t waiting            # atomic: threads in a stall now
    uint64_t warning_ns         # a longer stall is reported; 0: none is
    uint64_t warned_ns          # atomic: when the last line was written
    uint64_t suppressed         # atomic: lines not written since then
    Histogram* hist

cdef struct ShapeTotal:
    uint64_t bytes
    uint64_t objects

cdef enum:
    SURVEY_TOP = 3

cdef struct Survey:             # what filled the heap, by shape; see core/shapes_census.pxd
    uint32_t lock               # futex mutex: all but `count`
    uint32_t found              # entries of `top`, largest first
    uint32_t top_shape[SURVEY_TOP]
    ShapeTotal top[SURVEY_TOP]
    ShapeTotal all
    ShapeTotal* count           # per shape; the marker's own

# ---- the heap ----------------------------------------------------------------------------

cdef enum EngineState:          # HeapState.engine; see core/engine.pyx
    ENGINE_ON = 0               # descriptor and collector thread are there
    ENGINE_COLD = 1             # a forked child, before anything needed a cycle
    ENGINE_STARTING = 2
    ENGINE_OFF = 3              # the heap ends: never to be started again

ctypedef void (*EngineStart)(HeapState* h) noexcept nogil

cdef struct HeapState:
    # Read-mostly.  The first seven are `struct gc_heap` of gcheap.h: compiled programs rely on it.
    uint32_t pause              # futex word: 1 while mutators must stop
    uint32_t phase              # Phase; atomic
    uint32_t marking            # 1: the write barrier logs; changes only inside pauses
    uint32_t flips              # so far, modulo 2^32; changes only inside pauses
    ShapeInfo* shapes
    uint64_t tag_mask           # the heap's rule, for roots in shadow stacks, and table values
    uint64_t tag_bits
    uint64_t unit_bytes
    uint64_t unit_words
    uint64_t tlab_bytes
    uint64_t page
    uint64_t unit_pages
    uint32_t unit_shift         # log2(unit_bytes)
    uint32_t backend
    uint32_t verify
    uint32_t batch_units        # most units placed by one ioctl of the compactor
    uint64_t capacity
    uint64_t half_bytes
    uint64_t half_units
    int huge_advice             # madvise for LARGE_HUGE, -1: none
    uint64_t large_bytes        # objects above this live in a large space
    word reservation            # guard | half | guard | half | guard
    uint64_t reservation_bytes
    word base[2]
    int fd                      # the userfaultfd, -1 under stw
    uint32_t closed
    uint32_t forked             # a forked child of a fork="none" heap: nothing works any more
    FaultServer* server         # NULL: faulting threads serve themselves (sigbus)
    uint64_t safepoint_warning_ns   # 0: never warn of a mutator that does not stop
    uint64_t pause_warning_ns   # a pause that takes longer is reported; 0: none is
    uint64_t pause_warned_ns    # when that was last done; under events.lock, as the next
    uint64_t pauses_unsaid

    # Side tables.
    Block* blocks
    UnitPlan* plan
    uint8_t* states             # UnitState per to-space unit, then per large grain; atomic
    uint8_t* placed_by          # PlacedBy, in the same order; written by the unit's owner
    uint8_t* chunk_states       # ChunkState per from-space chunk; atomic
    uint32_t* readers           # per from-space chunk: units that read it and are not PLACED
    word* mark_stack            # of the collector
    uint64_t* visited           # verification's own bitmaps: words covered, then object starts
    uint64_t side_bytes         # address space of the tables above
    word staging                # the compactor's own buffer, batch_units long

    # Allocation (atomic).
    uint32_t current            # which half holds the objects
    uint32_t shape_count        # release: entries below it are complete
    uint64_t top                # bytes handed out in the current half
    uint64_t alloc_limit        # mutators wait for the flip beyond it
    uint64_t used               # bytes of objects, as capacity counts them
    uint64_t goal               # a cycle starts when `used` passes it
    uint64_t headroom           # ... or when less address space than this is left
    uint64_t live_bytes         # after the last cycle
    uint64_t wasted_bytes       # garbage and padding that the last relocation kept
    uint64_t handed_out         # bytes ever given to TLABs and large runs

    Relocation r
    Mapped mapped
    LargeSpace large[LARGE_SPACES]
    PinnedSpace pinned
    uint32_t epoch              # of the last marking begun; changes only inside pauses
    uint32_t large_keys         # atomic: 1 once a large object was a key of a weak table

    uint64_t satb_full          # SatbBuffer*: lock-free chain of buffers for the marker

    Pacing pacing
    Stalls stalls
    Survey survey

    # Safepoints and the mutator list.
    uint32_t list_lock          # futex mutex; protects `mutators`; held for a whole pause
    uint32_t arrivals           # futex word: bumped when a mutator stops during a pause
    MutatorState* mutators
    MutatorState retired        # their fault and stall counters
    Histogram* reach_hist       # time to safepoint

    # Handles.
    HandleChunk** handles
    uint32_t handle_lock
    uint32_t handle_high        # indices below it exist; index 0 is never used
    uint32_t handle_dropped     # head of the lock-free chain of dropped handles

    # Root areas; see core/roots.pyx.
    RootArea* areas
    uint32_t area_lock          # futex mutex: the list; taken RUNNING, or with list_lock held

    # Who is told of pauses and phases; see core/listener.pxd.
    Listener listener           # atomic; NULL: nobody
    void* listener_data

    # Collector thread.
    uint64_t requested          # cycle tickets
    uint64_t started
    uint64_t finished
    uint32_t kick               # futex word: the collector sleeps on it
    uint32_t progress           # futex word: bumped at every flip and finish
    uint32_t stop_collector
    uint32_t collector_alive
    unsigned long collector_thread
    uint64_t full_ticket        # cycles up to this one compact whatever they win
    uint64_t asked[CAUSES]      # by Cause: the greatest ticket drawn for it
    uint32_t automatic_off      # atomic: no cycle is asked for by goal
    uint32_t starving           # atomic: threads whom the kernel has refused memory for long
    CauseTotals totals[CAUSES]

    # Frozen objects: roots until unfrozen.  See core/frozen.pyx.
    AddressSet frozen
    uint64_t frozen_count       # atomic; 0: `frozen` need not be looked at
    uint32_t frozen_lock        # taken with list_lock held, or by the collector

    # Waiting for units: sharded futex words.
    uint32_t unit_event[WAIT_SHARDS]
    uint32_t unit_waiters[WAIT_SHARDS]

    # Counters (atomic unless the collector alone writes them).
    uint64_t relocations
    uint64_t moved_bytes
    uint64_t copied_bytes
    uint64_t skipped_bytes      # zero pages that became holes instead of being copied
    uint64_t zeroed_bytes
    uint64_t recycled_bytes     # evacuated from-space pages used again as buffers
    uint64_t pool_bytes         # evacuated, and neither used again nor given back yet
    uint64_t released_bytes     # given back by madvise
    uint64_t stray_pages
    uint64_t unreported_pages
    uint64_t hole_faults
    uint64_t register_refusals  # cycles that relocated inside a pause for want of REGISTER
    uint64_t foreign_faults     # faults of threads that are not mutators of this heap
    uint64_t handler_reinstalls
    uint64_t sigbus_unblocks    # times a mutator had blocked SIGBUS
    uint64_t slow_safepoints    # stops that took longer than safepoint_warning_ns
    uint64_t batch_flushes      # batches cut short for a waiter
    IoctlCounts ioctls[IOCTL_KINDS]

    StressModes stress
    Verification verification
    Tracing tracing
    Events* events
    void* weak                  # WeakState*, of core/weakdata.pxd
    void* team                  # MarkTeam*, of core/mark_team.pxd; NULL: one thread marks
    uint32_t refs               # atomic: the Python object and each attached mutator

    # Fork; see core/fork.pyx.
    HeapState* next_live        # core/registry.pyx
    HeapState* previous_live
    uint32_t fork_none          # fork="none": the child gets nothing
    uint32_t hold               # atomic: a fork bars new cycles, and abandons marking
    uint32_t busy               # futex word: 1 while the collector is inside a cycle
    uint32_t owed               # futex word: 1 from an abandoned cycle until one has finished
    uint32_t engine             # EngineState, futex word
    int engine_error            # errno of the last start of the collector thread in a child
    int descriptor_error        # errno that made a child's backend stw
    PauseRecord fork_pause      # of the fork that is going on
    EngineStart start_engine    # called by whoever asks for a cycle of a cold engine
