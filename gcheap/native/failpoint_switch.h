/* Whether failpoints are compiled in: GCHEAP_NO_FAILPOINTS=1 at build time leaves them out. */
#ifndef GCHEAP_FAILPOINT_SWITCH_H
#define GCHEAP_FAILPOINT_SWITCH_H
#ifdef GCHEAP_NO_FAILPOINTS
#define GCHEAP_FAILPOINTS_BUILT 0
#else
#define GCHEAP_FAILPOINTS_BUILT 1
#endif
#endif
