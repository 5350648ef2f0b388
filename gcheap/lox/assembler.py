"""From the book's instructions to those of our VM (native/opcodes.h).

Three things happen: captured variables get their cells; instructions that often follow each other
become one; names of globals and of property accesses become numbers.  What the program does, and
the line of each run-time error, stays the same.
"""
from __future__ import annotations

from array import array
from collections import Counter
from typing import NamedTuple

from gcheap.lox._vm import OPCODES

SLACK = 16                          # words of stack that the VM's own slow paths push
_CONSTANTS = 256

# What an instruction adds to the stack, where that is always the same.
_EFFECT = dict.fromkeys((
    "CONSTANT", "NIL", "TRUE", "FALSE", "GET_LOCAL", "GET_CELL", "GET_GLOBAL", "GET_UPVALUE",
    "CLOSURE", "CLASS", "NEW_CELL"), 1)
_EFFECT |= dict.fromkeys((
    "GET_PROPERTY", "NOT", "NEGATE", "JUMP", "JUMP_IF_FALSE", "LOOP", "SET_LOCAL", "SET_CELL",
    "SET_UPVALUE", "SET_GLOBAL", "BOX"), 0)
_EFFECT |= dict.fromkeys((
    "POP", "EQUAL", "GREATER", "LESS", "ADD", "SUBTRACT", "MULTIPLY", "DIVIDE", "PRINT", "RETURN",
    "DEFINE_GLOBAL", "SET_PROPERTY", "GET_SUPER", "INHERIT", "METHOD", "CLASS_END", "FILL_CELL"),
    -1)

_WITH_POP = {"SET_LOCAL": "SET_LOCAL_POP", "SET_GLOBAL": "SET_GLOBAL_POP",
             "SET_PROPERTY": "SET_PROPERTY_POP"}
_NEGATED = {"EQUAL": "NOT_EQUAL", "GREATER": "NOT_GREATER", "LESS": "NOT_LESS"}


class Code(NamedTuple):
    """A function, ready to be loaded.  `words` and `lines` are arrays of uint32, of one length;
    `constants` are floats, bytes, numbers of functions as ints, and None for nil."""

    name: bytes | None
    arity: int
    cells: int
    need: int
    words: array
    lines: array
    constants: list


def assemble(function, names):
    """The `Code` of a `functions.Function` that is complete."""
    code = _settle(function)
    return _Assembler(function, code, names).assemble()


def _settle(function):
    """The instructions with slots for locals, and cells only where they are needed."""
    moved, code = [], []
    for operation, a, b, line in function.code:
        moved.append(len(code))
        if operation in ("BOX", "NEW_CELL", "FILL_CELL"):
            if not a.captured:
                continue
            a = a.slot
        elif operation in ("GET_LOCAL", "SET_LOCAL"):
            if a.captured:
                operation = operation[:4] + "CELL"
            a = a.slot
        elif operation == "CLOSE_UPVALUE":
            operation = "POP"
        code.append((operation, a, b, line))
    moved.append(len(code))
    return [(operation, moved[a], b, line) if operation in ("JUMP", "JUMP_IF_FALSE", "LOOP")
            else (operation, a, b, line) for operation, a, b, line in code]


def stack_need(code, arity):
    """Most words of the stack that the instructions use, callee and arguments included."""
    depth = most = arity + 1
    arriving = {}
    comes_here = True
    for at, (operation, a, b, _) in enumerate(code):
        if at in arriving:
            depth = max(depth, arriving[at]) if comes_here else arriving[at]
        if operation in ("CALL", "INVOKE", "SUPER_INVOKE"):
            depth -= a if operation == "CALL" else b + (operation == "SUPER_INVOKE")
        else:
            depth += _EFFECT[operation]
        most = max(most, depth)
        if operation in ("JUMP", "JUMP_IF_FALSE"):
            arriving[a] = max(depth, arriving.get(a, 0))
        comes_here = operation not in ("JUMP", "LOOP", "RETURN")
    return most + SLACK


class _Branch(NamedTuple):
    """A conditional jump that takes its condition off the stack.  `sense`: which truth jumps."""

    sense: bool
    target: int
    next: int


