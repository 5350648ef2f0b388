// The peer program in Go: what peer.c does, operation by operation.
//
//	go build -o peer-go peer.go && ./peer-go churn|trees|full LIVE CAPACITY COUNT SECONDS SEED
//
// The heap's size is set by GOGC: CAPACITY over LIVE.
package main

import (
	"bufio"
	"fmt"
	"math/bits"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"
	"unsafe"
)

// A pointer to a node48 or node64 is kept as one to the node that it begins with; it keeps the whole
// object alive.
type node struct {
	left, right *node
	id          uint64
}
type node48 struct {
	node
	a, b uint64
}
type node64 struct {
	node
	a, b, c, d uint64
}

const (
	treeNodes, treeBytes, walkLinks, youngOnes, ringSize              = 511, 511 * 48, 8, 8, 1024
	arrayBytes, arrayWords, arrayEvery, sample, generationBits        = 1024, 126, 22, 16, 24
	placeBits, stepLevels, minDepth, leafNodeBytes, gapNs             = 9, 6, 4, 32, 20000
	youngID                                                    uint64 = 1 << 61
	prime                                                      uint64 = 2147483647
	generation                                                 uint64 = 1<<generationBits - 1
)

// ---- what is recorded ---------------------------------------------------------------------------

var (
	counts              [2048 + 1024*40]uint64
	zero                = time.Now()
	begin, last, end    int64
	ops, failures, hash uint64
	gapStart, gapLength []int64
	state               uint32
)

func now() int64 { return int64(time.Since(zero)) }

func slotOf(value uint64) uint64 {
	if value < 2048 {
		return value
	}
	shift := uint64(53 - bits.LeadingZeros64(value))
	return shift*1024 + value>>shift
}

func upper(slot uint64) uint64 {
	if slot < 2048 {
		return slot
	}
	shift := slot/1024 - 1
	return (slot-shift*1024+1)<<shift - 1
}

func start(seconds float64) {
	begin = now()
	last = begin
	end = begin + int64(seconds*1e9)
}

func ended() bool {
	at := now()
	length := at - last
	last = at
	counts[slotOf(uint64(length))]++
	if length > gapNs {
		gapStart = append(gapStart, at-begin-length)
		gapLength = append(gapLength, length)
	}
	ops++
	return at < end
}

func printRun() {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	fmt.Fprintf(out, "seconds %.9f\nops %d\nfailures %d\n", float64(last-begin)/1e9, ops, failures)
	for i, n := range counts {
		if n != 0 {
			fmt.Fprintf(out, "bucket %d %d\n", upper(uint64(i)), n)
		}
	}
	for i := range gapStart {
		fmt.Fprintf(out, "gap %d %d\n", gapStart[i], gapLength[i])
	}
}

// ---- data ----------------------------------------------------------------------------------------

func draw() uint32 {
	state ^= state << 13
	state ^= state >> 17
	state ^= state << 5
	return state
}

func pick(n uint64) uint64 { return uint64(draw()) * n >> 32 }

func classOf(tree, place uint64) uint64 { return (tree + place) % 3 }

func keyOf(tree, place uint64) uint64 { return tree<<placeBits | place }

func make_(class uint64, id uint64) *node {
	switch class {
	case 0:
		return &node{id: id}
	case 1:
		it := &node48{node: node{id: id}, a: id ^ 0xFFFF, b: id + 1}
		return &it.node
	}
	it := &node64{node: node{id: id}, a: id ^ 0xFFFF, b: id + 1, c: id ^ 0xFF00, d: id + 2}
	return &it.node
}

func filled(at *node, class uint64) bool {
	switch class {
	case 0:
		return true
	case 1:
		it := (*node48)(unsafe.Pointer(at))
		return it.a == it.id^0xFFFF && it.b == it.id+1
	}
	it := (*node64)(unsafe.Pointer(at))
	return it.a == it.id^0xFFFF && it.b == it.id+1 && it.c == it.id^0xFF00 && it.d == it.id+2
}

func is(at *node, key uint64) bool {
	if at != nil && at.id>>generationBits == key {
		return true
	}
	failures++
	return false
}

func expect(holds bool) {
	if !holds {
		failures++
	}
}

func fold(id uint64) { hash = (hash*1000003 + id%prime) % prime }

// ---- churn ---------------------------------------------------------------------------------------

var (
	table                                       []*node
	arrays                                      []*[arrayWords]uint64
	ring                                        = make([]*node, ringSize)
	operations, young, replaced, arraysReplaced uint64
	untilArray                                  = arrayEvery
)

func build(tree, place uint64) *node {
	at := make_(classOf(tree, place), keyOf(tree, place)<<generationBits)
	if 2*place < treeNodes {
		at.left = build(tree, 2*place)
		at.right = build(tree, 2*place+1)
	}
	return at
}

