/* Units and chunks: claiming, assembling, placing, recycling (I2, I3, I7).
 *
 * Stands for: gcheap/core/units.pxd (claim), units.pyx (publish, free_sources, take_run, take_one,
 * give_back, release_evacuated), relocate.pyx (compact, batch_limit, slide_batch, whole_batch,
 * build_unit), assemble.pyx (assemble_unit), place.pyx (place, drop_stray, place_hole), fault.pyx
 * (serve).  The names are the code's.
 *
 * The compactor and two mutators build 3 units of 2 pages out of 4 chunks of from-space, after the
 * flip.  Mutators touch any page, as often as they like, in any order; a fault builds the whole
 * unit, so the other page is there as well (that is what fault-around is in the code).  One search
 * covers both backends and four plans:
 *
 *     layout     unit 0             unit 1             unit 2             chunks
 *     SLIDE      slid of 0, 1       slid of 1, 2       slid of 2, 3       all in use
 *     DEAD       slid of 2          slid of 2          is chunk 3         0 and 1 are free at once
 *     DENSE      slid of 0, 1       is chunk 2         is chunk 3         moved whole; 3 has a hole
 *     BLACK      slid of 0, 1       is chunk 2, dense  black, has a hole  3 lies above TAMS
 *
 * A page is one byte that says what stands in it: SRC, the live words of from-space; PAGE(u, p),
 * the finished page p of unit u; JUNK + who, a buffer that somebody is filling; GONE, nothing.
 * So whatever is lost, doubled, or built out of a recycled page shows in the bytes.
 *
 * An ioctl is one atomic step: the kernel edits page tables under locks of its own.  MOVE may
 * at any page end short (EAGAIN, with or without progress) or be refused (EBUSY, which stands for
 * EINVAL as well), COPY may end short, both may answer EEXIST, any number of times.  ENOMEM is
 * EAGAIN with a sleep.  That EEXIST twice for one page is fatal in the code only ends runs; whether
 * a stray page can really be there, where a mutator would read it, is window.pml's question.
 *
 * Left out, and why that is sound:
 *   waiting      is doing nothing: a mutator that lost the claim touches the page again once it is
 *                there.  That it is woken is shown by waiting.pml.
 *   a fault and the look at the unit's state are one step: states only go forward, so a thread that
 *                comes late with UNCLAIMED loses the CAS, and anything else makes it wait.
 *   assembly     looks at its sources when it is done: a page that was recycled under its hands
 *                never becomes SRC again.
 *   ASSEMBLED and PLACING are stored with the step beside them: others compare with UNCLAIMED
 *                and PLACED only.
 *   r.waiters    a batch may end after any unit: more than "when somebody waits".
 *   free_hint, take_cursor, LOOK_AHEAD, MUTATOR_TRIES   any free chunk may be found, or none.
 *   page tables  end batches early too; here BATCH does.
 *   large spaces a grain is a whole-moved unit with a claim of its own, as a BLACK one is.
 *   handler mode the server runs `serve` as a mutator does; its messages are window.pml's.
 *   stw          has no second thread.
 *   Memory order: steps are sequentially consistent.  The code's argument is that PLACED and FREE
 *                are stored with release and read with acquire, and readers counted by
 *                acquire-release.
 *
 * The comment behind an assertion is its invariant: tests/test_model.py reads it.
 */
#include "reached.h"

#define UNITS   3
#define PAGES   2
#define CHUNKS  4
#define BATCH   2               /* units of one batch of the compactor */

#define GONE        0           /* no page: a hole, moved away, or given back */
#define SRC         1
#define ZERO        2           /* what ZEROPAGE installs */
#define JUNK        3           /* + who fills this buffer */
#define PAGE(u, p)  (8 + (u) * PAGES + (p))

#ifndef MUTATORS
#define MUTATORS    2
#endif
#define COMPACTOR   MUTATORS    /* mutators are 0, 1, .. */
#define NOBODY      (MUTATORS + 1)
#define DONE        (MUTATORS + 2)      /* whoever it was: the unit is PLACED */

/* mem[]: chunks, the compactor's staging buffer, a bounce buffer for each mutator. */
#define STAGING     (CHUNKS * PAGES)
#define BOUNCE(m)   (STAGING + BATCH * PAGES + (m) * PAGES)
#define MEMORY      (BOUNCE(MUTATORS))