class _Assembler:
    def __init__(self, function, code, names):
        self.function = function
        self.code = code
        self.names = names
        self.constants = list(function.constants)
        self.words = array("I")
        self.lines = array("I")
        self.at = 0                     # the instruction
        self.line = 0
        self.begins = {}                # instruction -> word
        self.jumps = []                 # (word to patch, shift, target)
        self._plan_branches()

    def assemble(self):
        while self.at < len(self.code):
            self.begins[self.at] = len(self.words)
            operation, a, b, self.line = self.code[self.at]
            special = getattr(self, "on_" + operation.lower(), None)
            if special is None or not special(a, b):
                self.plain(operation, a, b)
                self.at += 1
        self.begins[self.at] = len(self.words)
        for word, shift, target in self.jumps:
            over = self.begins[target] - (word + 1)
            self.words[word] |= (over if over >= 0 else -over) << shift
        function = self.function
        return Code(function.name, function.arity, len(function.upvalues),
                    stack_need(self.code, function.arity), self.words, self.lines, self.constants)

    # ---- branches ----

    def _plan_branches(self):
        """Finds the jumps whose condition nobody needs afterwards, and where they really go."""
        code = self.code
        pointed = Counter(a for operation, a, *_ in code
                          if operation in ("JUMP", "JUMP_IF_FALSE", "LOOP"))
        self.branches = branches = {}
        self.kept = {}                  # `or` whose value is used: JUMP_IF_FALSE -> target
        within = set()                  # jumps that are part of another
        for at in range(len(code) - 1, -1, -1):
            operation, target, *_ = code[at]
            if operation != "JUMP_IF_FALSE":
                continue
            following, over, *_ = code[at + 1]
            if at + 1 in pointed:
                continue
            if following == "JUMP" and target == at + 2 and pointed[target] == 1:
                within.add(at + 1)
                beyond = branches.get(over)
                if beyond:
                    goal = beyond.target if beyond.sense else beyond.next
                    branches[at] = _Branch(True, goal, at + 3)
                else:
                    self.kept[at] = over
            elif following == "POP":
                beyond = branches.get(target)
                if beyond:
                    goal = beyond.next if beyond.sense else beyond.target
                    branches[at] = _Branch(False, goal, at + 2)
                elif code[target][0] == "POP":
                    branches[at] = _Branch(False, target + 1, at + 2)
        self.targets = {branch.target for branch in branches.values()} | set(self.kept.values())
        self.targets |= {
            a for at, (operation, a, *_) in enumerate(code)
            if operation in ("JUMP", "LOOP", "JUMP_IF_FALSE")
            and at not in within and at not in branches and at not in self.kept}

    def branch_at(self, at):
        """The branch that the instruction `at` is, with NOT before it; or None."""
        inverted = False
        while at not in self.targets and self.is_at(at, "NOT"):
            inverted = not inverted
            at += 1
        branch = None if at in self.targets else self.branches.get(at)
        if branch and inverted:
            return branch._replace(sense=not branch.sense)
        return branch

    def is_at(self, at, operation):
        return at < len(self.code) and self.code[at][0] == operation

    def following(self, steps):
        """The operation so many instructions on; None where something jumps to it."""
        at = self.at + steps
        if at >= len(self.code) or not self.targets.isdisjoint(range(self.at + 1, at + 1)):
            return None
        return self.code[at][0]

    # ---- words ----

    def put(self, operation, a=0, b=0, c=0, line=None):
        self.words.append(OPCODES[operation] | a << 8 | b << 16 | c << 24)
        self.lines.append(self.line if line is None else line)

    def extra(self, word, line=None):
        self.words.append(word)
        self.lines.append(self.lines[-1] if line is None else line)

    def number(self, operation, n, line=None):
        self.put(operation, line=line)
        self.words[-1] |= n << 8

    def jump(self, operation, target):
        self.put(operation)
        self.jumps.append((len(self.words) - 1, 8, target))

    def long_branch(self, operation, target, a=0, b=0, line=None):
        self.put(operation, a, b, line=line)
        self.extra(0)
        self.jumps.append((len(self.words) - 1, 0, target))

    def access(self, operation, name, a=0, line=None):
        self.put(operation, a, line=line)
        self.extra(self.names.site(name))

    def done(self, steps):
        self.at += steps
        return True

    def plain(self, operation, a, b):
        if operation in ("GET_GLOBAL", "DEFINE_GLOBAL", "SET_GLOBAL"):
            self.number(operation, self.names.global_(a))
        elif operation in ("GET_PROPERTY", "SET_PROPERTY"):
            self.access(operation, a)
        elif operation in ("INVOKE", "SUPER_INVOKE"):
            if operation == "INVOKE" and (a, b) in ((b"get", 1), (b"set", 2)):
                operation = "ARRAY_GET" if b == 1 else "ARRAY_SET"
            self.access(operation, a, b)
        elif operation == "CLOSURE":
            self.put(operation, a, len(b) & 255, len(b) >> 8)
            for captured in b:
                self.extra(captured if isinstance(captured, int) else 256 | captured.slot)
        else:
            self.put(operation, a or 0, b or 0)

    # ---- one instruction for several: True when it was done ----

    def on_get_local(self, a, _):
        one, two = self.following(1), self.following(2)
        line = self.code[self.at + 1][3]
        if one == "GET_LOCAL":
            b = self.code[self.at + 1][1]
            if two in ("ADD", "SUBTRACT", "MULTIPLY"):
                self.put(two + "_LL", a, b, line=self.code[self.at + 2][3])
                return self.done(3)
            if two == "LESS" and self._compare_branch("LESS", 2, "_LL", a, b):
                return True
            if two not in ("GET_PROPERTY", "CONSTANT"):
                self.put("GET_LOCAL_2", a, b)
                return self.done(2)
        elif one == "CONSTANT":
            constant = self.code[self.at + 1][1]
            if two in ("ADD", "SUBTRACT"):
                self.put(two + "_LK", a, constant, line=self.code[self.at + 2][3])
                return self.done(3)
            if two in ("LESS", "GREATER"):
                return self._compare_branch(two, 2, "_LK", a, constant)
        elif one in ("ADD", "SUBTRACT"):
            self.put(one + "_L", a, line=line)
            return self.done(2)
        elif one == "GET_PROPERTY":
            self.access("GET_LOCAL_PROPERTY", self.code[self.at + 1][1], a, line)
            return self.done(2)
        elif one == "RETURN":
            self.put("RETURN_LOCAL", a, line=line)
            return self.done(2)
        branch = self.branch_at(self.at + 1)
        if branch and not branch.sense:
            self.long_branch("JUMP_UNLESS_LOCAL", branch.target, a)
            self.at = branch.next
            return True
        return False

    def _compare_branch(self, comparison, steps, suffix, a, b):
        branch = self.branch_at(self.at + steps + 1)
        if not branch or branch.sense:
            return False
        self.long_branch(f"JUMP_UNLESS_{comparison}{suffix}", branch.target, a, b,
                         self.code[self.at + steps][3])
        self.at = branch.next
        return True

    def on_constant(self, constant, _):
        one = self.following(1)
        if one in ("ADD", "SUBTRACT", "MULTIPLY", "DIVIDE"):
            self.put(one + "_K", constant, line=self.code[self.at + 1][3])
            return self.done(2)
        return one == "EQUAL" and self._equal_constant(constant)

    def on_nil(self, *_):
        one = self.following(1)
        if one == "RETURN":
            self.put("RETURN_NIL", line=self.code[self.at + 1][3])
            return self.done(2)
        if one == "EQUAL" and (None in self.constants or len(self.constants) < _CONSTANTS):
            if None not in self.constants:
                self.constants.append(None)
            return self._equal_constant(self.constants.index(None))
        return False

    def _equal_constant(self, constant):
        branch = self.branch_at(self.at + 2)
        if branch:
            self.long_branch("JUMP_IF_EQUAL_K" if branch.sense else "JUMP_UNLESS_EQUAL_K",
                             branch.target, constant)
            self.at = branch.next
            return True
        inverted = self.following(2) == "NOT"
        self.put("NOT_EQUAL_K" if inverted else "EQUAL_K", constant)
        return self.done(3 if inverted else 2)

    def _comparison(self, name):
        branch = self.branch_at(self.at + 1)
        if branch:
            self.long_branch(f"JUMP_{'IF' if branch.sense else 'UNLESS'}_{name}", branch.target)
            self.at = branch.next
            return True
        if self.following(1) == "NOT":
            self.put(_NEGATED[name])
            return self.done(2)
        return False

    def on_less(self, *_):
        return self._comparison("LESS")

    def on_greater(self, *_):
        return self._comparison("GREATER")

    def on_equal(self, *_):
        return self._comparison("EQUAL")

    def on_not(self, *_):
        branch = self.branch_at(self.at + 1)
        if not branch:
            return False
        self.jump("POP_JUMP_IF_FALSE" if branch.sense else "POP_JUMP_IF_TRUE", branch.target)
        self.at = branch.next
        return True

    def on_jump_if_false(self, target, _):
        branch = self.branches.get(self.at)
        if branch:
            self.jump("POP_JUMP_IF_TRUE" if branch.sense else "POP_JUMP_IF_FALSE", branch.target)
            self.at = branch.next
        elif self.at in self.kept:
            self.jump("JUMP_IF_TRUE", self.kept[self.at])
            self.at += 2
        else:
            self.jump("JUMP_IF_FALSE", target)
            self.at += 1
        return True

    def on_jump(self, target, _):
        self.jump("JUMP", target)
        return self.done(1)

    def on_loop(self, target, _):
        self.jump("LOOP", target)
        return self.done(1)

    def _with_pop(self, operation, operand):
        if self.following(1) != "POP":
            return False
        if operation == "SET_LOCAL":
            self.put(_WITH_POP[operation], operand)
        elif operation == "SET_GLOBAL":
            self.number(_WITH_POP[operation], self.names.global_(operand))
        else:
            self.access(_WITH_POP[operation], operand)
        return self.done(2)

    def on_set_local(self, a, _):
        return self._with_pop("SET_LOCAL", a)

    def on_set_global(self, a, _):
        return self._with_pop("SET_GLOBAL", a)

    def on_set_property(self, a, _):
        return self._with_pop("SET_PROPERTY", a)