func words(id uint64) *[arrayWords]uint64 {
	made := new([arrayWords]uint64)
	for i := range made {
		made[i] = id + uint64(i)
	}
	return made
}

func wordsHold(array *[arrayWords]uint64) bool {
	var differing uint64
	for i := range array {
		differing |= array[i] ^ (array[0] + uint64(i))
	}
	return differing == 0
}

func replaceNode(sampled bool) {
	tree := pick(uint64(len(table)))
	place := 1 + pick(treeNodes)
	class := classOf(tree, place)
	level := uint(bits.Len64(place) - 1)
	var parent *node
	at := table[tree]
	if !is(at, keyOf(tree, 1)) {
		return
	}
	for level > 0 {
		level--
		here := place >> level
		parent = at
		if here&1 == 0 {
			at = at.left
		} else {
			at = at.right
		}
		if !is(at, keyOf(tree, here)) {
			return
		}
	}
	if sampled {
		expect(filled(at, class))
	}
	made := make_(class, at.id+1)
	made.left = at.left
	made.right = at.right
	if parent == nil {
		table[tree] = made
	} else if place&1 == 0 {
		parent.left = made
	} else {
		parent.right = made
	}
	replaced++
}

func walk() {
	tree := pick(uint64(len(table)))
	directions := draw()
	place := uint64(1)
	at := table[tree]
	if !is(at, keyOf(tree, 1)) {
		return
	}
	for i := 0; i < walkLinks; i++ {
		if directions&1 == 0 {
			at = at.left
		} else {
			at = at.right
		}
		place = 2*place + uint64(directions&1)
		if !is(at, keyOf(tree, place)) {
			return
		}
		directions >>= 1
	}
}

func makeYoung(sampled bool) {
	for i := 0; i < youngOnes; i++ {
		old := ring[young%ringSize]
		if sampled && i == 0 && young >= ringSize {
			expect(old != nil && old.id == youngID|(young-ringSize) && filled(old, (young+2*ringSize)%3))
		}
		ring[young%ringSize] = make_(young%3, youngID|young)
		young++
	}
}

func replaceArray() {
	index := pick(uint64(len(arrays)))
	array := arrays[index]
	expect(array[0]>>generationBits == index)
	if arraysReplaced%sample == 0 {
		expect(wordsHold(array))
	}
	arrays[index] = words(array[0] + 1)
	arraysReplaced++
}

func operate() {
	sampled := operations%sample == 0
	replaceNode(sampled)
	walk()
	walk()
	makeYoung(sampled)
	untilArray--
	if untilArray == 0 {
		untilArray = arrayEvery
		replaceArray()
	}
	operations++
}

func audit(at *node, tree, place uint64) uint64 {
	if !is(at, keyOf(tree, place)) {
		return 0
	}
	expect(filled(at, classOf(tree, place)))
	fold(at.id)
	sum := at.id & generation
	if 2*place < treeNodes {
		return sum + audit(at.left, tree, 2*place) + audit(at.right, tree, 2*place+1)
	}
	expect(at.left == nil && at.right == nil)
	return sum
}

func auditAll() uint64 {
	var nodes, ofArrays uint64
	hash = 0
	for i := range table {
		nodes += audit(table[i], uint64(i), 1)
	}
	for i, array := range arrays {
		expect(wordsHold(array) && array[0]>>generationBits == uint64(i))
		fold(array[0])
		ofArrays += array[0] & generation
	}
	first := uint64(0)
	if young > ringSize {
		first = young - ringSize
	}
	for i := first; i < young; i++ {
		expect(ring[i%ringSize].id == youngID|i)
	}
	fold(young)
	expect(nodes == replaced && ofArrays == arraysReplaced)
	return hash
}

func churn(live, warmUp uint64, seconds float64) {
	table = make([]*node, live*9/10/treeBytes)
	arrays = make([]*[arrayWords]uint64, live/10/arrayBytes)
	for i := range table {
		table[i] = build(uint64(i), 1)
	}
	for i := range arrays {
		arrays[i] = words(uint64(i) << generationBits)
	}
	for ; warmUp > 0; warmUp-- {
		operate()
	}
	fmt.Println("checksum", auditAll())
	fmt.Println("measuring", uptime())
	start(seconds)
	for {
		operate()
		if !ended() {
			break
		}
	}
	fmt.Println("measured", uptime())
	auditAll()
	printRun()
}

// ---- trees ---------------------------------------------------------------------------------------

var (
	serial, shortLived uint64
	stopped, measuring bool
)

func step() bool {
	if measuring && !ended() {
		stopped = true
	}
	return !stopped
}

