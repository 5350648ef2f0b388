"""Queens over arrays: how many ways are there to place `size` of them?"""
size = 12


def place(n, row, columns, rising, falling):
    if row == n:
        return 1
    found = 0
    for column in range(n):
        up = row + column
        down = row - column + n - 1
        if not (columns[column] or rising[up] or falling[down]):
            columns[column] = True
            rising[up] = True
            falling[down] = True
            found = found + place(n, row + 1, columns, rising, falling)
            columns[column] = False
            rising[up] = False
            falling[down] = False
    return found


def filled(n):
    return [False] * n


known = [None, 1, 0, 0, 2, 10, 4, 40, 92, 352, 724, 2680, 14200]
right = place(size, 0, filled(size), filled(2 * size), filled(2 * size)) == known[size]
print("right" if right else "wrong")