mtype = { UNCLAIMED, ASSEMBLING, ASSEMBLED, PLACING, PLACED };
mtype = { IN_USE, FREE, TAKEN };
mtype = { MOVE, COPY };
mtype = { SLIDE, DEAD, DENSE, BLACK };
mtype = { OK, EAGAIN, EBUSY, EEXIST };

mtype state[UNITS] = UNCLAIMED;
mtype chunk_state[CHUNKS] = IN_USE;
byte readers[CHUNKS];
byte to[UNITS * PAGES] = GONE;          /* to-space */
byte mem[MEMORY] = GONE;
byte owner[UNITS] = NOBODY;             /* ghost: who won the claim */
byte begun = 0;                         /* ghost: mutators that have built or zeroed something */

/* The plan; constant once chosen. */
mtype layout, backend;
byte reads[UNITS];                      /* a bit for each chunk */
byte slid_units = UNITS, whole_units = 0;

#define reads_it(u, c)      ((reads[u] >> (c)) & 1)
#define moves_whole(u)      ((whole_units >> (u)) & 1)
#define whole_source(u)     (((u) + 1) * PAGES)         /* unit 1 is chunk 2, unit 2 is chunk 3 */
#define is_hole(u, p)       ((layout == DENSE || layout == BLACK) && (u) == 2 && (p) == 1)

#define unread(c)   ((!reads_it(0, c) || state[0] == PLACED) \
                  && (!reads_it(1, c) || state[1] == PLACED) \
                  && (!reads_it(2, c) || state[2] == PLACED))

/* ---- chunks ---- */

#define is_free(c)  ((c) < CHUNKS && chunk_state[(c) % CHUNKS] == FREE)

inline free_one(u, c) {
    if
    :: reads_it(u, c) ->
        readers[c]--;
        if
        :: moves_whole(u) -> chunk_state[c] = (backend == MOVE -> TAKEN : FREE)
#ifdef MUTATE_CURSOR                    /* units finish in order, do they not? */
        :: !moves_whole(u) -> chunk_state[c] = FREE
#else
        :: !moves_whole(u) && readers[c] == 0 -> chunk_state[c] = FREE
        :: !moves_whole(u) && readers[c] > 0 -> skip
#endif
        fi
    :: else -> skip
    fi
}

/* One step: counting down one chunk commutes with whatever others do to another. */
inline free_sources(u) {
    d_step {
        if
        :: u < slid_units -> free_one(u, 0); free_one(u, 1); free_one(u, 2); free_one(u, 3)
        :: else -> skip
        fi
    }
}

/* FREE -> TAKEN by CAS, and the first word of the new contents. */
inline take(c, who) {
    d_step {
        chunk_state[c] == FREE -> chunk_state[c] = TAKEN;
        assert(unread(c)); /* I3 */
        mem[(c) * PAGES] = JUNK + who; mem[(c) * PAGES + 1] = JUNK + who
    }
}

/* ---- assembly: the owner reads its sources, and writes its buffer alone ---- */

inline read_chunk(u, c) {
    if
    :: reads_it(u, c) ->
        assert(mem[(c) * PAGES] == SRC && mem[(c) * PAGES + 1] == SRC) /* I3 */
    :: else -> skip
    fi
}

inline assemble_unit(u, buffer, who) {
    d_step {
        read_chunk(u, 0); read_chunk(u, 1); read_chunk(u, 2); read_chunk(u, 3);
        assert(buffer >= STAGING || mem[buffer] == JUNK + who); /* I2 */
        mem[buffer] = PAGE(u, 0); mem[buffer + 1] = PAGE(u, 1);
        state[u] = ASSEMBLED
    }
}

inline fix_page(u, p) {
    if
    :: is_hole(u, p) -> skip
    :: else ->
        assert(mem[whole_source(u) + p] == SRC); /* I7 */
        mem[whole_source(u) + p] = PAGE(u, p)
    fi
}

inline fix_whole(u) {
    d_step { fix_page(u, 0); fix_page(u, 1); state[u] = ASSEMBLED }
}

inline free_assembled(u) {
#ifdef MUTATE_FREE_ASSEMBLED            /* recycle before PLACED */
    free_sources(u)
#else
    skip
#endif
}

