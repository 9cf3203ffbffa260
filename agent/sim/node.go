// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// Node is one simulated host with its GPUs. It costs nothing while nobody asks it.
type Node struct {
	name     string
	place    Place
	model    Model
	spec     *spec
	software *software
	answers  answers
	seed     uint64
	rackSeed uint64
	tray     int64 // in the rack
	plan     plan
	clock    driverClock
	boards   []board
	now      func() time.Time
	runs     bool // now is the running clock, so that timers agree with it

	hidden    atomic.Uint64 // callSet that the library does not export
	blocked   atomic.Uint64 // callSet of the driver that never returns; boards have their own
	due       atomic.Int64  // ns since 1970 at which something happens by itself
	downUntil atomic.Int64  // ns since 1970 until which the driver is not loaded

	mu      sync.Mutex // guards the fields below; taken before any board's
	open    []*driver
	chance  chanceFaults
	unbound map[int]bool // GPUs that the driver does not have
	mend    int64        // ns since 1970 at which the node is repaired; never if nothing is broken
}

const never = math.MaxInt64

// NodeConfig describes one node.
type NodeConfig struct {
	Model            Model
	Seed             uint64           // the same seed and clock give the same readings
	Clock            func() time.Time // nil: time.Now
	Workload         Workload         // zero: Training
	Driver           string           // driver version; "" chooses one of the model's by the seed
	FaultsPerGPUHour float64          // faults that come by chance; 0: none
}

// NewNode makes one node by itself, for tests.
func NewNode(cfg NodeConfig) (*Node, error) {
	if int(cfg.Model) >= modelCount {
		return nil, fmt.Errorf("model %d of node: unknown", cfg.Model)
	}
	if err := checkRate(cfg.FaultsPerGPUHour); err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	s := &specs[cfg.Model]
	sw := &s.software[hash(cfg.Seed, 1)%uint64(len(s.software))]
	if cfg.Driver != "" {
		i := slices.IndexFunc(s.software, func(sw software) bool { return sw.driver == cfg.Driver })
		if i < 0 {
			return nil, fmt.Errorf("driver %s of node: not known for %v", cfg.Driver, cfg.Model)
		}
		sw = &s.software[i]
	}
	first := offersOf("aws", []Model{cfg.Model})[0]
	place := Place{
		Provider: first.provider, Region: first.regions[0].name, ZoneID: first.regions[0].zone,
		InstanceType: first.instanceType, LifeCycle: "reserved", Rack: "r0001",
	}
	n := &Node{
		name: nodeName(place, cfg.Model, 1), place: place, model: cfg.Model, spec: s, software: sw,
		answers: newAnswers(s, sw), seed: cfg.Seed, rackSeed: hash(cfg.Seed, 5),
		plan: newPlan(hash(cfg.Seed, 2), cfg.Workload, int64(s.gpus), first.regions[0].utcOffset),
	}
	n.start(cfg.Clock, cfg.FaultsPerGPUHour, 0)
	return n, nil
}

// mostFaultsPerGPUHour is one each second.
const mostFaultsPerGPUHour = 3600

// checkRate refuses rates that are negative, not a number, or too high to be lived through.
func checkRate(faultsPerGPUHour float64) error {
	if faultsPerGPUHour >= 0 && faultsPerGPUHour <= mostFaultsPerGPUHour {
		return nil
	}
	return fmt.Errorf("%v faults per GPU hour: must be between 0 and %d", faultsPerGPUHour, mostFaultsPerGPUHour)
}

// start switches the node on. firstRank is that of its first GPU in the group that works together.
func (n *Node) start(clock func() time.Time, faultsPerGPUHour float64, firstRank int64) {
	n.now, n.runs = clock, clock == nil
	if n.runs {
		n.now = time.Now
	}
	now := n.now().UnixNano()
	q := now / int64(quantum)
	n.clock = newDriverClock(n.spec.pace(), hash(n.seed, 3), q)
	n.boards = make([]board, n.spec.gpus)
	for i := range n.boards {
		b := &n.boards[i]
		b.spec, b.plan, b.index, b.rank = n.spec, &n.plan, i, firstRank+int64(i)
		b.seed = hash(n.seed, 1000+uint64(i))
		b.uuid = deviceUUID(b.seed)
		b.start(q)
	}
	n.chance = newChanceFaults(hash(n.seed, 4), faultsPerGPUHour*float64(n.spec.gpus), now)
	n.mend = never
	n.due.Store(min(n.chance.next, n.mend))
}

