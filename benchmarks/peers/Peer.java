/* The peer program for Java virtual machines: what peer.c does, operation by operation.
 *
 *     javac Peer.java && java -Xmx512m Peer churn|trees|full LIVE CAPACITY COUNT SECONDS SEED
 */
public final class Peer {
    static class Node { Node left, right; long id; }
    static final class Node48 extends Node { long a, b; }
    static final class Node64 extends Node { long a, b, c, d; }

    static final int TREE_NODES = 511, TREE_BYTES = 511 * 48, WALK = 8, YOUNG = 8, RING = 1024,
        ARRAY_BYTES = 1024, ARRAY_WORDS = 126, ARRAY_EVERY = 22, SAMPLE = 16, GENERATION_BITS = 24,
        PLACE_BITS = 9, STEP_LEVELS = 6, MIN_DEPTH = 4, LEAF_NODE_BYTES = 32, GAP_NS = 20000;
    static final long YOUNG_ID = 1L << 61, PRIME = 2147483647L, GENERATION = (1L << GENERATION_BITS) - 1;

    // ---- what is recorded --------------------------------------------------------------------------

    static final long[] counts = new long[2048 + 1024 * 40];
    static long begin, last, end, ops, failures, hash;
    static long[] gapStart = new long[1 << 16], gapLength = new long[1 << 16];
    static int gaps;

    static int slotOf(long value) {
        if (value < 2048) return (int) value;
        int shift = 53 - Long.numberOfLeadingZeros(value);
        return shift * 1024 + (int) (value >> shift);
    }

    static long upper(int slot) {
        if (slot < 2048) return slot;
        int shift = slot / 1024 - 1;
        return ((long) (slot - shift * 1024 + 1) << shift) - 1;
    }

    static void begin(double seconds) {
        begin = last = System.nanoTime();
        end = begin + (long) (seconds * 1e9);
    }

    static boolean ended() {
        long now = System.nanoTime(), length = now - last;
        last = now;
        counts[slotOf(length)]++;
        if (length > GAP_NS) noteGap(length);
        ops++;
        return now < end;
    }

    static void noteGap(long length) {
        if (gaps == gapStart.length) {
            gapStart = java.util.Arrays.copyOf(gapStart, 2 * gaps);
            gapLength = java.util.Arrays.copyOf(gapLength, 2 * gaps);
        }
        gapStart[gaps] = last - begin - length;
        gapLength[gaps++] = length;
    }

    static void printRun() {
        StringBuilder out = new StringBuilder();
        out.append("seconds ").append((last - begin) / 1e9).append("\nops ").append(ops)
           .append("\nfailures ").append(failures).append('\n');
        for (int i = 0; i < counts.length; i++)
            if (counts[i] != 0)
                out.append("bucket ").append(upper(i)).append(' ').append(counts[i]).append('\n');
        for (int i = 0; i < gaps; i++)
            out.append("gap ").append(gapStart[i]).append(' ').append(gapLength[i]).append('\n');
        System.out.print(out);
    }

    // ---- data --------------------------------------------------------------------------------------

    static int state;

    static int draw() {
        int s = state;
        s ^= s << 13;
        s ^= s >>> 17;
        s ^= s << 5;
        return state = s;
    }

    static int pick(int n) { return (int) ((draw() & 0xFFFFFFFFL) * n >> 32); }

    static int classOf(int tree, int place) { return (tree + place) % 3; }

    static long keyOf(int tree, int place) { return (long) tree << PLACE_BITS | place; }

    static Node make(int kind, long id) {
        if (kind == 0) {
            Node node = new Node();
            node.id = id;
            return node;
        }
        if (kind == 1) {
            Node48 node = new Node48();
            node.id = id;
            node.a = id ^ 0xFFFF;
            node.b = id + 1;
            return node;
        }
        Node64 node = new Node64();
        node.id = id;
        node.a = id ^ 0xFFFF;
        node.b = id + 1;
        node.c = id ^ 0xFF00;
        node.d = id + 2;
        return node;
    }

    static boolean filled(Node node, int kind) {
        if (kind == 0) return true;
        if (kind == 1) {
            Node48 it = (Node48) node;
            return it.a == (it.id ^ 0xFFFF) && it.b == it.id + 1;
        }
        Node64 it = (Node64) node;
        return it.a == (it.id ^ 0xFFFF) && it.b == it.id + 1 && it.c == (it.id ^ 0xFF00)
            && it.d == it.id + 2;
    }

    static boolean is(Node node, long key) {
        if (node != null && node.id >> GENERATION_BITS == key) return true;
        failures++;
        return false;
    }

    static void expect(boolean holds) { if (!holds) failures++; }

    static void fold(long id) { hash = (hash * 1000003 + id % PRIME) % PRIME; }

    // ---- churn -------------------------------------------------------------------------------------

    static Node[] table, ring = new Node[RING];
    static long[][] arrays;
    static long operations, young, replaced, arraysReplaced;
    static int untilArray = ARRAY_EVERY;