inline free_placed(u) {
#ifdef MUTATE_FREE_ASSEMBLED
    skip
#else
    free_sources(u)
#endif
}

inline claim(u, who) {
#ifdef MUTATE_NO_CAS                    /* drop the CAS: look, then write */
    state[u] == UNCLAIMED;
#endif
    d_step {
#ifndef MUTATE_NO_CAS
        state[u] == UNCLAIMED;
#endif
        state[u] = ASSEMBLING;
        assert(owner[u] == NOBODY); /* I2 */
        owner[u] = who
    }
}

/* ---- placing: place.pyx ---- */

hidden byte k, limit;
hidden mtype error = OK;

inline one_page(dst, src, holes) {
    if
    :: mem[src] != GONE ->
        assert(to[dst] == GONE); /* I2 */
        to[dst] = mem[src];
        if
        :: done >= copy_until -> mem[src] = GONE        /* a MOVE consumes its source */
        :: else -> skip
        fi
    :: else -> assert(holes) /* I7 */                   /* ENOENT */
    fi
}

#ifdef MUTATE_STRAY_ALWAYS              /* whatever stands there is a stray */
#define HAS_MOVED(src) false
#else
#define HAS_MOVED(src) (done >= copy_until && mem[src + done] == GONE)
#endif

/* One ioctl and what place() makes of its answer; n, done, copy_until, arrived in pages.  Up to
 * `arrived` MOVE has moved pages that it did not count. */
inline transfer(dst, src, n, holes) {
    limit = (done < copy_until -> copy_until : n);
    k = 0; error = OK;
    do
    :: done + k == limit -> break
    :: done + k < limit && done + k < arrived -> error = EEXIST; break
    :: done + k < limit && done + k >= arrived -> error = EAGAIN; break
    :: done + k < limit && done + k >= arrived && done >= copy_until -> error = EBUSY; break
    :: done + k < limit && k == 0 -> error = EEXIST; break
    :: done + k < limit && done + k >= arrived ->
        one_page(dst + done + k, src + done + k, holes); k++
    od;
    if
    :: k > 0 && done >= copy_until ->
        REACHED arrived = done + k; k = 0; error = EEXIST    /* moved, and not counted */
    :: k > 0 && error != OK -> error = EAGAIN           /* short: the reason comes the next time */
    :: k == 0 || error == OK -> skip
    fi;
#ifdef MUTATE_SHORT_IS_WHOLE
    done = (error == EAGAIN && k > 0 -> limit : done + k);
#else
#ifdef MUTATE_SHORT_RESTARTS            /* from the beginning, whatever the result field says */
    done = (error == EAGAIN && k > 0 -> 0 : done + k);
#else
    done = done + k;
#endif
#endif
    if
    :: error == EBUSY ->
        REACHED copy_until = (done / PAGES + 1) * PAGES;
        assert(copy_until <= n); /* I7 */
#ifdef MUTATE_ASSEMBLE_TWICE            /* begin again with a unit that was ASSEMBLED */
        if
        :: holes -> fix_page((dst + done) / PAGES, 0)
        :: else -> skip
        fi
#endif
    :: error == EEXIST && HAS_MOVED(src) -> REACHED
        done = done + 1;
        arrived = (done < arrived -> arrived : 0)
    :: error == EEXIST && !HAS_MOVED(src) ->
        assert(to[dst + done] == GONE); /* I6 */        /* drop_stray throws no contents away */
#ifdef MUTATE_EEXIST_IS_PLACED
        done = done + 1
#endif
    :: else -> skip
    fi
}

inline place(u, count, src, holes) {
    copy_until = (backend == COPY -> (count) * PAGES : 0);
    do
    :: atomic {
        done < (count) * PAGES ->
        state[u] = PLACING; state[u + count - 1] = PLACING;
        transfer((u) * PAGES, src, (count) * PAGES, holes) }
    :: else ->
        d_step {                        /* what was copied is dead where it stands */
            copy_until = 0;
            do
            :: done > 0 -> done--; mem[src + done] = GONE
            :: else -> break
            od
        };
        break
    od
}