// Name is the host name, unique in a fleet.
func (n *Node) Name() string { return n.name }

// Place says where the node stands and how it is rented.
func (n *Node) Place() Place { return n.place }

// Model is the kind of its GPUs.
func (n *Node) Model() Model { return n.model }

// GPUs is how many GPUs the node has when none is lost.
func (n *Node) GPUs() int { return len(n.boards) }

// UUIDs are those of its GPUs, in order.
func (n *Node) UUIDs() []string {
	uuids := make([]string, len(n.boards))
	for i := range n.boards {
		uuids[i] = n.boards[i].uuid
	}
	return uuids
}

// Workload is what the node is used for.
func (n *Node) Workload() Workload { return n.plan.kind }

// Driver opens the node's GPU driver. Each opening is closed by itself; it gets the events that happen after it.
func (n *Node) Driver() gpu.Driver {
	d := &driver{
		node: n, devices: make([]device, 0, len(n.boards)),
		closed: make(chan struct{}), wake: make(chan struct{}, 1), changes: make(chan gpu.Binding, bindingLimit),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range n.boards {
		if !n.unbound[i] {
			d.devices = append(d.devices, device{driver: d, board: &n.boards[i]})
		}
	}
	n.open = append(n.open, d)
	return d
}

// forget drops a driver that was closed.
func (n *Node) forget(d *driver) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.open = slices.DeleteFunc(n.open, func(other *driver) bool { return other == d })
}

// Inject makes something go wrong now.
func (n *Node) Inject(f Fault) error {
	if err := n.check(f); err != nil {
		return fmt.Errorf("injecting a fault into %s: %w", n.name, err)
	}
	now := n.now().UnixNano()
	n.happen(now)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.applyLocked(f, now)
	n.scheduleLocked()
	return nil
}

// check refuses faults that make no sense.
func (n *Node) check(f Fault) error {
	switch f.Kind {
	case XID, LoseGPU, BlockCalls, Overheat, SlowGPU, SplitGPU, ProfileGPU, UnbindGPU, BindGPU:
		if f.GPU < 0 || f.GPU >= len(n.boards) {
			return fmt.Errorf("GPU %d: the node has %d", f.GPU, len(n.boards))
		}
	case ReloadDriver, Repair:
	case HideSymbol:
		if f.Symbol == "" {
			return errors.New("hiding a symbol without naming it")
		}
	default:
		return fmt.Errorf("fault kind %d: unknown", f.Kind)
	}
	if callsOf(f.Symbol) == 0 {
		return fmt.Errorf("symbol %s: no call needs it", f.Symbol)
	}
	if f.Kind == XID && f.Code == 0 {
		return errors.New("an XID without its number")
	}
	if err := checkSplit(f.Sevenths); err != nil {
		return err
	}
	if f.Kind == SlowGPU && !(f.Pace > 0 && f.Pace <= 1) {
		return fmt.Errorf("pace %v: must be above 0 and at most 1", f.Pace)
	}
	return nil
}

// happen lets everything happen that is due by now.
func (n *Node) happen(now int64) {
	if now < n.due.Load() {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for at := n.due.Load(); at <= now; at = n.due.Load() {
		if at == n.mend {
			n.applyLocked(Fault{Kind: Repair}, at)
		} else {
			n.applyLocked(n.chance.take(len(n.boards)), at)
		}
		n.scheduleLocked()
	}
}

// scheduleLocked sets the time at which the next thing happens by itself.
func (n *Node) scheduleLocked() { n.due.Store(min(n.chance.next, n.mend)) }

// untilDue shortens a wait to the moment at which something happens. Where the clock is a test's own, no timer
// can know that moment; the test's next call finds what is due.
func (n *Node) untilDue(wait time.Duration) time.Duration {
	due := n.due.Load()
	if !n.runs || due == never {
		return wait
	}
	return max(0, min(wait, time.Duration(due-n.now().UnixNano())))
}
