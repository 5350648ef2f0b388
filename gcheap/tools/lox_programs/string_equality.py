"""String equality: short and long strings, equal and different, and one that is made each time."""
size = 600000


def run(n):
    short1 = "abc"
    short2 = "".join(("ab", "c"))           # + would be done by the compiler
    short3 = "abd"
    long1 = "a string that is long enough not to be short"
    long2 = "".join(("a string that is long ", "enough not to be short"))
    long3 = "a string that is long enough not to be shorn"
    equal = 0
    for _ in range(n):
        if short1 == short2:
            equal = equal + 1
        if short1 == short3:
            equal = equal + 1
        if short2 != short3:
            equal = equal + 1
        if long1 == long2:
            equal = equal + 1
        if long1 == long3:
            equal = equal + 1
        if long2 != long3:
            equal = equal + 1
        if short1 == long1:
            equal = equal + 1
        if short1 == None:      # noqa: E711 (equality is what is measured)
            equal = equal + 1
        if long3 == 1:
            equal = equal + 1
        if short1 + short3 == "abcabd":
            equal = equal + 1
    return equal


print("right" if run(size) == 5 * size else "wrong")
