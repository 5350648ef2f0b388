"""Method calls: a toggle and a toggle that overrides and calls its superclass."""
size = 1500000


class Toggle:
    def __init__(self, start):
        self.state = start

    def value(self):
        return self.state

    def activate(self):
        self.state = not self.state
        return self


class NthToggle(Toggle):
    def __init__(self, start, every):
        super().__init__(start)
        self.every = every
        self.count = 0

    def activate(self):
        self.count = self.count + 1
        if self.count >= self.every:
            super().activate()
            self.count = 0
        return self


def run(n):
    ones = 0
    toggle = Toggle(True)
    for _ in range(n):
        if toggle.activate().value():
            ones = ones + 1
    nth = NthToggle(True, 3)
    for _ in range(n):
        if nth.activate().value():
            ones = ones + 1
    return ones


print("right" if run(size) == size else "wrong")