/* PLACING -> PLACED, each unit on its own; then the sources. */
inline publish(u, count, who) {
    do
    :: j < count ->
        d_step {
            assert(owner[u + j] == who && state[u + j] == PLACING); /* I2 */
            assert(to[(u + j) * PAGES] == PAGE(u + j, 0)
                && to[(u + j) * PAGES + 1] ==
                   (is_hole(u + j, 1) -> GONE : PAGE(u + j, 1))); /* I7 */
            state[u + j] = PLACED; owner[u + j] = DONE;
            j++
        }
    :: else -> break
    od;
    do
    :: j > 0 -> free_placed(u + j - 1); j--
    :: else -> break
    od
}

/* ---- a mutator: serve() of fault.pyx, build_unit of relocate.pyx ---- */

/* They are alike, so they are numbered in the order in which they first do something. */
inline first() {
    if
    :: me < begun -> skip
    :: me == begun -> begun++
    :: me > begun -> u = 0; p = 0; goto touches
    fi
}

proctype Mutator(byte me) {
    byte u, p, buffer, done, copy_until, arrived, j;
touches:
end:
    atomic {
        select(u : 0 .. UNITS - 1); select(p : 0 .. PAGES - 1);
        if
        :: to[u * PAGES + p] != GONE ->
            assert(to[u * PAGES + p] == (is_hole(u, p) -> ZERO : PAGE(u, p))); /* I7 */
            u = 0; p = 0; goto touches
        :: to[u * PAGES + p] == GONE && state[u] == PLACED ->
            assert(is_hole(u, p)); /* I7 */
            first(); goto hole
        :: to[u * PAGES + p] == GONE && state[u] == UNCLAIMED -> p = 0; first()
        :: else -> REACHED u = 0; p = 0; goto touches    /* somebody else's: it waits */
        fi;
        claim(u, me)
    };
    if
    :: moves_whole(u) ->
        buffer = whole_source(u);
        fix_whole(u)
    :: else ->
        buffer = BOUNCE(me);
        if                                      /* take_one */
        :: atomic { backend == MOVE && chunk_state[0] == FREE -> take(0, me); buffer = 0 * PAGES }
        :: atomic { backend == MOVE && chunk_state[1] == FREE -> take(1, me); buffer = 1 * PAGES }
        :: atomic { backend == MOVE && chunk_state[2] == FREE -> take(2, me); buffer = 2 * PAGES }
        :: atomic { backend == MOVE && chunk_state[3] == FREE -> take(3, me); buffer = 3 * PAGES }
        :: skip
        fi;
        assemble_unit(u, buffer, me)
    fi;
    free_assembled(u);
    place(u, 1, buffer, moves_whole(u));
    buffer = 0;
    publish(u, 1, me);
    u = 0;
    goto touches;
hole:
    atomic {                                    /* ZEROPAGE */
        if
        :: to[u * PAGES + p] == GONE -> to[u * PAGES + p] = ZERO
        :: else -> REACHED skip    /* EEXIST: somebody was faster */
        fi;
        u = 0; p = 0
    };
    goto touches
}

/* ---- the compactor ---- */

inline batch_limit(u) {
    want = (u < slid_units -> slid_units : UNITS) - u;
    want = (want < BATCH -> want : BATCH)
}

inline take_run() {
    if
    :: atomic { chunk_state[0] == FREE -> take(0, COMPACTOR); buffer = 0 * PAGES; n = 1 }
    :: atomic { chunk_state[1] == FREE -> take(1, COMPACTOR); buffer = 1 * PAGES; n = 1 }
    :: atomic { chunk_state[2] == FREE -> take(2, COMPACTOR); buffer = 2 * PAGES; n = 1 }
    :: atomic { chunk_state[3] == FREE -> take(3, COMPACTOR); buffer = 3 * PAGES; n = 1 }
    :: skip
    fi;
    if
    :: atomic { (n == 1 && want == 2 && is_free(buffer / PAGES + 1)) ->
        take(buffer / PAGES + 1, COMPACTOR);
        REACHED n = 2 }
    :: skip
    fi;
    want = (n > 0 -> n : want)
}

inline give_back() {
    do
#ifdef MUTATE_GIVE_BACK_USED
    :: n > 0 && n + 1 > i ->
#else
    :: n > i ->
#endif
        n--;
        REACHED chunk_state[buffer / PAGES + n] = FREE
    :: else -> break
    od
}

