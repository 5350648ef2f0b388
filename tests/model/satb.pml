/* Marking by a snapshot at the beginning: what a mutator can reach at the flip is live by then.
 *
 * Stands for: gcheap/core/barrier.pxd (store_slot), satb.pyx (log_target, hand_over, take_full),
 * mark.pyx (record_roots, mark_roots, trace, mark_logged, mark_open_logs), cycle.pyx (mark_start,
 * mark_end, mark_concurrently), abandon.pyx (trace_until_held).
 *
 * Three objects older than Mark Start, a chain 1 -> 2 -> 3 of which the third has no slot, and one
 * that may be allocated later, black.  Each mutator has two roots (words of a shadow stack): it loads
 * from one into the other, drops them, allocates, and stores null or one root into the other.
 * Mutator 0 has its choice of the two; mutator 1 changes the lesser of its own, or the slot of that
 * one.  (With WIDER it chooses as well, and object 3 has a slot.)  They do so as often as they like,
 * from Mark Start to Mark End.
 *
 * A store is two steps, between which the other mutator and the marker may do anything: read the
 * old value and log it, unless it is known to be live; write.  Two mutators may write the same
 * slot.  (Only the marker could tell reading from logging, by missing the entry in an open buffer;
 * it may miss any entry there.)
 * The marker scans an object in one step, because it reads one slot.  A log is a set: neither order
 * nor doubles mean anything, and mutator 0's buffer may be full, and handed over, before any entry.
 *
 *     snapshot     at Mark End everything reachable at Mark Start is marked
 *     reachable    at Mark End everything that a mutator can reach is marked, or black; so it is at
 *                  the flip: what it reaches then it reached at Mark End, or allocated since, black
 *     termination  each Mark End that finds too much to trace in a pause has marked at least one
 *                  object: there are no more of those than objects
 *
 * Left out, and why that is sound:
 *   pauses       wait until no mutator is inside an operation.  safepoint.pml has the handshake.
 *   the mark stack and the queue are a set, from which any object may come next.
 *   the budget   of Mark End is one slot; more only ends it earlier.  Its doubling does too.
 *   mark bits    are read by mutators as they are; an old value would log once too often.
 *   weak references and what guardians hold: nonstrong.pyx.  Handles are roots like others.
 */
#include "reached.h"

#define OLD         3                   /* objects 1, 2, 3 are old */
#define BLACK       4
#define MUTATORS    2
#ifndef WIDER
#define WIDER       0                   /* 1: not searched to its end yet; see docs */
#endif

#define bit_of(o)   (1 << (o))
#define has(set, o) (((set) >> (o)) & 1)
#define all_old     14
#define root(m, i)  roots[(m) * 2 + (i)]

bool ended = false;                     /* Mark End has found nothing more */
byte slot[OLD + 2];
byte roots[MUTATORS * 2];
byte marked, grey;                      /* sets: reached by the marker; of those, not yet scanned */
byte recorded;                          /* the roots, as recorded in the pause */
byte satb[MUTATORS];                    /* each mutator's open buffer */
byte satb_full;                         /* what was handed over */
bool black_taken = false;
bool inside[MUTATORS];                  /* in an operation: no safepoint */
byte snapshot;                          /* ghost: reachable at Mark Start */

/* d_step only.  What can be reached from a set. */
inline reach(set) {
    set = set | (has(set, 1) * bit_of(slot[1])) | (has(set, 2) * bit_of(slot[2]));
    set = set | (has(set, 3) * bit_of(slot[3])) | (has(set, BLACK) * bit_of(slot[BLACK]))
}

inline reach_from_roots(set) {
    set = bit_of(roots[0]) | bit_of(roots[1]) | bit_of(roots[2]) | bit_of(roots[3]);
    reach(set); reach(set); reach(set); reach(set);
    set = set & 30                      /* null is no object */
}

/* ---- mutators ---- */

#define unknown(o)  ((o) != 0 && (o) != BLACK && !has(marked, o))

inline log_target(o) {
    if
    :: !unknown(o) -> skip
#ifndef MUTATE_FULL_DROPPED
    :: unknown(o) && (me == 0 || WIDER) && satb[me] != 0 -> REACHED    /* full: hand_over */
        satb_full = satb_full | satb[me]; satb[me] = bit_of(o)
#else
    :: unknown(o) && (me == 0 || WIDER) -> satb[me] = bit_of(o)
#endif
    :: unknown(o) -> satb[me] = satb[me] | bit_of(o)
    fi
}

inline store_slot(o, v) {
#ifdef MUTATE_NO_BARRIER
    slot[o] = v
#else
#ifdef MUTATE_LOG_NEW                   /* the new value instead of the old one */
    atomic { log_target(v) };
    slot[o] = v
#else
#ifdef MUTATE_WRITE_FIRST               /* the old value is read after it was overwritten */
    slot[o] = v;
    atomic { log_target(slot[o]) }
#else
    atomic { log_target(slot[o]) };
    slot[o] = v
#endif
#endif
#endif
}

