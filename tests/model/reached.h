/* REACHED, before a statement: the search must come there at least once.  With -DTELL it says so, and
 * tests/test_model.py misses those that did not.  (What pan itself calls unreached leaves out
 * what is inside a d_step, and statements that spin has merged.)  It is no part of a state.
 */
#ifdef TELL
c_decl {
    static char told[1000];
    static void tell(int line) { if (!told[line]) { told[line] = 1; printf("reached %d\n", line); } }
}
#define REACHED c_code { tell(__LINE__); };
#else
#define REACHED
#endif
