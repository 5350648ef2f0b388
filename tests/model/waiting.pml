/* Waiting for somebody else's unit: no wake-up is lost (I2).
 *
 * Stands for: gcheap/core/units.pyx (wait_placed, publish), gcheap/include/gcheap/native/sync.h (futex_wait,
 * futex_wake_all).  Step by step: each reads or writes one shared word.
 *
 *     waiter   announces itself;  reads the shard's word;  reads the state;  sleeps if the word is
 *              what it was
 *     owner    stores PLACED for its batch;  fence;  for each unit: if somebody has announced
 *              himself, changes the word, and wakes
 *
 * 3 units share 2 futex words: 0 and 2 the first, so that a waiter is woken for a unit that is not
 * his.  The compactor owns a batch, units 0 and 1; a mutator owns unit 2.  Two more mutators wait
 * for any unit, as often as they like, and end when all are PLACED.
 *
 * FUTEX_WAIT is one step: the kernel compares and queues under the bucket's lock.  It may return
 * early in reality; then the loop only comes round once more, and here it would hide what is to be
 * shown: that nobody sleeps for good.  A sleeper whom nobody wakes is an end state that is not
 * valid, and pan reports it.  Nobody goes round for ever: each turn of a waiter's loop
 * needs a change of the word, of which there are three.  So every waiter goes on; pan checks that
 * too, as an LTL formula, assuming only that each thread is scheduled (there each waits once).
 *
 * The spin before the sleep is a free choice: it ends with PLACED seen, or in the sleep.  All
 * accesses are sequentially consistent, by the fence on either side; without the owner's, its look
 * for waiters may come before its store, which is what MUTATE_NO_FENCE does.
 */
#include "reached.h"

#define UNITS       3
#define WAIT_SHARDS 2
#define SHARD(u)    ((u) % WAIT_SHARDS)

#define WAITERS     2

bool placed[UNITS];                     /* state == PLACED */
byte unit_event[WAIT_SHARDS];           /* futex words; 32 bits do not come round in 3 steps */
byte unit_waiters[WAIT_SHARDS];
byte waiters;                           /* r.waiters: ends a batch early */
bool sleeping[WAITERS];
byte sleeps_on[WAITERS];
bool waiting[WAITERS];                  /* ghost */

inline wake_all(shard) {
    d_step {
        if :: sleeping[0] && sleeps_on[0] == shard -> sleeping[0] = false :: else -> skip fi;
        if :: sleeping[1] && sleeps_on[1] == shard -> sleeping[1] = false :: else -> skip fi
    }
}

inline futex_wait(me, shard, expected) {
    atomic {
        if
        :: unit_event[shard] == expected ->
            REACHED sleeping[me] = true; sleeps_on[me] = shard
        :: else -> REACHED skip
        fi
    };
    !sleeping[me]
}

proctype Waiter(byte me) {
    byte u, seen;
again:
    if
    :: u = 0 :: u = 1 :: u = 2
    :: placed[0] && placed[1] && placed[2] -> goto done
    fi;
    waiting[me] = true;
    waiters++;
    if                                  /* spinning */
    :: placed[u] -> REACHED goto over
    :: skip
    fi;
#ifdef MUTATE_LATE_ANNOUNCE             /* look first, then announce */
    do
    :: seen = unit_event[SHARD(u)];
       if :: placed[u] -> goto over :: else -> skip fi;
       unit_waiters[SHARD(u)]++;
       futex_wait(me, SHARD(u), seen);
       unit_waiters[SHARD(u)]--
    od;
#else
    unit_waiters[SHARD(u)]++;
    do
    ::
#ifdef MUTATE_STATE_FIRST               /* the state before the word */
       if :: placed[u] -> break :: else -> skip fi;
       seen = unit_event[SHARD(u)];
#else
       seen = unit_event[SHARD(u)];
       if :: placed[u] -> break :: else -> skip fi;
#endif
       futex_wait(me, SHARD(u), seen)
    od;
#ifndef MUTATE_STILL_COUNTED            /* it goes, and owners look for it for ever */
    unit_waiters[SHARD(u)]--;
#endif
#endif
over:
    waiters--;
    d_step { waiting[me] = false; u = 0; seen = 0 };
#ifndef LIVENESS
    goto again;
#endif
done:
    skip
}

inline look(u) {
#ifdef MUTATE_NO_WAKE                   /* the word changes, and nobody is woken */
    if
    :: unit_waiters[SHARD(u)] > 0 -> unit_event[SHARD(u)]++
    :: else -> skip
    fi
#else
    if
    :: unit_waiters[SHARD(u)] > 0 -> REACHED
#ifndef MUTATE_NO_EVENT                 /* woken, but the word stays what it was */
        unit_event[SHARD(u)]++;
#endif
        wake_all(SHARD(u))
    :: else -> skip
    fi
#endif
}

/* publish() of the units [first, last]. */
proctype Owner(byte first, last) {
    byte i;
#ifdef MUTATE_NO_FENCE
    i = first;
    do :: i <= last -> look(i); i++ :: else -> break od;
#endif
    i = first;
    do :: i <= last -> placed[i] = true; i++ :: else -> break od;
#ifndef MUTATE_NO_FENCE
    i = first;
#ifdef MUTATE_ONE_LOOK                  /* one look for the whole batch */
    look(first)
#else
    do :: i <= last -> look(i); i++ :: else -> break od
#endif
#endif
}

init {
    atomic { run Waiter(0); run Waiter(1); run Owner(0, 1); run Owner(2, 2) };
    _nr_pr == 1;
    REACHED assert(waiters == 0 && unit_waiters[0] == 0 && unit_waiters[1] == 0)    /* I2 */
}

#ifdef LIVENESS
ltl goes_on { [] (waiting[0] -> <> !waiting[0]) }       /* the other is alike */
#endif
