// Peer "go": goroutines, channels, timers of the runtime, os/exec.
//
// Fair because: GOMAXPROCS is the number of processors; a call is one goroutine, the language's own unit;
// results come back through one buffered channel as large as the window, or for turns through slots and a
// WaitGroup, which is quicker there; window, payload and check as toolring's. It does less: no tracking by
// id, no list, no events, no deadline.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	window   = 16384
	batchMin = 192
	batchMax = 320
	group    = 256
)

func mix(value uint64) uint64 {
	value += 0x9e3779b97f4a7c15
	value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9
	value = (value ^ (value >> 27)) * 0x94d049bb133111eb
	return value ^ (value >> 31)
}

type random struct{ state uint64 }

func (random *random) next() uint64 {
	random.state += 0x9e3779b97f4a7c15
	return mix(random.state)
}

func (random *random) between(low, high uint64) uint64 {
	return low + random.next()%(high-low+1)
}

type options struct {
	workload string
	size     int
	seed     uint64
	quick    bool
}

func (options *options) pick(quick, normal int) int {
	if options.quick {
		return quick
	}
	return normal
}

func (options *options) vary(base int) int {
	span := uint64(base / 16)
	random := random{options.seed ^ uint64(base)}
	return int(random.between(uint64(base)-span, uint64(base)+span))
}

func fail(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", arguments...)
	os.Exit(1)
}

func require(condition bool, what string) {
	if !condition {
		fail("not true: %s", what)
	}
}

// ledger: each result exactly once, each right.
type ledger struct {
	seed  uint64
	marks []bool
	seen  int
}

func newLedger(seed uint64, count int) *ledger {
	return &ledger{seed: mix(seed), marks: make([]bool, count)}
}

func (ledger *ledger) reset() {
	clear(ledger.marks)
	ledger.seen = 0
}

func (ledger *ledger) input(index int) uint64 { return ledger.seed ^ uint64(index) }

func (ledger *ledger) note(index int, result uint64) {
	if ledger.marks[index] || result != mix(ledger.input(index)) {
		fail("call %d: lost, doubled or wrong", index)
	}
	ledger.marks[index] = true
	ledger.seen++
}

func (ledger *ledger) close() {
	require(ledger.seen == len(ledger.marks), "every result came")
}

func residentBytes() float64 {
	text, _ := os.ReadFile("/proc/self/statm")
	pages, _ := strconv.ParseFloat(strings.Fields(string(text))[1], 64)
	return pages * 4096
}

