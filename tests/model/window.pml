/* The window in which to-space is registered: flip, faults, unregistration (I1, I6).
 *
 * Stands for: gcheap/core/cycle.pyx (mark_start, plan_phase, register_phase, flip, relocate_phase,
 * empty_halves), fault.pyx (on_sigbus, serve), place.pyx (place_hole), units.pxd (is_registered),
 * handler.pyx (serve_batch, serve_message, end_faults).  And the kernel's side of a missing page.
 * Cycles follow each other for ever, so that a service that comes too late meets a range that means
 * something else by then.
 *
 * Two halves of 3 units, a page each.  Units 0 and 2 are slid and hold DATA.  Unit 1 moves whole, and
 * is a hole until somebody touches it; its contents are zero.  `current` holds the objects, `to_half`
 * is what r.to_base says.  `faults` chooses the fault mode, SIGBUS or HANDLER; one search does
 * both.
 *
 *     mutators     RUNNING: touch any unit of the half that their root names; leave and enter
 *     a stranger   touches to-space, before and after the flip: a wild pointer's read, a profiler's
 *     server       in HANDLER mode: reads messages, serves them
 *     collector    Mark Start .. plan, REGISTER, flip, relocate, UNREGISTER, empty the old half
 *
 * Touching a page is one step of the kernel's: it is there; or it is missing and nothing is
 * registered, then a zero page appears; or the thread gets SIGBUS, or queues its message and
 * sleeps, under the lock that UNREGISTER takes for itself.  MOVE, ZEROPAGE, WAKE and UNREGISTER
 * wake who sleeps there, and a message that was not read yet goes with it.
 *
 * The kernel may refuse to register the second space (vm.max_map_count); then the first one is
 * unregistered again and the cycle relocates in its pause (backend STW).
 *
 * Left out, and why that is sound:
 *   pauses       are guards here: begun when nobody is RUNNING.  safepoint.pml has the handshake.
 *   building     is claim, one placing, PLACED: units.pml has the rest.
 *   waiting      is a guard: waiting.pml.
 *
 * An assumption: in SIGBUS mode a stranger's fault ends before the next Mark Start.  Mutators keep
 * that by being RUNNING, an inspector by list_lock.  A thread that is neither, and stands still in
 * the signal handler for a whole cycle, meets the next one: MUTATE_LATE_STRANGER.  In HANDLER mode
 * nothing is assumed: the server may sit on a message as long as it likes.
 */
#include "reached.h"

#define UNITS   3
#define PAGE(half, u)   ((half) * UNITS + (u))
#define whole(u)        ((u) == 1)
#define all_placed      (state[0] == PLACED && state[1] == PLACED && state[2] == PLACED)

mtype = { IDLE, MARK, PLAN, RELOCATE, FINISH };
mtype = { UNCLAIMED, ASSEMBLING, PLACED };
mtype = { MISSING, ZERO, DATA };
mtype = { SIGBUS, HANDLER };
mtype = { NONE, QUEUED, READ };

#define STRANGER    2
#define THREADS     3

mtype faults;
mtype phase = IDLE;
mtype page[2 * UNITS] = MISSING;
mtype state[UNITS] = PLACED;
bit current = 0, to_half = 1;
bool registered[2];
bool stw = false;                       /* r.backend is STW, this cycle */
bool pause = false;
bool running[2];                        /* mutators */
bit root[2];                            /* the half that a mutator's root names */
bool in_handler = false;                /* the stranger, in SIGBUS mode */

/* HANDLER mode: one message a thread. */
mtype message[THREADS] = NONE;
bool asleep[THREADS];
byte where[THREADS];                    /* the page that a thread sleeps on, or slept on */
bool serving = false;

#define relocating(half)    (phase == RELOCATE && is_registered(half))
#ifdef MUTATE_REFUSED_COUNTS            /* as if a refused REGISTER had registered */
#define is_registered(half) ((half) == to_half)
#else
#define is_registered(half) ((half) == to_half && !stw)
#endif

/* ---- the kernel ---- */

inline wake_one(t, low, high) {
    if
    :: asleep[t] && where[t] >= low && where[t] <= high ->
        asleep[t] = false;
        if
        :: message[t] == QUEUED -> message[t] = NONE; where[t] = 0
        :: else -> skip
        fi
    :: else -> skip
    fi
}

inline wake(low, high) { wake_one(0, low, high); wake_one(1, low, high); wake_one(2, low, high) }

inline unregister(half) {
    d_step { registered[half] = false; wake(PAGE(half, 0), PAGE(half, UNITS - 1)) }
}

/* A page that was missing and not registered when touched. */
inline ordinary_fault(at) { page[at] = ZERO }

/* ---- serving a fault ---- */

