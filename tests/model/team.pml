/* Marking by several threads: marking ends when nothing is left to trace, and then it does end.
 *
 * Stands for: gcheap/core/mark_team.pyx (trace_own, give, await_parcel, take, call_off, sleep_on,
 * wake, trace_together), gcheap/core/mark.pxd (win_live).  A critical section is one step, as are
 * the reads and writes of shared words outside of one.
 *
 *     member       traces an entry of its own;  gives half of two or more;  without any: waits
 *     collector    the same; returns when everybody waits and no parcel is left, and comes again
 *     fork         may come at any moment: who sees it says stop, and everybody drops his entries
 *
 * The collector and two more.  Objects form a tree with one edge more: 0 -> 1, 2; 1 -> 3, 4; 2
 * -> 4, so that two may race for 4.  (With WIDE: 2 -> 5, 6; 3 -> 5, so that two may give at
 * once.)  Reading that an object is unmarked and winning its mark are two steps.  The
 * collector traces twice, the second time from what a log holds: object 7.
 *
 *     once       an object is pushed by one member: by the one who won it
 *     complete   when the collector returns, all that it was to reach is traced
 *     idle       ... and nobody has an entry, nor is there a parcel
 *     parcels    never more than members that wait
 *     asleep     (an end state) nobody waits for good but the two, for the next marking
 *
 * Left out, and why that is sound:
 *   slices       a member may look at who waits, and at a fork, before every entry.
 *   the spin     before the sleep: it ends with `event` changed, or in the sleep.
 *   early returns of the futex, which only make the loop come round once more.
 *   which half   entries are a set, and what is given is any one of them.
 */
#include "reached.h"

#define MEMBERS     3                   /* 0 is the collector */

#define bit_of(o)   (1 << (o))
#ifdef WIDE
#define all_old     127                 /* what the roots lead to */
#else
#define all_old     31
#endif
#define has(set, o) (((set) >> (o)) & 1)
#define several(set) (((set) & ((set) - 1)) != 0)

byte stack[MEMBERS];                    /* sets of objects */
byte parcel[MEMBERS];
byte parcels, waiting, marked, traced, pushed;
byte event, sleepers;                   /* 8 bits do not come round */
bool sleeping[MEMBERS];
/* What the mutants change stands here: an #ifdef inside an inline shifts spin's line numbers. */
#ifdef MUTATE_NO_WIN                    /* the look at the mark decides, not the fetch-or */
#define lost            false
#else
#define lost            seen
#endif
#ifdef MUTATE_KEEP_ENTRIES              /* of what is given up */
#define left(set)       set
#else
#define left(set)       0
#endif
#ifdef MUTATE_STOP_UNSAID               /* who gives up tells nobody */
#define say_stop        skip
#else
#define say_stop        stop = true
#endif
#ifdef MUTATE_NO_SECOND_LOOK            /* what was read without the lock decides */
#define still_wanted    true
#else
#define still_wanted    (waiting > parcels)
#endif
#ifdef MUTATE_LATE_SLEEPER              /* announced only when asleep */
#define early           0
#else
#define early           1
#endif
#ifdef MUTATE_NO_RING                   /* the last to wait tells nobody */
#define ring            0
#else
#define ring            last
#endif
#ifdef MUTATE_STILL_WAITS               /* counted as waiting until it has looked at its entries */
#define at_once         0
#else
#define at_once         1
#endif
#ifdef MUTATE_SEEN_LATE                 /* `event` is read when the lock is let go */
#define see_late        seen = event
#else
#define see_late        skip
#endif

bool stop = false, hold = false, ends = false;

#define at_rest (waiting == MEMBERS && parcels == 0)

inline children(o, set) {
    if
    :: o == 0 -> set = bit_of(1) | bit_of(2)
    :: o == 1 -> set = bit_of(3) | bit_of(4)
#ifdef WIDE
    :: o == 2 -> set = bit_of(5) | bit_of(6)
    :: o == 3 -> set = bit_of(5)
#else
    :: o == 2 -> set = bit_of(4)
#endif
    :: else -> set = 0
    fi
}

inline wake_one() {
    d_step {
        if
        :: sleeping[0] -> sleeping[0] = false
        :: !sleeping[0] && sleeping[1] -> sleeping[1] = false
        :: !sleeping[0] && !sleeping[1] -> sleeping[2] = false
        fi
    }
}

inline wake_all() {
    d_step { sleeping[0] = false; sleeping[1] = false; sleeping[2] = false }
}

