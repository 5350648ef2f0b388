/* The instructions of the VM, once: the enum, the jump table, and the names for the assembler.
 *
 * An instruction is a word of 32 bits, and for some a second one:
 *
 *     | operation | a: 8 bits | b: 8 bits | c: 8 bits |      or  | operation | n: 24 bits |
 *
 * In names, L is a local (a; LL: a and b) and K a constant (b, or a where there is no L).  Jumps have
 * the words to jump over in n, those that compare in the second word.  The second word of property
 * accesses says where their cache is; CLOSURE has one for each captured variable. */
#ifndef GCHEAP_LOX_OPCODES_H
#define GCHEAP_LOX_OPCODES_H

#define LOX_OPCODES(X) \
    X(CONSTANT) X(NIL) X(TRUE) X(FALSE) X(POP) \
    X(GET_LOCAL) X(SET_LOCAL) X(SET_LOCAL_POP) X(GET_LOCAL_2) \
    X(BOX) X(NEW_CELL) X(FILL_CELL) X(GET_CELL) X(SET_CELL) X(GET_UPVALUE) X(SET_UPVALUE) \
    X(GET_GLOBAL) X(DEFINE_GLOBAL) X(SET_GLOBAL) X(SET_GLOBAL_POP) \
    X(GET_PROPERTY) X(GET_LOCAL_PROPERTY) X(SET_PROPERTY) X(SET_PROPERTY_POP) X(GET_SUPER) \
    X(EQUAL) X(NOT_EQUAL) X(GREATER) X(LESS) X(NOT_GREATER) X(NOT_LESS) \
    X(ADD) X(SUBTRACT) X(MULTIPLY) X(DIVIDE) X(NOT) X(NEGATE) X(PRINT) \
    X(ADD_K) X(SUBTRACT_K) X(MULTIPLY_K) X(DIVIDE_K) X(ADD_LK) X(SUBTRACT_LK) \
    X(ADD_LL) X(SUBTRACT_LL) X(MULTIPLY_LL) X(ADD_L) X(SUBTRACT_L) \
    X(EQUAL_K) X(NOT_EQUAL_K) \
    X(JUMP) X(JUMP_IF_FALSE) X(JUMP_IF_TRUE) X(POP_JUMP_IF_FALSE) X(POP_JUMP_IF_TRUE) X(LOOP) \
    X(JUMP_UNLESS_LESS) X(JUMP_UNLESS_GREATER) X(JUMP_IF_LESS) X(JUMP_IF_GREATER) \
    X(JUMP_UNLESS_LESS_LK) X(JUMP_UNLESS_GREATER_LK) X(JUMP_UNLESS_LESS_LL) \
    X(JUMP_UNLESS_EQUAL) X(JUMP_IF_EQUAL) X(JUMP_UNLESS_EQUAL_K) X(JUMP_IF_EQUAL_K) \
    X(JUMP_UNLESS_LOCAL) \
    X(CALL) X(INVOKE) X(SUPER_INVOKE) X(ARRAY_GET) X(ARRAY_SET) \
    X(CLOSURE) X(CLASS) X(INHERIT) X(METHOD) X(CLASS_END) \
    X(RETURN) X(RETURN_LOCAL) X(RETURN_NIL)

enum {
#define X(name) OP_##name,
    LOX_OPCODES(X)
#undef X
    OP_COUNT
};

static const char *const lox_opcode_names[] = {
#define X(name) #name,
    LOX_OPCODES(X)
#undef X
};
#endif
