"""Four threads build ropes in one small heap; every result is checked."""
import threading

import ropes

import gcheap

wrong = []


def work(heap, text, times):
    with heap.attach() as mutator:
        mine = ropes.Ropes(heap, mutator)
        for _ in range(20):
            if mine.doubled(text, times) != text * 2**times:
                wrong.append(text)


with gcheap.Heap("32MiB") as heap:
    threads = [threading.Thread(target=work, args=(heap, b"rope %d " % i, 12)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with heap.attach() as mutator:
        mine = ropes.Ropes(heap, mutator)
        if mine.weakly() != (True, False):
            wrong.append("weak")
        try:
            mine.doubled(b"0123456789abcdef", 22)
            wrong.append("full")
        except MemoryError:
            pass
        moved = mine.collections()
    if moved == 0:
        wrong.append("nothing moved")
print(f"{moved} collections moved objects; {'wrong: ' + repr(wrong) if wrong else 'all right'}")
raise SystemExit(bool(wrong))