inline slide_batch() {
    batch_limit(unit);
    buffer = STAGING;
    if
    :: backend == MOVE -> take_run()
    :: else -> skip
    fi;
    do
    :: i < want && !moves_whole(unit + i) && state[unit + i] == UNCLAIMED ->
        if
        :: claim(unit + i, COMPACTOR)
        :: state[unit + i] != UNCLAIMED -> REACHED break    /* the CAS fails */
        fi;
        assemble_unit(unit + i, buffer + i * PAGES, COMPACTOR);
        free_assembled(unit + i);
        i++;
        if
        :: i < want -> break                    /* somebody waits */
        :: skip
        fi
    :: else -> break
    od;
    give_back();
    n = 0; want = 0;
    if
    :: i > 0 -> place(unit, i, buffer, false); publish(unit, i, COMPACTOR)
    :: else -> i = 1                            /* somebody else's: the next one */
    fi;
    buffer = 0;
    unit = unit + i;
    i = 0
}

inline whole_batch() {
    batch_limit(unit);
    do
    :: i < want && moves_whole(unit + i) && state[unit + i] == UNCLAIMED ->
        if                                      /* sources adjoin where units do */
        :: claim(unit + i, COMPACTOR)
        :: state[unit + i] != UNCLAIMED -> REACHED break
        fi;
        fix_whole(unit + i);
        free_assembled(unit + i);
        i++;
        if
        :: break                                /* somebody waits */
        :: skip
        fi
    :: else -> break
    od;
    want = 0;
    if
    :: i > 0 -> place(unit, i, whole_source(unit), true); publish(unit, i, COMPACTOR)
    :: else -> i = 1
    fi;
    unit = unit + i;
    i = 0
}

/* release_evacuated: under COPY free chunks go back to the kernel, in order. */
inline release_evacuated() {
    do
    :: backend == COPY && released < CHUNKS && chunk_state[released] == FREE ->
        d_step {
            assert(unread(released)); /* I3 */
            mem[released * PAGES] = GONE; mem[released * PAGES + 1] = GONE;
            REACHED released++
        }
    :: break                                    /* not enough yet for a large piece */
    od
}

proctype Compactor() {
    byte unit, want, buffer, n, i, j, done, copy_until, arrived, released;
    do
    :: unit < UNITS && state[unit] != UNCLAIMED -> unit++
    :: unit < UNITS && state[unit] == UNCLAIMED ->
        if
        :: moves_whole(unit) -> whole_batch()
        :: else -> slide_batch()
        fi;
        release_evacuated()
    :: unit == UNITS -> break
    od;
    state[0] == PLACED && state[1] == PLACED && state[2] == PLACED;
    REACHED assert(owner[0] == DONE && owner[1] == DONE && owner[2] == DONE)    /* I2 */
}

inline chunk(c) {
    readers[c] = reads_it(0, c) + reads_it(1, c) + reads_it(2, c);
    chunk_state[c] = (readers[c] -> IN_USE : FREE);
    mem[c * PAGES] = SRC; mem[c * PAGES + 1] = SRC
}

init {
    atomic {
#ifdef BACKEND
        backend = BACKEND;
#else
        if :: backend = MOVE :: backend = COPY fi;
#endif
#ifdef LAYOUT
        layout = LAYOUT;
#else
        if :: layout = SLIDE :: layout = DEAD :: layout = DENSE :: layout = BLACK fi;
#endif
        if
        :: layout == SLIDE -> reads[0] = 3; reads[1] = 6; reads[2] = 12
        :: layout == DEAD -> reads[0] = 4; reads[1] = 4; reads[2] = 8; whole_units = 4
        :: layout == DENSE -> reads[0] = 3; reads[1] = 4; reads[2] = 8; whole_units = 6
        :: layout == BLACK -> reads[0] = 3; reads[1] = 4; whole_units = 6; slid_units = 2
        fi;
        chunk(0); chunk(1); chunk(2); chunk(3);
        if
        :: layout == DENSE || layout == BLACK -> mem[3 * PAGES + 1] = GONE
        :: else -> skip
        fi;
        if :: layout == BLACK -> chunk_state[3] = TAKEN :: else -> skip fi;     /* it is no chunk */
        run Mutator(0); run Mutator(1);
#if MUTATORS > 2
        run Mutator(2);
#endif
        run Compactor()
    }
}
