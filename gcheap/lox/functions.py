"""What the compiler knows of a function under way: its variables, its code, the book's limits.

Code is a list of instructions of the book's VM, [operation, operand, operand, line], and `size` is
how many bytes they would be there: the limits on jumps and constants are limits of that form.
Locals stand in it as `Local` objects, because only the end of a function tells which of them
closures captured.  `assembler.assemble` makes it what our VM runs.
"""
from __future__ import annotations

BYTE = 256
JUMP = 65535

# Bytes in the book's form; those with operands of varying number are not here.
SIZES = dict.fromkeys((
    "NIL", "TRUE", "FALSE", "POP", "EQUAL", "GREATER", "LESS", "ADD", "SUBTRACT", "MULTIPLY",
    "DIVIDE", "NOT", "NEGATE", "PRINT", "CLOSE_UPVALUE", "RETURN", "INHERIT", "CLASS_END"), 1)
SIZES |= dict.fromkeys((
    "CONSTANT", "GET_LOCAL", "SET_LOCAL", "GET_GLOBAL", "DEFINE_GLOBAL", "SET_GLOBAL",
    "GET_UPVALUE", "SET_UPVALUE", "GET_PROPERTY", "SET_PROPERTY", "GET_SUPER", "CALL", "CLASS",
    "METHOD", "CLOSURE"), 2)
SIZES |= dict.fromkeys(("JUMP", "JUMP_IF_FALSE", "LOOP", "INVOKE", "SUPER_INVOKE"), 3)
# Ours: where a variable that was captured gets its cell.
SIZES |= dict.fromkeys(("BOX", "NEW_CELL", "FILL_CELL"), 0)


class Local:
    """A local variable; `depth` is -1 until it is initialized."""

    __slots__ = ("captured", "depth", "name", "slot")

    def __init__(self, name, depth, slot):
        self.name = name
        self.depth = depth
        self.slot = slot
        self.captured = False


class Function:
    """The function that is compiled, `kind` one of script, function, method, initializer.

    `constants` holds floats, bytes, and numbers of functions as ints; `upvalues` pairs of
    (a Local of the enclosing function or the number of one of its upvalues).
    """

    def __init__(self, enclosing, kind, name):
        self.enclosing = enclosing
        self.kind = kind
        self.name = name
        self.arity = 0
        self.code = []
        self.size = 0
        self.offsets = []           # bytes before each instruction
        self.constants = []
        self.upvalues = []
        self.depth = 0
        self.locals = [Local(b"" if kind == "function" else b"this", 0, 0)]

    def emit(self, operation, a, b, line):
        """Appends an instruction; returns its number."""
        self.code.append([operation, a, b, line])
        self.offsets.append(self.size)
        self.size += SIZES[operation]
        return len(self.code) - 1

    def find_local(self, name):
        for local in reversed(self.locals):
            if local.name == name:
                return local
        return None
