/* Whether tracing is compiled in: GCHEAP_NO_TRACING=1 at build time leaves it out, so that what it
 * costs while it is off can be measured (benchmarks/tracing.py). */
#ifndef GCHEAP_TRACING_SWITCH_H
#define GCHEAP_TRACING_SWITCH_H
#ifdef GCHEAP_NO_TRACING
#define GCHEAP_TRACING_BUILT 0
#else
#define GCHEAP_TRACING_BUILT 1
#endif
#endif
