"""sys.setswitchinterval at its extremes: the GIL changes hands at every turn, or hardly ever."""
from __future__ import annotations

from hostile_support import in_child


def test_python_mutators_and_collections(combination, seed):
    in_child("""
from support import MutatorThread, check_interleaved, interleaved, node_shape
with gcheap.Heap("8MiB", verify=2, **options) as heap, heap.attach() as m:
    shape = node_shape(heap)
    problems = []
    def guarded(f, *args):
        try:
            f(*args)
        except BaseException as e:
            problems.append(e)

    def mutate():
        with heap.attach() as mine:
            for _ in range(4):
                nodes = interleaved(mine, shape, 300)
                heap.collect(wait=False)
                assert check_interleaved(nodes) == 300

    def collect():
        for _ in range(6):
            heap.collect()

    for seconds in (1e-6, 1e3):
        sys.setswitchinterval(seconds)
        before = heap.stats().relocations
        threads = [threading.Thread(target=guarded, args=(f,))
                   for f in (mutate, collect, mutate, collect, mutate)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(50)
            assert not thread.is_alive()
        assert not problems, problems
        assert heap.stats().relocations >= before + 6 and heap.stats().mutators == 1
""", combination, seed)
