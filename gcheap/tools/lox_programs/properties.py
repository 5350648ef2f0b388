"""Properties: the fields of one object are written and read."""
size = 1000000


class Fields:
    def __init__(self):
        self.a = 0
        self.b = 0
        self.c = 0
        self.d = 0
        self.e = 0
        self.f = 0
        self.g = 0
        self.h = 0
        self.i = 0
        self.j = 0

    def bump(self):
        self.a = self.j + 1
        self.b = self.a + 1
        self.c = self.b + 1
        self.d = self.c + 1
        self.e = self.d + 1
        self.f = self.e + 1
        self.g = self.f + 1
        self.h = self.g + 1
        self.i = self.h + 1
        self.j = self.i + 1


def run(n):
    fields = Fields()
    sum = 0
    for _ in range(n):
        fields.bump()
        sum = sum + fields.a + fields.e + fields.j
    return sum


print("right" if run(size) == 15 * size * (size - 1) + 16 * size else "wrong")
