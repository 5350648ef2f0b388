/* The safepoint handshake: no RUNNING mutator is missed, and nobody waits for good (I5).
 *
 * Stands for: gcheap/core/safepoint.pyx (enter_running, stop_running, leave_running, begin_stall,
 * park, wait_for_resume, stop_world, resume_world).  Step by step: each reads or writes one shared
 * word.
 *
 *     mutator    running := RUNNING;  if pause: running := PARKED, arrivals + 1, sleep, again
 *     collector  pause := 1;  wait until every one is not RUNNING, asleep on arrivals
 *
 * Two threads of Python, which share a GIL, are mutators: they call into the heap with the GIL
 * held, may let go of it while RUNNING (a long loop in C), and leave RUNNING before they take it
 * back.  The collector makes a pause and an inspector (inspect.pyx) another, in turns by list_lock.
 * Mutators end when they like, so whoever is left asleep is an end state that is not valid: pan
 * reports it.  Inside a pause nobody touches an object: that is the assertion.
 *
 * Left out, and why that is sound:
 *   the spin before the collector sleeps, and the watchdog's timeout: both only look once more.
 *   futex_wait that returns early: the same.
 *   attaching, detaching: OUTSIDE, and under list_lock, which a pause holds.
 *   Order: `run` (here `running`, because Promela has a keyword) and `pause` are stored and read
 *   sequentially consistent.  If the store of RUNNING were a release only, the look at `pause`
 *   could come before it: MUTATE_NO_FENCE.
 */
#include "reached.h"

#define MUTATORS    2
#ifndef PAUSES
#define PAUSES      1                   /* of the collector; `make soak` makes it 2 */
#endif
#define STOPPERS    2

mtype = { OUTSIDE, RUNNING, PARKED };

mtype running[MUTATORS] = OUTSIDE;
bit pause = 0;                          /* futex word */
byte arrivals;                          /* futex word; modulo 8, more than one pause can add */
bool list_lock = false, gil = false;
bool asleep[MUTATORS];                  /* on `pause` */
bool stopper_asleep[STOPPERS];          /* on `arrivals` */
bool in_pause = false;                  /* ghost: somebody owns every object */

inline wake_stoppers() { d_step { stopper_asleep[0] = false; stopper_asleep[1] = false } }
inline wake_mutators() { d_step { asleep[0] = false; asleep[1] = false } }

inline announce() {
    d_step { arrivals = (arrivals + 1) % 8 };
    wake_stoppers()
}

/* ---- mutators ---- */

inline wait_for_resume() {
    announce();
    do
    :: pause == 1 ->
        atomic {                        /* futex_wait(&pause, 1) */
            if
            :: pause == 1 -> REACHED asleep[me] = true
            :: else -> REACHED skip
            fi
        };
        !asleep[me]
    :: pause == 0 -> break
    od
}

inline enter_running() {
    do
    ::
#ifdef MUTATE_NO_FENCE                  /* the look at `pause` before the store is seen */
        if
        :: pause == 0 -> running[me] = RUNNING; break
        :: pause == 1 -> running[me] = RUNNING
        fi;
#else
        running[me] = RUNNING;
#ifdef MUTATE_NO_RECHECK                /* RUNNING without a look at `pause` */
        break;
#endif
        if
        :: pause == 0 -> break
        :: pause == 1 -> REACHED skip
        fi;
#endif
        running[me] = PARKED;
        wait_for_resume()
    od
}

inline stop_running(how) {
    running[me] = how;
    if
#ifdef MUTATE_NO_ARRIVAL                /* it leaves, and says nothing */
    :: skip
#else
    :: pause == 1 -> REACHED announce()
    :: pause == 0 -> skip
#endif
    fi
}

inline park() {
    do
    :: pause == 1 ->
        REACHED running[me] = PARKED;
        wait_for_resume();
        running[me] = RUNNING
#ifdef MUTATE_PARK_ONCE                 /* a pause may have begun again meanwhile */
        ; break
#endif
    :: pause == 0 -> break
    od
}

proctype Mutator(byte me) {
    bool has_gil = false;
    do
    :: break                                        /* the thread ends */
    ::
        atomic { !gil -> gil = true; has_gil = true };
        enter_running();                            /* it may wait here, with the GIL held */
        if
        :: d_step { gil = false; has_gil = false }  /* a long loop without the GIL */
        :: skip
        fi;
        do
        :: assert(running[me] == RUNNING && !in_pause) /* I5 */
        :: park()                                   /* a poll */
        :: stop_running(PARKED); enter_running()    /* a stall begins, and ends */
        :: break
        od;
#ifndef MUTATE_GIL_RUNNING                          /* it takes the GIL while RUNNING */
        stop_running(OUTSIDE);
#endif
        if
        :: has_gil -> skip
        :: atomic { !has_gil && !gil -> gil = true; has_gil = true }
        fi;
#ifdef MUTATE_GIL_RUNNING
        stop_running(OUTSIDE);
#endif
        d_step { gil = false; has_gil = false }
    od
}

/* ---- whoever stops the world ---- */

inline stop_world() {
    atomic { !list_lock -> list_lock = true; arrivals = 0 };    /* nobody remembers what it was */
    pause = 1;
    m = 0;
    do
    :: m < MUTATORS ->
        if
        :: running[m] == RUNNING ->
            seen = arrivals;
            if
#ifndef MUTATE_NO_SECOND_LOOK           /* at the mutator, after `arrivals` was read */
            :: running[m] != RUNNING -> REACHED skip
            :: running[m] == RUNNING ->
#else
            :: true ->
#endif
                atomic {                /* futex_wait(&arrivals, seen) */
                    if
                    :: arrivals == seen -> REACHED stopper_asleep[who] = true
                    :: else -> REACHED skip
                    fi
                };
                !stopper_asleep[who]
            fi
        :: running[m] != RUNNING -> m++
        fi
    :: m == MUTATORS -> break
    od;
    atomic { m = 0; seen = 0 }
}

inline resume_world() {
    pause = 0;
#ifndef MUTATE_NO_RESUME_WAKE
    wake_mutators();
#endif
    list_lock = false
}

proctype Stopper(byte who, pauses) {
    byte m, seen;
    do
    :: pauses > 0 ->
        stop_world();
        in_pause = true;
        REACHED in_pause = false;
        resume_world();
        pauses--
    :: else -> break
    od
}

init { atomic { run Mutator(0); run Mutator(1); run Stopper(0, PAUSES); run Stopper(1, 1) } }