/* place_hole.  ENOENT: re-read the phase. */
inline place_hole(half, u) {
    if
    :: d_step { registered[half] && page[PAGE(half, u)] == MISSING ->
        REACHED page[PAGE(half, u)] = ZERO; wake(PAGE(half, u), PAGE(half, u)) }
    :: registered[half] && page[PAGE(half, u)] != MISSING -> REACHED skip    /* EEXIST */
    :: !registered[half] -> REACHED assert(phase != RELOCATE) /* fatal */
    fi
}

/* What an owner does between claim and PLACED. */
inline build(u) {
    d_step {
        assert(phase == RELOCATE && (registered[to_half] || stw)); /* I6 */
        assert(stw || page[PAGE(to_half, u)] == MISSING); /* I6 */      /* or a stray page is it */
        if
        :: !whole(u) -> assert(page[PAGE(1 - to_half, u)] == DATA) /* I3 */
        :: else -> skip
        fi;
        if
        :: page[PAGE(1 - to_half, u)] != MISSING ->
            page[PAGE(to_half, u)] = page[PAGE(1 - to_half, u)]
        :: else -> skip                 /* a hole stays one */
        fi;
        if
        :: whole(u) -> page[PAGE(1 - to_half, u)] = MISSING     /* a MOVE consumes its source */
        :: else -> skip
        fi;
        wake(PAGE(to_half, u), PAGE(to_half, u))
    };
    d_step { state[u] = PLACED }
}

/* serve(): by unit state alone.  `may_claim`: the thread has a bounce buffer. */
inline serve(half, u, may_claim) {
    assert(half == to_half); /* late */
    if
    :: state[u] == PLACED -> place_hole(half, u)
    :: d_step { may_claim && state[u] == UNCLAIMED -> state[u] = ASSEMBLING };
       build(u)
    :: (state[u] == ASSEMBLING || (!may_claim && state[u] == UNCLAIMED)) ->
        state[u] == PLACED
    fi
}

/* ---- threads that touch pages ---- */

#define is_there(half, u)   (page[PAGE(half, u)] != MISSING)

/* One message a thread: who was woken while its last one is in the server's hands, and faults
   again, does so when that is served.  Three threads show what more messages of one would. */
inline fall_asleep(t, half, u) {
    where[t] = PAGE(half, u); asleep[t] = true; message[t] = QUEUED
}

proctype Mutator(byte me) {
    bit hand; byte u;                                     /* an address in hand: half, unit */
outside:
end:
    atomic { !pause -> running[me] = true; hand = root[me] };
inside:
    atomic {
        if
        :: running[me] = false; hand = 0; goto outside  /* polls, or leaves */
        :: u = 0
        :: u = 1
        :: u = 2
        fi;
        assert(hand == current); /* I1 */
        if
        :: is_there(hand, u) ->
            assert(page[PAGE(hand, u)] == (whole(u) -> ZERO : DATA)); /* I6 */
            u = 0; goto inside
        :: !is_there(hand, u) && !registered[hand] ->
            assert(whole(u)); /* I6 */                  /* never silent zeros */
            ordinary_fault(PAGE(hand, u));
            u = 0; goto inside
        :: !is_there(hand, u) && registered[hand] && faults == SIGBUS -> skip
        :: !is_there(hand, u) && registered[hand] && faults == HANDLER ->
            if
            :: message[me] == NONE -> fall_asleep(me, hand, u); u = 0; goto sleeps
            :: else -> u = 0; goto inside
            fi
        fi
    };
    if                                                  /* on_sigbus */
    :: relocating(hand) -> serve(hand, u, true)
    :: else -> REACHED skip    /* sleeps 20 us */
    fi;
    u = 0;
    goto inside;                                        /* the instruction runs again, or another */
sleeps:
    !asleep[me];
    goto inside
}

/* It reads the half that will be, or is, to-space. */
#define strange(half)   (registered[current] -> (half) == current : (half) != current)

proctype Stranger() {
    bit half; byte u;
again:
end:
    atomic {
        if :: half = 0 :: half = 1 fi;
        if :: u = 0 :: u = 1 :: u = 2 fi;
        if
        :: is_there(half, u) || !strange(half) -> half = 0; u = 0; goto again
        :: !is_there(half, u) && strange(half) && !registered[half] ->
            ordinary_fault(PAGE(half, u)); half = 0; u = 0; goto again
        :: !is_there(half, u) && strange(half) && registered[half] && faults == SIGBUS ->
            in_handler = true
        :: !is_there(half, u) && strange(half) && registered[half] && faults == HANDLER ->
            if
            :: message[STRANGER] == NONE ->
                fall_asleep(STRANGER, half, u); half = 0; u = 0; goto sleeps
            :: else -> half = 0; u = 0; goto again
            fi
        fi
    };
    if
    :: relocating(half) -> serve(half, u, false)
    :: else -> skip
    fi;
    d_step { half = 0; u = 0; in_handler = false };
    goto again;
sleeps:
    !asleep[STRANGER];
    goto again
}

/* ---- the server of HANDLER mode ---- */

