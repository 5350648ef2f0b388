"""The peer program for CPython and PyPy: what peer.c does, operation by operation.

    python3 peer.py churn|trees|full LIVE CAPACITY COUNT SECONDS SEED

Needs nothing but the interpreter.
"""
import gc
import platform
import sys
from array import array
from time import perf_counter_ns

TREE_NODES, TREE_BYTES, WALK, YOUNG, RING = 511, 511 * 48, 8, 8, 1024
ARRAY_BYTES, ARRAY_WORDS, ARRAY_EVERY, SAMPLE, GENERATION_BITS = 1024, 126, 22, 16, 24
PLACE_BITS, STEP_LEVELS, MIN_DEPTH, LEAF_NODE_BYTES, GAP_NS = 9, 6, 4, 32, 20000
YOUNG_ID = 1 << 61
PRIME = 2147483647
GENERATION = (1 << GENERATION_BITS) - 1
PYPY = platform.python_implementation() == "PyPy"


class Node:
    __slots__ = ("left", "right", "id")


class Node48(Node):
    __slots__ = ("a", "b")


class Node64(Node48):
    __slots__ = ("c", "d")


# ---- what is recorded ------------------------------------------------------------------------

class Recorder:
    """Operations, latencies, gaps, pauses, failed checks."""

    def __init__(self):
        self.counts = [0] * (2048 + 1024 * 40)
        self.begin = self.last = self.end = self.ops = self.failures = self.hash = 0
        self.gaps = []
        self.pauses = []

    def start(self, seconds):
        self.pauses.clear()
        self.begin = self.last = perf_counter_ns()
        self.end = self.begin + int(seconds * 1e9)

    def ended(self):
        now = perf_counter_ns()
        length = now - self.last
        self.last = now
        self.counts[slot_of(length)] += 1
        if length > GAP_NS:
            self.gaps.append((now - self.begin - length, length))
        self.ops += 1
        return now < self.end

    def expect(self, holds):
        if not holds:
            self.failures += 1

    def fold(self, number):
        self.hash = (self.hash * 1000003 + number % PRIME) % PRIME

    def show(self):
        print(f"seconds {(self.last - self.begin) / 1e9}\nops {self.ops}\n"
              f"failures {self.failures}")
        for slot, count in enumerate(self.counts):
            if count:
                print(f"bucket {upper(slot)} {count}")
        for start, length in self.gaps:
            print(f"gap {start} {length}")
        for length in self.pauses:
            print(f"pause {length}")


def slot_of(value):
    if value < 2048:
        return value
    shift = value.bit_length() - 11
    return shift * 1024 + (value >> shift)


def upper(slot):
    if slot < 2048:
        return slot
    shift = slot // 1024 - 1
    return ((slot - shift * 1024 + 1) << shift) - 1


r = Recorder()


def watch_collections():
    """The interpreter's own account of its collections."""
    if PYPY:
        class Hooks:
            def on_gc_minor(self, stats):
                r.pauses.append(int(stats.duration * 1e9))

            def on_gc_collect_step(self, stats):
                r.pauses.append(int(stats.duration * 1e9))

            def on_gc_collect(self, stats):
                pass

        gc.hooks.set(Hooks())
        return
    started = [0]

    def note(phase, _info):
        if phase == "start":
            started[0] = perf_counter_ns()
        else:
            r.pauses.append(perf_counter_ns() - started[0])

    gc.callbacks.append(note)


# ---- data ------------------------------------------------------------------------------------

class Random:
    """xorshift (G. Marsaglia, 2003), 32 bits."""

    def __init__(self, seed):
        self.state = seed * 2654435761 & 0xFFFFFFFF | 1

    def draw(self):
        s = self.state
        s ^= s << 13 & 0xFFFFFFFF
        s ^= s >> 17
        s ^= s << 5 & 0xFFFFFFFF
        self.state = s
        return s


def make(kind, number):
    if kind == 0:
        node = Node()
    elif kind == 1:
        node = Node48()
        node.a = number ^ 0xFFFF
        node.b = number + 1
    else:
        node = Node64()
        node.a = number ^ 0xFFFF
        node.b = number + 1
        node.c = number ^ 0xFF00
        node.d = number + 2
    node.left = node.right = None
    node.id = number
    return node


def filled(node, kind):
    if kind == 0:
        return True
    if node.a != node.id ^ 0xFFFF or node.b != node.id + 1:
        return False
    return kind == 1 or (node.c == node.id ^ 0xFF00 and node.d == node.id + 2)


def belongs(node, key):
    if node is not None and node.id >> GENERATION_BITS == key:
        return True
    r.failures += 1
    return False


# ---- churn -----------------------------------------------------------------------------------

