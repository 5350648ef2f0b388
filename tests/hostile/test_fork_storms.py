"""Storms of forks, of every kind and from several threads, while cycles run."""
from __future__ import annotations

import pytest
from hostile_support import in_child

STORM = """
import multiprocessing, subprocess, warnings
from support import check_interleaved, interleaved, node_shape, status_of_child
warnings.simplefilter("ignore", DeprecationWarning)         # this process has threads: yes

def storm(rounds):
    with gcheap.Heap("8MiB", verify=1, **options) as heap, heap.attach() as m:
        nodes, check = graph(heap, m, 600)
        problems, over = [], threading.Event()

        def guarded(f):
            try:
                with heap.attach() as mine:
                    f(mine, *graph(heap, mine, 300))
            except BaseException as e:
                problems.append(e)

        def by_fork(mine, own, check_own):
            for n in range(rounds):
                pid = os.fork()
                if pid == 0:
                    try:
                        check_own()
                        check()
                        if n % 2:
                            collected(heap, mine, rounds=1, count=200)
                            check_own()
                        os._exit(0)
                    finally:
                        os._exit(1)
                check_own()
                assert status_of_child(pid) == 0

        def by_multiprocessing(mine, own, check_own):
            context = multiprocessing.get_context("fork")
            for _ in range(rounds // 2):
                process = context.Process(target=check_own)
                process.start()
                process.join()
                assert process.exitcode == 0

        def by_vfork(mine, own, check_own):
            for _ in range(rounds):
                assert subprocess.run(["true"]).returncode == 0
                check_own()

        def churn(mine, own, check_own):
            while not over.is_set():
                for _ in range(50):
                    mine.new_bytes(bytes(3000))
                check_own()
                heap.collect(wait=False)

        working = threading.Thread(target=guarded, args=(churn,))
        threads = [threading.Thread(target=guarded, args=(f,))
                   for f in (by_fork, by_multiprocessing, by_fork, by_vfork)]
        for thread in [working, *threads]:
            thread.start()
        for thread in threads:
            thread.join(50)
            assert not thread.is_alive()
        over.set()
        working.join(50)
        assert not working.is_alive() and not problems, problems
        check()
        collected(heap, m)
        # Forks that give a marking up owe a cycle: the storm never keeps the heap from collecting.
        assert heap.stats().relocations > 0
"""


def test_a_storm_of_forks(every_combination, seed):
    in_child(STORM + "storm(6)", every_combination, seed)


@pytest.mark.soak("ten times as many")
def test_a_long_storm_of_forks(every_combination, seed):
    in_child(STORM + "storm(60)", every_combination, seed)
