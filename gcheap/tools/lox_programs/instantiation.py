"""Instantiation: objects of three fields, most of them garbage at once."""
size = 2000000


class Point:
    def __init__(self, x, y, before):
        self.x = x
        self.y = y
        self.before = before


def run(n):
    made = 0
    last = None
    for i in range(n):
        last = Point(i, 1, None)
        made = made + last.y
    return made + last.x


print("right" if run(size) == size + size - 1 else "wrong")