def build(tree, place):
    node = make((tree + place) % 3, (tree << PLACE_BITS | place) << GENERATION_BITS)
    if 2 * place < TREE_NODES:
        node.left = build(tree, 2 * place)
        node.right = build(tree, 2 * place + 1)
    return node


def words(number):
    return array("q", range(number, number + ARRAY_WORDS))


class Churn:
    def __init__(self, live, random):
        self.random = random
        self.trees = live * 9 // 10 // TREE_BYTES
        self.table = [build(tree, 1) for tree in range(self.trees)]
        self.arrays = [words(i << GENERATION_BITS) for i in range(live // 10 // ARRAY_BYTES)]
        self.ring = [None] * RING
        self.operations = self.young = self.replaced = self.arrays_replaced = 0
        self.until_array = ARRAY_EVERY

    def replace_node(self, sampled):
        draw = self.random.draw
        tree = draw() * self.trees >> 32
        place = 1 + (draw() * TREE_NODES >> 32)
        kind = (tree + place) % 3
        parent, node = None, self.table[tree]
        if not belongs(node, tree << PLACE_BITS | 1):
            return
        for level in range(place.bit_length() - 2, -1, -1):
            here = place >> level
            parent = node
            node = node.right if here & 1 else node.left
            if not belongs(node, tree << PLACE_BITS | here):
                return
        if sampled:
            r.expect(filled(node, kind))
        made = make(kind, node.id + 1)
        made.left = node.left
        made.right = node.right
        if parent is None:
            self.table[tree] = made
        elif place & 1:
            parent.right = made
        else:
            parent.left = made
        self.replaced += 1

    def walk(self):
        draw = self.random.draw
        tree = draw() * self.trees >> 32
        bits, place = draw(), 1
        node = self.table[tree]
        if not belongs(node, tree << PLACE_BITS | 1):
            return
        for _ in range(WALK):
            node = node.right if bits & 1 else node.left
            place = 2 * place + (bits & 1)
            if not belongs(node, tree << PLACE_BITS | place):
                return
            bits >>= 1

    def make_young(self, sampled):
        young, ring = self.young, self.ring
        if sampled and young >= RING:
            old = ring[young % RING]
            r.expect(old is not None and old.id == YOUNG_ID | (young - RING)
                     and filled(old, (young + 2 * RING) % 3))
        for number in range(young, young + YOUNG):
            ring[number % RING] = make(number % 3, YOUNG_ID | number)
        self.young = young + YOUNG

    def replace_array(self):
        index = self.random.draw() * len(self.arrays) >> 32
        old = self.arrays[index]
        r.expect(old[0] >> GENERATION_BITS == index)
        if self.arrays_replaced % SAMPLE == 0:
            r.expect(old == words(old[0]))
        self.arrays[index] = words(old[0] + 1)
        self.arrays_replaced += 1

    def operate(self):
        sampled = self.operations % SAMPLE == 0
        self.replace_node(sampled)
        self.walk()
        self.walk()
        self.make_young(sampled)
        self.until_array -= 1
        if self.until_array == 0:
            self.until_array = ARRAY_EVERY
            self.replace_array()
        self.operations += 1

    def audit(self, node, tree, place):
        if not belongs(node, tree << PLACE_BITS | place):
            return 0
        r.expect(filled(node, (tree + place) % 3))
        r.fold(node.id)
        total = node.id & GENERATION
        if 2 * place < TREE_NODES:
            total += self.audit(node.left, tree, 2 * place)
            return total + self.audit(node.right, tree, 2 * place + 1)
        r.expect(node.left is None and node.right is None)
        return total

    def audit_all(self):
        r.hash = 0
        nodes = sum(self.audit(node, tree, 1) for tree, node in enumerate(self.table))
        of_arrays = 0
        for i, one in enumerate(self.arrays):
            r.expect(one == words(one[0]) and one[0] >> GENERATION_BITS == i)
            r.fold(one[0])
            of_arrays += one[0] & GENERATION
        for i in range(max(0, self.young - RING), self.young):
            r.expect(self.ring[i % RING].id == YOUNG_ID | i)
        r.fold(self.young)
        r.expect(nodes == self.replaced and of_arrays == self.arrays_replaced)
        return r.hash


def churn(live, warm_up, seconds, random):
    data = Churn(live, random)
    for _ in range(warm_up):
        data.operate()
    print("checksum", data.audit_all())
    r.start(seconds)
    while True:
        data.operate()
        if not r.ended():
            break
    data.audit_all()
    r.show()


# ---- trees -----------------------------------------------------------------------------------

class Trees:
    def __init__(self):
        self.serial = 0
        self.stopped = self.measuring = False

    def step(self):
        if self.measuring and not r.ended():
            self.stopped = True
        return not self.stopped

    def build(self, levels, place):
        left = right = None
        if levels > 1:
            left = self.build(levels - 1, 2 * place)
            if left is not None:
                right = self.build(levels - 1, 2 * place + 1)
            if right is None:
                return None
        node = make(0, self.serial << 32 | place)
        node.left = left
        node.right = right
        if levels == STEP_LEVELS or (place == 1 and levels < STEP_LEVELS):
            return node if self.step() else None
        return node

    def count_small(self, node, levels, place):
        if node is None or node.id != self.serial << 32 | place:
            r.failures += 1
            return 0
        if levels == 1:
            r.expect(node.left is None and node.right is None)
            return 1
        return (1 + self.count_small(node.left, levels - 1, 2 * place)
                + self.count_small(node.right, levels - 1, 2 * place + 1))

    def count(self, node, levels, place):
        if levels <= STEP_LEVELS:
            nodes = self.count_small(node, levels, place)
            self.step()
            return nodes
        r.expect(node.id == self.serial << 32 | place)
        nodes = 1 + self.count(node.left, levels - 1, 2 * place)
        if not self.stopped:
            nodes += self.count(node.right, levels - 1, 2 * place + 1)
        return nodes

    def short_lived(self, depth):
        serial = 0
        while not self.stopped:
            for d in range(MIN_DEPTH, depth + 1, 2):
                for _ in range(1 << (depth - d + MIN_DEPTH)):
                    serial += 1
                    self.serial = serial & 0xFFFFFFF
                    made = self.build(d + 1, 1)
                    if made is None:
                        return
                    nodes = self.count(made, d + 1, 1)
                    if self.stopped:
                        return
                    r.expect(nodes == (2 << d) - 1)


def fold_tree(node):
    if node is not None:
        r.fold(node.id)
        fold_tree(node.left)
        fold_tree(node.right)


def trees(live, seconds):
    depth = MIN_DEPTH + 2
    while 2 * ((2 << (depth + 1)) - 1) * LEAF_NODE_BYTES <= live:
        depth += 1
    data = Trees()
    long_lived = data.build(depth + 1, 1)
    data.measuring = True
    r.start(seconds)
    data.short_lived(depth)
    data.measuring = data.stopped = False
    data.serial = 0
    r.expect(data.count(long_lived, depth + 1, 1) == (2 << depth) - 1)
    fold_tree(long_lived)
    print("checksum", r.hash)
    r.show()


# ---- full ------------------------------------------------------------------------------------

def build_pair(tree, place):
    kind = (tree + place) % 3
    a = make(kind, (tree << PLACE_BITS | place) << GENERATION_BITS)
    b = make(kind, (tree + 1 << PLACE_BITS | place) << GENERATION_BITS)
    if 2 * place < TREE_NODES:
        a.left, b.left = build_pair(tree, 2 * place)
        a.right, b.right = build_pair(tree, 2 * place + 1)
    return a, b


def audit_even(node, tree, place):
    if not belongs(node, tree << PLACE_BITS | place):
        return 0
    r.expect(filled(node, (tree + place) % 3))
    r.fold(node.id)
    if 2 * place >= TREE_NODES:
        return 1
    return (1 + audit_even(node.left, tree, 2 * place)
            + audit_even(node.right, tree, 2 * place + 1))


def full(live, times):
    pairs, pauses = live // TREE_BYTES, []
    for _ in range(times):
        table = None
        gc.collect()
        table = []
        for i in range(pairs):
            table += build_pair(2 * i, 1)
        # Elsewhere dropping takes no time and the collection all of it; reference counting frees
        # while it drops, so that belongs to its time.
        begun = perf_counter_ns()
        table[1::2] = [None] * pairs
        if PYPY:
            begun = perf_counter_ns()
        r.pauses[:] = pauses            # those of the timed collections alone
        gc.collect()
        print("collection", perf_counter_ns() - begun)
        pauses = r.pauses[:]
        r.hash = 0
        for i in range(pairs):
            r.expect(audit_even(table[2 * i], 2 * i, 1) == TREE_NODES)
    for length in pauses:
        print(f"pause {length}")
    print(f"checksum {r.hash}\nlive {pairs * TREE_BYTES}\nfailures {r.failures}")


def main(mode, live, _capacity, times, seconds, seed):
    print("version", ".".join(map(str, sys.pypy_version_info[:3])) if PYPY
          else platform.python_version())
    watch_collections()
    if mode == "churn":
        churn(int(live), int(times), float(seconds), Random(int(seed)))
    elif mode == "trees":
        trees(int(live), float(seconds))
    elif mode == "full":
        full(int(live), int(times))
    else:
        sys.exit(f"{mode}: expected churn, trees or full")
    sys.exit(1 if r.failures else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
