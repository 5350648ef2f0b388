"""`ring`: the entry of a workload whose worker is native.  Reading it imports no native code."""
from gcheap.workloads import Workload, session_of


def worker():
    from ring import Ring

    return Ring


WORKLOAD = Workload("ring", "a workload in Cython: a ring that is turned and renewed",
                    session_of(worker), least=16 << 10)