func cpu() time.Duration {
	var usage syscall.Rusage
	require(syscall.Getrusage(syscall.RUSAGE_SELF, &usage) == nil, "getrusage works")
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

type samples []float64

func (samples *samples) add(duration time.Duration) {
	*samples = append(*samples, float64(duration.Nanoseconds()))
}

func (samples samples) at(part float64) float64 {
	require(len(samples) > 0, "there are samples")
	sort.Float64s(samples)
	return samples[int(part*float64(len(samples)-1)+0.5)]
}

// report prints the line of a run: pairs of a name and a number, first of "also", then of "parameters".
func report(options *options, unit string, value float64, also, parameters []any) {
	text := func(pairs []any) string {
		var parts []string
		for at := 0; at < len(pairs); at += 2 {
			parts = append(parts, fmt.Sprintf("%q:%v", pairs[at], pairs[at+1]))
		}
		return strings.Join(parts, ",")
	}
	fmt.Printf("{\"workload\":%q,\"contender\":\"go\",\"version\":%q,\"seed\":%d,\"quick\":%v,"+
		"\"unit\":%q,\"value\":%v,\"also\":{%s},\"parameters\":{%s},\"verified\":true}\n",
		options.workload, runtime.Version(), options.seed, options.quick, unit, value, text(also),
		text(parameters))
}

func latency(name string, samples samples, divisor float64) []any {
	return []any{name + " p50", samples.at(0.5) / divisor, name + " p99", samples.at(0.99) / divisor,
		name + " p99.9", samples.at(0.999) / divisor}
}

// ---- calls ----

type result struct {
	index int
	value uint64
}

func pass(ledger *ledger, random *random, results chan result) time.Duration {
	ledger.reset()
	count, launched := len(ledger.marks), 0
	begin := time.Now()
	for ledger.seen < count {
		wanted := min(int(random.between(batchMin, batchMax)), count-launched)
		if wanted > 0 && launched-ledger.seen+wanted <= window {
			for index := launched; index < launched+wanted; index++ {
				input := ledger.input(index)
				go func() { results <- result{index, mix(input)} }()
			}
			launched += wanted
			continue
		}
		// The window is full: take a quarter of it back.
		for taken := min(launched-ledger.seen, window/4); taken > 0; taken-- {
			result := <-results
			ledger.note(result.index, result.value)
		}
	}
	return time.Since(begin)
}

func background(options *options) {
	ledger := newLedger(options.seed, options.size)
	random := random{options.seed}
	results := make(chan result, window)
	pass(ledger, &random, results) // warm-up
	passes := min(max(options.pick(1000000, 4000000)/options.size, 1), 100)
	var times samples
	resident, spent := residentBytes(), cpu()
	for at := 0; at < passes; at++ {
		times.add(pass(ledger, &random, results))
	}
	spent = cpu() - spent
	grown := max(residentBytes()-resident, 0)
	ledger.close()
	total := float64(options.size * passes)
	report(options, "ns/task", times.at(0.5)/float64(options.size),
		[]any{"growth B/task", grown / total, "cpu ns/task", float64(spent) / total},
		[]any{"calls", options.size, "passes", passes, "window", window})
}

func turns(options *options) {
	count := options.vary(options.pick(200000, 800000)/(options.size+8) + 8)
	warm := count/10 + 1
	ledger := newLedger(options.seed, (count+warm)*options.size)
	values := make([]uint64, options.size)
	var times samples
	var begin time.Time
	for turn := 0; turn < count+warm; turn++ {
		start := time.Now()
		if turn == warm {
			begin = start
		}
		var group sync.WaitGroup
		group.Add(options.size)
		first := turn * options.size
		for at := range values {
			input := ledger.input(first + at)
			go func() {
				values[at] = mix(input)
				group.Done()
			}()
		}
		group.Wait()
		for at, value := range values {
			ledger.note(first+at, value)
		}
		if turn >= warm {
			times.add(time.Since(start))
		}
	}
	took := time.Since(begin)
	ledger.close()
	report(options, "ns/task", float64(took.Nanoseconds())/float64(count*options.size),
		latency("turn µs", times, 1e3), []any{"calls", options.size, "turns", count})
}

// ---- timers and sleepers ----

func timers(options *options) {
	random := random{options.seed}
	delay := func() time.Duration {
		return time.Duration(random.between(60000, 3600000)) * time.Millisecond
	}
	never := func() { fail("a timer fired") }
	outstanding := make([]*time.Timer, options.size)
	for at := range outstanding {
		outstanding[at] = time.AfterFunc(delay(), never)
	}
	groups := options.vary(options.pick(1000, 8000))
	var arm, cancel time.Duration
	var delays [group]time.Duration
	var armed [group]*time.Timer
	for at := 0; at < groups; at++ {
		for at := range delays {
			delays[at] = delay()
		}
		begin := time.Now()
		for at, delay := range delays {
			armed[at] = time.AfterFunc(delay, never)
		}
		between := time.Now()
		for _, timer := range armed {
			require(timer.Stop(), "the timer was armed")
		}
		cancel += time.Since(between)
		arm += between.Sub(begin)
	}
	runtime.KeepAlive(outstanding)
	total := float64(groups * group)
	report(options, "ns/arm+cancel", float64(arm+cancel)/total,
		[]any{"arm ns", float64(arm) / total, "cancel ns", float64(cancel) / total},
		[]any{"outstanding", options.size, "groups", groups, "group", group})
}

// sleep waits an hour, or until its context is cancelled.
func sleep(context context.Context, started *atomic.Int64, ended chan<- bool) {
	timer := time.NewTimer(time.Hour)
	started.Add(1)
	select {
	case <-timer.C:
		ended <- false
	case <-context.Done():
		timer.Stop()
		ended <- true
	}
}

func awaitCount(started *atomic.Int64, count int) {
	for started.Load() < int64(count) {
		runtime.Gosched()
	}
}

func sleepers(options *options) {
	var started atomic.Int64
	ended := make(chan bool, options.size)
	cancels := make([]context.CancelFunc, options.size)
	resident := residentBytes()
	begin := time.Now()
	for at := range cancels {
		var own context.Context
		own, cancels[at] = context.WithCancel(context.Background())
		go sleep(own, &started, ended)
	}
	awaitCount(&started, options.size)
	launched := time.Since(begin)
	resident = residentBytes() - resident
	begin = time.Now()
	for _, cancel := range cancels {
		cancel()
	}
	cancelled := time.Since(begin)
	begin = time.Now()
	for range cancels {
		require(<-ended, "each was cancelled")
	}
	taken := time.Since(begin)
	count := float64(options.size)
	report(options, "B/task", resident/count, []any{"launch ns", float64(launched) / count,
		"cancel ns", float64(cancelled) / count, "take ns", float64(taken) / count},
		[]any{"tasks", options.size})
}

func idle(options *options) {
	const tasks = 10000
	var started atomic.Int64
	ended := make(chan bool, tasks)
	all, cancel := context.WithCancel(context.Background())
	for at := 0; at < tasks; at++ {
		go sleep(all, &started, ended)
	}
	awaitCount(&started, tasks)
	time.Sleep(200 * time.Millisecond)
	seconds := options.pick(2, 10)
	spent := cpu()
	time.Sleep(time.Duration(seconds) * time.Second)
	spent = cpu() - spent
	cancel()
	for at := 0; at < tasks; at++ {
		require(<-ended, "each was cancelled")
	}
	report(options, "cpu s", spent.Seconds(), nil, []any{"tasks", tasks, "seconds", seconds})
}

// cancelNotice: from the cancel until the goroutine runs again, as toolring's `notice`.
func cancelNotice(options *options) {
	var times samples
	for at := options.vary(options.pick(500, 4000)); at > 0; at-- {
		var started atomic.Int64
		noticed := make(chan time.Time, 1)
		own, cancel := context.WithCancel(context.Background())
		go func() {
			started.Add(1)
			<-own.Done()
			noticed <- time.Now()
		}()
		awaitCount(&started, 1)
		time.Sleep(200 * time.Microsecond)
		begin := time.Now()
		cancel()
		times.add((<-noticed).Sub(begin))
	}
	report(options, "notice p99 µs", times.at(0.99)/1e3, latency("notice µs", times, 1e3),
		[]any{"notices", len(times)})
}

// ---- processes ----

func wordOf(seed uint64, index int) string {
	return fmt.Sprintf("w%d-%08x", index, uint32(mix(seed^uint64(index))))
}

func shellTurn(seed uint64, first, calls int) time.Duration {
	begin := time.Now()
	var group sync.WaitGroup
	group.Add(calls)
	for index := first; index < first+calls; index++ {
		go func() {
			defer group.Done()
			word := wordOf(seed, index)
			var out, err bytes.Buffer
			command := exec.Command("/bin/echo", word)
			command.Stdout, command.Stderr = &out, &err
			if problem := command.Run(); problem != nil {
				fail("%v", problem)
			}
			require(out.String() == word+"\n" && err.Len() == 0, "the word came back")
		}()
	}
	group.Wait()
	return time.Since(begin)
}

func measureShell(options *options, ballast int) {
	count := options.vary(options.pick(1200, 4000)/(options.size+1) + 16)
	shellTurn(options.seed, count*options.size, options.size) // warm-up
	var times samples
	spent, begin := cpu(), time.Now()
	for turn := 0; turn < count; turn++ {
		times.add(shellTurn(options.seed, turn*options.size, options.size))
	}
	took := time.Since(begin)
	spent = cpu() - spent
	commands := float64(count * options.size)
	also := append(latency("turn µs", times, 1e3), "own cpu µs/command", float64(spent)/1e3/commands)
	report(options, "µs/command", float64(took)/1e3/commands, also,
		[]any{"calls", options.size, "turns", count, "ballast", ballast})
}

func shell(options *options) { measureShell(options, 0) }

func shellBig(options *options) {
	const size = 2 << 30
	place, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_PRIVATE|syscall.MAP_ANON)
	require(err == nil, "2 GiB are to be had")
	_ = syscall.Madvise(place, 15) // MADV_NOHUGEPAGE; refused where there are none
	for at := 0; at < size; at += 4096 {
		place[at] = 1
	}
	measureShell(options, size)
}

