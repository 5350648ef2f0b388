"""A heap's settings of pacing, stalls and marking, from its options, before it starts."""
from gcheap.core.events cimport new_histogram
from gcheap.core.layout cimport (
    HeapState, MAX_SHAPES, POLICY_FACTOR, POLICY_FIXED, POLICY_MEMBALANCER, ShapeTotal)
from gcheap.core.mark_team cimport new_team
from gcheap.core.pacing cimport begin_pacing
from gcheap.face.limits import no_tables
from gcheap.policy import Factor, MemBalancer
from libc.stdlib cimport calloc

MS = 1_000_000


cdef int apply_settings(HeapState* h, options) except -1:
    """Sets policy, stall reports and who marks; the first limit and goal.  MemoryError."""
    policy = options["policy"]
    h.pacing.policy = POLICY_FIXED
    if isinstance(policy, Factor):
        h.pacing.policy = POLICY_FACTOR
        h.pacing.factor = policy.factor
        h.pacing.minimum = policy.minimum
    elif isinstance(policy, MemBalancer):
        h.pacing.policy = POLICY_MEMBALANCER
        h.pacing.c = policy.c
        h.pacing.minimum = policy.minimum
    h.pacing.idle_ns = options["idle_ms"] * MS
    h.pause_warning_ns = options["pause_warning_ms"] * MS
    h.stalls.warning_ns = options["stall_warning_ms"] * MS
    h.stalls.hist = new_histogram()
    # Address space until a cycle is surveyed.
    h.survey.count = <ShapeTotal*>calloc(MAX_SHAPES, sizeof(ShapeTotal))
    if h.stalls.hist == NULL or h.survey.count == NULL:
        raise no_tables()
    if options["mark_threads"] > 1 and not new_team(h, options["mark_threads"]):
        raise no_tables()
    begin_pacing(h)
    return 0
