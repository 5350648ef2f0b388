"""Checking what a mutator of `churn` left behind, and breaking it for tests of the checks."""
from gcheap.workloads._churn cimport Churn

cdef void audit_all(Churn* c) noexcept nogil                # failures go to its recorder
cdef void break_one(Churn* c, int kind) noexcept nogil      # see ChurnSession.damage
