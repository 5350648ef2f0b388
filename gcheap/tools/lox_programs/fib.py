"""Calls: the Fibonacci number of `size`, the recursive way."""
size = 35


def fib(n):
    if n < 2:
        return n
    return fib(n - 2) + fib(n - 1)


def expected(n):
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a


print("right" if fib(size) == expected(size) else "wrong")