    static Node build(int tree, int place) {
        Node node = make(classOf(tree, place), keyOf(tree, place) << GENERATION_BITS);
        if (2 * place < TREE_NODES) {
            node.left = build(tree, 2 * place);
            node.right = build(tree, 2 * place + 1);
        }
        return node;
    }

    static long[] words(long id) {
        long[] made = new long[ARRAY_WORDS];
        for (int i = 0; i < ARRAY_WORDS; i++) made[i] = id + i;
        return made;
    }

    static boolean wordsHold(long[] array) {
        long differing = 0;
        for (int i = 0; i < ARRAY_WORDS; i++) differing |= array[i] ^ (array[0] + i);
        return differing == 0;
    }

    static void replaceNode(boolean sampled) {
        int tree = pick(table.length), place = 1 + pick(TREE_NODES), kind = classOf(tree, place);
        int level = 31 - Integer.numberOfLeadingZeros(place);
        Node parent = null, node = table[tree];
        if (!is(node, keyOf(tree, 1))) return;
        while (level > 0) {
            int here = place >> --level;
            parent = node;
            node = (here & 1) == 0 ? node.left : node.right;
            if (!is(node, keyOf(tree, here))) return;
        }
        if (sampled) expect(filled(node, kind));
        Node made = make(kind, node.id + 1);
        made.left = node.left;
        made.right = node.right;
        if (parent == null) table[tree] = made;
        else if ((place & 1) == 0) parent.left = made;
        else parent.right = made;
        replaced++;
    }

    static void walk() {
        int tree = pick(table.length), bits = draw(), place = 1;
        Node node = table[tree];
        if (!is(node, keyOf(tree, 1))) return;
        for (int i = 0; i < WALK; i++, bits >>>= 1) {
            node = (bits & 1) == 0 ? node.left : node.right;
            place = 2 * place + (bits & 1);
            if (!is(node, keyOf(tree, place))) return;
        }
    }

    static void makeYoung(boolean sampled) {
        for (int i = 0; i < YOUNG; i++, young++) {
            int slot = (int) (young % RING);
            Node old = ring[slot];
            if (sampled && i == 0 && young >= RING)
                expect(old != null && old.id == (YOUNG_ID | (young - RING))
                       && filled(old, (int) ((young + 2 * RING) % 3)));
            ring[slot] = make((int) (young % 3), YOUNG_ID | young);
        }
    }

    static void replaceArray() {
        int index = pick(arrays.length);
        long[] array = arrays[index];
        expect(array[0] >> GENERATION_BITS == index);
        if (arraysReplaced % SAMPLE == 0) expect(wordsHold(array));
        arrays[index] = words(array[0] + 1);
        arraysReplaced++;
    }

    static void operate() {
        boolean sampled = operations % SAMPLE == 0;
        replaceNode(sampled);
        walk();
        walk();
        makeYoung(sampled);
        if (--untilArray == 0) {
            untilArray = ARRAY_EVERY;
            replaceArray();
        }
        operations++;
    }

    static long audit(Node node, int tree, int place) {
        if (!is(node, keyOf(tree, place))) return 0;
        expect(filled(node, classOf(tree, place)));
        fold(node.id);
        long sum = node.id & GENERATION;
        if (2 * place < TREE_NODES)
            return sum + audit(node.left, tree, 2 * place) + audit(node.right, tree, 2 * place + 1);
        expect(node.left == null && node.right == null);
        return sum;
    }

    static long auditAll() {
        long nodes = 0, ofArrays = 0;
        hash = 0;
        for (int i = 0; i < table.length; i++) nodes += audit(table[i], i, 1);
        for (int i = 0; i < arrays.length; i++) {
            long id = arrays[i][0];
            expect(wordsHold(arrays[i]) && id >> GENERATION_BITS == i);
            fold(id);
            ofArrays += id & GENERATION;
        }
        for (long i = Math.max(0, young - RING); i < young; i++)
            expect(ring[(int) (i % RING)].id == (YOUNG_ID | i));
        fold(young);
        expect(nodes == replaced && ofArrays == arraysReplaced);
        return hash;
    }

    static void churn(long live, long warmUp, double seconds) {
        table = new Node[(int) (live * 9 / 10 / TREE_BYTES)];
        arrays = new long[(int) (live / 10 / ARRAY_BYTES)][];
        for (int i = 0; i < table.length; i++) table[i] = build(i, 1);
        for (int i = 0; i < arrays.length; i++) arrays[i] = words((long) i << GENERATION_BITS);
        while (warmUp-- > 0) operate();
        System.out.println("checksum " + auditAll());
        System.out.println("measuring " + uptime());
        begin(seconds);
        do operate(); while (ended());
        System.out.println("measured " + uptime());
        auditAll();
        printRun();
    }

    // ---- trees -------------------------------------------------------------------------------------

    static long serial, shortLived;
    static boolean stopped, measuring;

    static boolean step() {
        if (measuring && !ended()) stopped = true;
        return !stopped;
    }

