"""The Python face: nanoseconds per call, the call from a Python loop included."""


def test_new(heap, mutator, python_rounds):
    """`m.new(Node)`: an object, its handle and its `Ref`, dropped at once.  ns per call."""
    node = heap.shape("Node", refs=("left", "right"), raw=[("key", "u8")])
    python_rounds(mutator.new, node, count=100_000)


def test_new_with_fields(heap, mutator, python_rounds):
    """`m.new(Node, left=..., key=...)`: the same with two fields set.  ns per call."""
    node = heap.shape("Node", refs=("left", "right"), raw=[("key", "u8")])
    leaf = mutator.new(node)
    new = mutator.new
    python_rounds(lambda: new(node, left=leaf, key=1), count=50_000)


def test_read_slot(heap, mutator, python_rounds):
    """`a.left`: a slot read through a `Ref`, with the new `Ref` it gives.  ns per read."""
    node = heap.shape("Node", refs=("left",))
    parent = mutator.new(node, left=mutator.new(node))
    python_rounds(lambda: parent.left, count=100_000)


def test_write_slot(heap, mutator, python_rounds):
    """`setattr(a, "left", b)`: a slot written through a `Ref`.  ns per write."""
    node = heap.shape("Node", refs=("left",))
    parent, child = mutator.new(node), mutator.new(node)
    python_rounds(setattr, parent, "left", child, count=100_000)


def test_drop_handle(heap, mutator, python_rounds):
    """A `Ref` dropped: its slot in the root table is freed.  ns per drop."""
    node = heap.shape("Node", refs=("left",))
    count = 50_000
    refs = []
    python_rounds(refs.pop, count=count,
                  setup=lambda: refs.extend(mutator.new(node) for _ in range(count)))