func buildUp(levels, place uint64) *node {
	var left, right *node
	if levels > 1 {
		if left = buildUp(levels-1, 2*place); left != nil {
			right = buildUp(levels-1, 2*place+1)
		}
		if right == nil {
			return nil
		}
	}
	at := &node{left, right, serial<<32 | place}
	if (levels == stepLevels || (place == 1 && levels < stepLevels)) && !step() {
		return nil
	}
	return at
}

func countSmall(at *node, levels, place uint64) uint64 {
	if at == nil || at.id != serial<<32|place {
		failures++
		return 0
	}
	if levels == 1 {
		expect(at.left == nil && at.right == nil)
		return 1
	}
	return 1 + countSmall(at.left, levels-1, 2*place) + countSmall(at.right, levels-1, 2*place+1)
}

func count(at *node, levels, place uint64) uint64 {
	if levels <= stepLevels {
		nodes := countSmall(at, levels, place)
		step()
		return nodes
	}
	expect(at.id == serial<<32|place)
	nodes := 1 + count(at.left, levels-1, 2*place)
	if !stopped {
		nodes += count(at.right, levels-1, 2*place+1)
	}
	return nodes
}

func foldTree(at *node) {
	if at != nil {
		fold(at.id)
		foldTree(at.left)
		foldTree(at.right)
	}
}

func trees(live uint64, seconds float64) {
	depth := uint64(minDepth + 2)
	for 2*(2<<(depth+1)-1)*leafNodeBytes <= live {
		depth++
	}
	longLived := buildUp(depth+1, 1)
	measuring = true
	fmt.Println("measuring", uptime())
	start(seconds)
	for !stopped {
		for d := uint64(minDepth); d <= depth && !stopped; d += 2 {
			for i := 0; i < 1<<(depth-d+minDepth) && !stopped; i++ {
				shortLived++
				serial = shortLived & 0xFFFFFFF
				made := buildUp(d+1, 1)
				if made == nil {
					break
				}
				nodes := count(made, d+1, 1)
				expect(stopped || nodes == 2<<d-1)
			}
		}
	}
	fmt.Println("measured", uptime())
	measuring, stopped, serial = false, false, 0
	expect(count(longLived, depth+1, 1) == 2<<depth-1)
	foldTree(longLived)
	fmt.Println("checksum", hash)
	printRun()
}

// ---- full ----------------------------------------------------------------------------------------

func buildPair(tree, place uint64) (*node, *node) {
	class := classOf(tree, place)
	a := make_(class, keyOf(tree, place)<<generationBits)
	b := make_(class, keyOf(tree+1, place)<<generationBits)
	if 2*place < treeNodes {
		a.left, b.left = buildPair(tree, 2*place)
		a.right, b.right = buildPair(tree, 2*place+1)
	}
	return a, b
}

func auditEven(at *node, tree, place uint64) uint64 {
	if !is(at, keyOf(tree, place)) {
		return 0
	}
	expect(filled(at, classOf(tree, place)))
	fold(at.id)
	if 2*place >= treeNodes {
		return 1
	}
	return 1 + auditEven(at.left, tree, 2*place) + auditEven(at.right, tree, 2*place+1)
}

func full(live, times uint64) {
	pairs := live / treeBytes
	for ; times > 0; times-- {
		table = make([]*node, 2*pairs)
		runtime.GC()
		for i := uint64(0); i < pairs; i++ {
			table[2*i], table[2*i+1] = buildPair(2*i, 1)
		}
		for i := uint64(0); i < pairs; i++ {
			table[2*i+1] = nil
		}
		fmt.Println("measuring", uptime())
		at := now()
		runtime.GC()
		fmt.Println("collection", now()-at)
		fmt.Println("measured", uptime())
		hash = 0
		for i := uint64(0); i < pairs; i++ {
			expect(auditEven(table[2*i], 2*i, 1) == treeNodes)
		}
	}
	fmt.Printf("checksum %d\nlive %d\nfailures %d\n", hash, pairs*treeBytes, failures)
}

// Seconds on the clock of gctrace's log, about.
func uptime() float64 { return float64(now()) / 1e9 }

func main() {
	number := func(at int) uint64 {
		value, err := strconv.ParseUint(os.Args[at], 10, 64)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		return value
	}
	live, capacity, times := number(2), number(3), number(4)
	seconds, _ := strconv.ParseFloat(os.Args[5], 64)
	state = uint32(number(6)*2654435761) | 1
	debug.SetGCPercent(int(100 * (capacity - live) / live))
	fmt.Println("version", runtime.Version())
	switch os.Args[1] {
	case "churn":
		churn(live, times, seconds)
	case "trees":
		trees(live, seconds)
	case "full":
		full(live, times)
	}
	if failures != 0 {
		os.Exit(1)
	}
}