    static Node buildUp(int levels, long place) {
        Node left = null, right = null;
        if (levels > 1) {
            left = buildUp(levels - 1, 2 * place);
            if (left != null) right = buildUp(levels - 1, 2 * place + 1);
            if (right == null) return null;
        }
        Node node = make(0, serial << 32 | place);
        node.left = left;
        node.right = right;
        if (levels == STEP_LEVELS || (place == 1 && levels < STEP_LEVELS)) return step() ? node : null;
        return node;
    }

    static long countSmall(Node node, int levels, long place) {
        if (node == null || node.id != (serial << 32 | place)) {
            failures++;
            return 0;
        }
        if (levels == 1) {
            expect(node.left == null && node.right == null);
            return 1;
        }
        return 1 + countSmall(node.left, levels - 1, 2 * place)
                 + countSmall(node.right, levels - 1, 2 * place + 1);
    }

    static long count(Node node, int levels, long place) {
        if (levels <= STEP_LEVELS) {
            long nodes = countSmall(node, levels, place);
            step();
            return nodes;
        }
        expect(node.id == (serial << 32 | place));
        long nodes = 1 + count(node.left, levels - 1, 2 * place);
        return stopped ? nodes : nodes + count(node.right, levels - 1, 2 * place + 1);
    }

    static void foldTree(Node node) {
        if (node == null) return;
        fold(node.id);
        foldTree(node.left);
        foldTree(node.right);
    }

    static void trees(long live, double seconds) {
        int depth = MIN_DEPTH + 2;
        while (2 * ((2L << (depth + 1)) - 1) * LEAF_NODE_BYTES <= live) depth++;
        Node longLived = buildUp(depth + 1, 1);
        measuring = true;
        System.out.println("measuring " + uptime());
        begin(seconds);
        while (!stopped)
            for (int d = MIN_DEPTH; d <= depth && !stopped; d += 2)
                for (long i = 0; i < 1L << (depth - d + MIN_DEPTH) && !stopped; i++) {
                    serial = ++shortLived & 0xFFFFFFF;
                    Node made = buildUp(d + 1, 1);
                    if (made == null) break;
                    long nodes = count(made, d + 1, 1);
                    expect(stopped || nodes == (2L << d) - 1);
                }
        System.out.println("measured " + uptime());
        measuring = stopped = false;
        serial = 0;
        expect(count(longLived, depth + 1, 1) == (2L << depth) - 1);
        foldTree(longLived);
        System.out.println("checksum " + hash);
        printRun();
    }

    // ---- full --------------------------------------------------------------------------------------

    static Node other;              // of the pair that buildPair returns

    static Node buildPair(int tree, int place) {
        int kind = classOf(tree, place);
        Node a = make(kind, keyOf(tree, place) << GENERATION_BITS);
        Node b = make(kind, keyOf(tree + 1, place) << GENERATION_BITS);
        if (2 * place < TREE_NODES) {
            a.left = buildPair(tree, 2 * place);
            b.left = other;
            a.right = buildPair(tree, 2 * place + 1);
            b.right = other;
        }
        other = b;
        return a;
    }

    static long auditEven(Node node, int tree, int place) {
        if (!is(node, keyOf(tree, place))) return 0;
        expect(filled(node, classOf(tree, place)));
        fold(node.id);
        if (2 * place >= TREE_NODES) return 1;
        return 1 + auditEven(node.left, tree, 2 * place) + auditEven(node.right, tree, 2 * place + 1);
    }

    static void full(long live, long times) {
        int pairs = (int) (live / TREE_BYTES);
        while (times-- > 0) {
            table = new Node[2 * pairs];
            other = null;
            System.gc();
            for (int i = 0; i < pairs; i++) {
                table[2 * i] = buildPair(2 * i, 1);
                table[2 * i + 1] = other;
            }
            for (int i = 0; i < pairs; i++) table[2 * i + 1] = null;
            other = null;
            System.out.println("measuring " + uptime());
            long start = System.nanoTime();
            System.gc();
            System.out.println("collection " + (System.nanoTime() - start));
            System.out.println("measured " + uptime());
            hash = 0;
            for (int i = 0; i < pairs; i++) expect(auditEven(table[2 * i], 2 * i, 1) == TREE_NODES);
        }
        System.out.println("checksum " + hash + "\nlive " + (long) pairs * TREE_BYTES
                           + "\nfailures " + failures);
    }

    // Seconds on the clock of the collector's log.
    static double uptime() {
        return java.lang.management.ManagementFactory.getRuntimeMXBean().getUptime() / 1e3;
    }

    public static void main(String[] args) {
        long live = Long.parseLong(args[1]), times = Long.parseLong(args[3]);
        double seconds = Double.parseDouble(args[4]);
        state = (int) (Long.parseLong(args[5]) * 2654435761L) | 1;
        System.out.println("version OpenJDK " + System.getProperty("java.vm.version"));
        if (args[0].equals("churn")) churn(live, times, seconds);
        else if (args[0].equals("trees")) trees(live, seconds);
        else if (args[0].equals("full")) full(live, times);
        else throw new IllegalArgumentException(args[0]);
        System.exit(failures == 0 ? 0 : 1);
    }
}