inline any_of(set) {
    if
    :: has(set, 0) -> o = 0
    :: has(set, 1) -> o = 1
    :: has(set, 2) -> o = 2
    :: has(set, 3) -> o = 3
    :: has(set, 4) -> o = 4
    :: has(set, 5) -> o = 5
    :: has(set, 6) -> o = 6
    :: has(set, 7) -> o = 7
    fi
}

/* visit() of each object in `set`. */
inline visit(set) {
    do
    :: set != 0 ->
        atomic { any_of(set); set = set & ~bit_of(o); seen = has(marked, o) };
        if
        :: seen -> skip
        :: else ->
            atomic {
                seen = has(marked, o);
                marked = marked | bit_of(o);
                if
                :: lost -> skip         /* another was first */
                :: !lost ->
                    assert(!has(pushed, o)); /* once */
                    pushed = pushed | bit_of(o);
                    stack[me] = stack[me] | bit_of(o)
                fi;
                seen = 0
            }
        fi
    :: else -> break
    od;
    atomic { o = 0; seen = 0 }
}

inline trace_own() {
    do
    :: stop || hold -> REACHED    /* call_off */
        atomic {
            say_stop;
            stack[me] = left(stack[me]) };
        break
    :: !stop && several(stack[me]) && waiting > parcels ->  /* wanted, read without the lock */
        atomic {
            any_of(stack[me]);
            if
            :: still_wanted -> REACHED
                assert(parcels < waiting); /* parcels */
                parcel[parcels] = bit_of(o);
                parcels++;
                event++;
                stack[me] = stack[me] & ~bit_of(o)
            :: !still_wanted -> skip
            fi;
            o = 0 };
        if :: sleepers > 0 -> wake_one() :: else -> skip fi
    :: stack[me] != 0 ->
        atomic {
            any_of(stack[me]);
            stack[me] = stack[me] & ~bit_of(o);
            children(o, set);
            traced = traced | bit_of(o);
            o = 0 };
        visit(set)
    :: stack[me] == 0 -> break
    od
}

inline futex_wait() {
    sleepers = sleepers + early;
    atomic {
        if
        :: event == seen -> REACHED sleeping[me] = true
        :: else -> REACHED skip
        fi
    };
    if :: !early -> sleepers++ :: early -> skip fi;
    !sleeping[me];
    sleepers--
}

/* await_parcel(): `done` when there will be none. */
inline await_parcel() {
    atomic {
        waiting++;
        last = at_rest;
        event = event + ring
    };
    do
    :: atomic {
        if
        :: parcels > 0 -> REACHED    /* take */
            parcels--;
            stack[me] = parcel[parcels]; parcel[parcels] = 0;
            waiting = waiting - at_once;
            got = true
        :: parcels == 0 && me == 0 && at_rest ->
            waiting--;
            done = true
        :: parcels == 0 && !(me == 0 && at_rest) && ends && me != 0 -> done = true
        :: else ->
            REACHED seen = event
        fi };
        if :: got && !at_once -> waiting-- :: else -> skip fi;
        if
        :: got || done -> break
        :: else -> skip
        fi;
        see_late;
        if
        :: last && sleepers > 0 -> wake_all()
        :: else -> skip
        fi;
        last = false;
        futex_wait()
    od;
    atomic { got = false; seen = 0; last = false }
}

proctype Member(byte me) {
    byte o, set, seen;
    bool last, done, got;
    do
    ::
       await_parcel();
       if :: done -> break :: else -> skip fi;
       trace_own()
    od
}

inline trace_together() {
    do
    :: trace_own();
       await_parcel();
       if :: done -> break :: else -> skip fi
    od;
    atomic {
        done = false;
        assert(stack[0] == 0 && stack[1] == 0 && stack[2] == 0 && parcels == 0); /* idle */
        REACHED assert(stop || (traced == marked && (marked & all_old) == all_old))    /* complete */
    }
}

proctype Collector() {
    byte me, o, set, seen;
    bool last, done, got;
    set = bit_of(0);                                        /* the root */
    do
    :: visit(set);
       trace_together();
       if
       :: stop || has(traced, 7) -> REACHED break    /* abandoned, or ended */
       :: else -> REACHED set = bit_of(7)    /* what was logged */
       fi
    od;
    atomic { ends = true; event++ };                        /* stop_team */
    if :: sleepers > 0 -> wake_all() :: else -> skip fi
}

proctype Fork() {
    if
    :: hold = true
    :: skip
    fi
}

init {
    atomic { run Collector(); run Member(1); run Member(2); run Fork() };
    _nr_pr == 1;
    REACHED assert(waiting == MEMBERS - 1 && sleepers == 0 && parcels == 0)    /* idle */
}