inline serve_message(t) {
    if
    :: message[t] == READ ->
        phase != PLAN;
        d_step { half = where[t] / UNITS; u = where[t] % UNITS };
        if
        :: is_registered(half) -> serve(half, u, true)
        :: else -> REACHED skip    /* REGISTER was refused */
        fi;
        d_step {
            message[t] = NONE; wake(PAGE(half, u), PAGE(half, u));
            where[t] = 0; half = 0; u = 0
        }
    :: else -> skip
    fi
}

inline read_one(t) {
    if
    :: message[t] == QUEUED -> message[t] = READ
    :: else -> skip
    fi
}

#define any_queued  (message[0] == QUEUED || message[1] == QUEUED || message[2] == QUEUED)

proctype Server() {
    bit half; byte u;
end:
    do
    :: any_queued ->                                    /* poll returns */
#ifndef MUTATE_SERVING_LATE
        d_step { serving = true };
#endif
        d_step { read_one(0); read_one(1); read_one(2) };
#ifdef MUTATE_SERVING_LATE
        d_step { serving = true };
#endif
        serve_message(0); serve_message(1); serve_message(2);
        d_step { serving = false }
    od
}

/* ---- the collector ---- */

inline drop_pages(half) {
    d_step {
        page[PAGE(half, 0)] = MISSING; page[PAGE(half, 1)] = MISSING; page[PAGE(half, 2)] = MISSING
    }
}

inline relocate() {
    u = 0;
    do
    :: u < UNITS ->
        if
        :: d_step { state[u] == UNCLAIMED -> state[u] = ASSEMBLING }; build(u)
        :: state[u] != UNCLAIMED -> skip
        fi;
        u++
    :: else -> break
    od;
    u = 0;
#ifdef MUTATE_EMPTY_EARLY               /* from-space is given back before all are PLACED */
    d_step { page[PAGE(1 - to_half, 0)] = MISSING };
#endif
#ifndef MUTATE_UNREGISTER_EARLY         /* before all are PLACED */
    all_placed;
#endif
#ifndef MUTATE_FINISH_LATE
    d_step { phase = FINISH };
#endif
    if
    :: !stw ->
        assert(all_placed); /* I6 */
        unregister(to_half)
    :: else -> skip
    fi;
#ifdef MUTATE_FINISH_LATE               /* a late faulter must see that the phase is over */
    d_step { phase = FINISH };
#endif
#ifndef MUTATE_SERVED_LATE              /* end_faults, without which a message lives on */
    d_step { wake(PAGE(to_half, 0), PAGE(to_half, UNITS - 1)) };
    !serving;
#endif
    drop_pages(1 - to_half)
}

inline register() {
    d_step { registered[to_half] = true };
    if
    :: skip
    :: d_step { REACHED skip }; unregister(to_half); stw = true
    fi
}


inline flip() {
    d_step {
        assert(registered[to_half] || stw); /* I6 */
        current = to_half;
        root[0] = to_half;
#ifndef MUTATE_KEEP_ROOT                /* a root that the flip does not rewrite */
        root[1] = to_half;
#endif
        phase = RELOCATE
    }
}

#ifdef MUTATE_FLIP_RUNNING              /* a mutator that the pause does not wait for */
#define STOPPED     (!running[0])
#else
#define STOPPED     (!running[0] && !running[1])
#endif
#ifdef MUTATE_LATE_STRANGER             /* the assumption, dropped */
#define NOBODY_LEFT true
#else
#define NOBODY_LEFT (!in_handler)
#endif

proctype Collector() {
    byte u;
end:
    do
    :: pause = true;
       atomic { STOPPED && NOBODY_LEFT ->               /* Mark Start */
            phase = MARK; to_half = 1 - current; stw = false; pause = false };
       d_step { phase = PLAN; state[0] = UNCLAIMED; state[1] = UNCLAIMED; state[2] = UNCLAIMED };
#ifdef MUTATE_EMPTY_FIRST               /* a stray page may come between the two */
       drop_pages(to_half);
#endif
#ifndef MUTATE_FLIP_FIRST
       register();
#ifndef MUTATE_EMPTY_FIRST
       if
       :: !stw -> drop_pages(to_half)
       :: else -> skip
       fi;
#endif
#endif
       pause = true;
       STOPPED;
#ifdef MUTATE_FLIP_FIRST                /* flip before registration */
       d_step { current = to_half; root[0] = to_half; root[1] = to_half; phase = RELOCATE };
       pause = false;
       register();
#else
       flip();
#endif
       if
       :: stw -> relocate(); pause = false
       :: else -> pause = false; relocate()
       fi;
       d_step { phase = IDLE }
    od
}

init {
    atomic {
        if :: faults = SIGBUS :: faults = HANDLER fi;
        page[PAGE(0, 0)] = DATA; page[PAGE(0, 2)] = DATA;
        run Mutator(0); run Mutator(1); run Stranger(); run Collector();
        if :: faults == HANDLER -> run Server() :: else -> skip fi
    }
}