bool want_pause = false;

inline choose(i) {
    if
    :: i = 0
    :: me == 0 || WIDER -> i = 1
    fi
}

/* Which root is which makes no difference. */
inline sort() {
    if
    :: root(me, 0) < root(me, 1) ->
        a = root(me, 0); root(me, 0) = root(me, 1); root(me, 1) = a
    :: else -> skip
    fi
}

proctype Mutator(byte me) {
    byte a, b;
end:
    do
    :: atomic {                         /* a <- the slot of a root, or null, or a new object */
        !want_pause ->
        choose(a);
        if
        :: root(me, a) != 0 -> root(me, a) = slot[root(me, a)]
        :: root(me, 1 - a) != 0 -> root(me, a) = slot[root(me, 1 - a)]
        :: root(me, a) = 0
        :: !black_taken ->              /* above TAMS */
            black_taken = true; root(me, a) = BLACK
        :: else -> skip
        fi;
        sort();
        a = 0 }
    :: atomic {                         /* slot of root a <- the other root, or null */
        !want_pause ->
        choose(a);
        if
        :: root(me, a) != 0 && (root(me, a) != 3 || WIDER) ->
            if :: b = 0 :: root(me, 1 - a) != 0 -> b = root(me, 1 - a) fi;
            a = root(me, a);
            inside[me] = true
        :: else -> a = 0; goto end
        fi };
       store_slot(a, b);
       atomic { inside[me] = false; a = 0; b = 0 }
    od
}

/* ---- the marker, which is the collector ---- */

#ifdef MUTATE_WHITE                     /* what is allocated during marking is not black */
#define black   0
#else
#define black   bit_of(BLACK)
#endif

#ifdef MUTATE_MARK_AGAIN                /* what is logged is traced, marked or not */
#define known   0
#else
#define known   marked
#endif

/* d_step only: enqueue() of a set. */
inline mark_set(set) {
    grey = grey | (set & all_old & ~known);
    marked = marked | (set & all_old);
    /* Who is logged and marked will only be found to be marked. */
    satb[0] = satb[0] & ~known; satb[1] = satb[1] & ~known; satb_full = satb_full & ~known
}

inline scan_one() {
    if
    :: grey & 2 -> o = 1
    :: grey & 4 -> o = 2
    :: grey & 8 -> o = 3
    fi;
    d_step { grey = grey & ~bit_of(o); mark_set(bit_of(slot[o])); o = 0 }
}

inline mark_logged() { d_step { mark_set(satb_full); satb_full = 0 } }

inline stop_world() { want_pause = true; !inside[0] && !inside[1] }

proctype Collector() {
    byte o, found;
#ifdef MUTATE_LATE_ROOTS                /* the roots as they are by now, not as they were */
    d_step { mark_set(bit_of(roots[0]) | bit_of(roots[1]) | bit_of(roots[2]) | bit_of(roots[3])) };
#else
    d_step { mark_set(recorded); recorded = 0 };            /* mark_roots */
#endif
concurrent:
    do
    :: atomic { grey != 0 -> scan_one() }
    :: grey == 0 && satb_full != 0 -> mark_logged()
    :: grey == 0 && satb_full == 0 ->                       /* mark_open_logs */
        if
        :: d_step { satb[0] != 0 -> REACHED mark_set(satb[0]) }
        :: d_step { satb[1] != 0 -> mark_set(satb[1]) }
        :: break
        fi
    od;
    stop_world();                                           /* Pause Mark End */
    d_step {
        found = marked;
#ifndef MUTATE_OPEN_LOGS                                    /* what unfinished buffers hold */
        satb_full = satb_full | satb[0] | satb[1]; satb[0] = 0; satb[1] = 0;
#endif
        mark_set(satb_full); satb_full = 0
    };
#ifndef MUTATE_NO_TRACE                                     /* what the last of the log leads to */
    atomic {
        if
        :: grey != 0 -> scan_one()
        :: grey == 0 -> skip
        fi
    };
    if
    :: atomic { grey != 0 -> REACHED    /* too much for a pause */
        assert(marked != found); /* termination */
        found = 0; want_pause = false; goto concurrent }
    :: grey == 0 -> skip
    fi;
#endif
    d_step {
        assert((snapshot & ~marked) == 0); /* snapshot */
        reach_from_roots(found);
        assert((found & ~(marked | black)) == 0); /* reachable */
        REACHED ended = true
    }
}

init {
    atomic {
        slot[1] = 2; slot[2] = 3; roots[0] = 1;
        if :: roots[2] = 1 :: roots[2] = 2 fi;
        d_step {                                            /* Pause Mark Start */
            reach_from_roots(snapshot);
            recorded = bit_of(roots[0]) | bit_of(roots[1]) | bit_of(roots[2]) | bit_of(roots[3])
        };
        run Mutator(0); run Mutator(1); run Collector()
    }
}
