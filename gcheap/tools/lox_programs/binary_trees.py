"""Binary trees: one of depth `size` lives while many of smaller depths come and go."""
size = 16


class Tree:
    def __init__(self, depth):
        if depth > 0:
            self.left = Tree(depth - 1)
            self.right = Tree(depth - 1)
        else:
            self.left = None
            self.right = None

    def count(self):
        if self.left is None:
            return 1
        return 1 + self.left.count() + self.right.count()


def power(n):
    result = 1
    for _ in range(n):
        result = result * 2
    return result


def run(depth):
    right = Tree(depth + 1).count() == power(depth + 2) - 1
    kept = Tree(depth)
    for d in range(4, depth + 1, 4):
        trees = power(depth - d + 4)
        nodes = 0
        for _ in range(trees):
            nodes = nodes + Tree(d).count()
        right = right and nodes == trees * (power(d + 1) - 1)
    return right and kept.count() == power(depth + 1) - 1


print("right" if run(size) else "wrong")