// ---- the program ----

type family struct {
	name string
	run  func(*options)
}

var families = []family{
	{"background-*", background}, {"turns-*", turns}, {"timers-*", timers},
	{"sleepers-*", sleepers}, {"sleepers-fibers-*", sleepers}, {"idle", idle},
	{"cancel", cancelNotice}, {"shell-*", shell}, {"shell-*-2gib", shellBig},
}

func find(workload string) (*family, int) {
	for at := range families {
		before, after, sized := strings.Cut(families[at].name, "*")
		if !sized && families[at].name == workload {
			return &families[at], 0
		}
		digits := strings.TrimSuffix(strings.TrimPrefix(workload, before), after)
		size, err := strconv.Atoi(digits)
		if sized && err == nil && size > 0 && before+digits+after == workload {
			return &families[at], size
		}
	}
	return nil, 0
}

func main() {
	options := options{seed: 1}
	if len(os.Args) == 3 && os.Args[1] == "--offers" {
		if family, _ := find(os.Args[2]); family == nil {
			os.Exit(1)
		}
		return
	}
	for at := 1; at < len(os.Args); at++ {
		switch argument := os.Args[at]; argument {
		case "--quick":
			options.quick = true
		case "--seed":
			at++
			options.seed, _ = strconv.ParseUint(os.Args[at], 10, 64)
		default:
			options.workload = argument
		}
	}
	family, size := find(options.workload)
	if family == nil {
		fmt.Fprintln(os.Stderr, "usage: peer-go WORKLOAD [--seed N] [--quick]")
		os.Exit(2)
	}
	options.size = size
	family.run(&options)
}
