// SPDX-License-Identifier: Apache-2.0

// Package network watches the RDMA ports of one node (InfiniBand, RoCE, EFA) through sysfs: their
// states once a second, their counters once a minute. It promises that one file that is odd costs one
// value, that one card that hangs does not stop the others, and that a link loss too short to be seen
// is found in the counters that tell of it.
//
// Each device is read by a goroutine of its own; that of Run owns the clock, judges, and writes. Run
// waits for all of them, and leaves one behind, aloud, if a read does not return.
//
// It reads sysfs by itself: the class of github.com/prometheus/procfs fails as a whole on one file that
// it cannot parse, and knows nothing of EFA.
package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/agent/internal/event"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// Rows takes rows. It may be used by several goroutines.
type Rows interface {
	// Append adds a row: the wire columns of a table in order. The cells are only valid in the call.
	Append(table uint8, cells []batch.Cell) error
}

// Events takes events. It may be used by several goroutines.
type Events interface {
	Write(e event.Event) error
}

// Expectation is how fast the ports of some devices should run.
type Expectation struct {
	Devices  string // pattern of names, as path.Match has it: mlx5_*
	Gigabits float64
}

// Options is what is watched, and how it is judged.
type Options struct {
	Sysfs    fs.FS // os.DirFS("/sys"); nil watches nothing
	Flapping Flapping
	Expect   []Expectation // the first that matches a device counts
}

// DefaultOptions watches nothing: a node's sysfs has to be named, so that a simulated one reads no real
// one.
func DefaultOptions() Options {
	return Options{Flapping: Flapping{Losses: 3, Within: 10 * time.Minute, Quiet: 30 * time.Minute}}
}

// Validate tells what cannot be honoured.
func (o Options) Validate() error {
	f := o.Flapping
	var problems []error
	if f.Losses < 2 || f.Losses > 1000 {
		problems = append(problems, fmt.Errorf("a port flaps after %d link losses: 2 to 1000", f.Losses))
	}
	if f.Within < time.Second || f.Quiet < time.Second {
		problems = append(problems, fmt.Errorf("a port flaps by losses within %s, until quiet for %s: at least 1s", f.Within, f.Quiet))
	}
	for _, e := range o.Expect {
		if _, err := path.Match(e.Devices, ""); err != nil || e.Devices == "" {
			problems = append(problems, fmt.Errorf("expected rate of %q: want a pattern of device names, such as mlx5_*", e.Devices))
		}
		if !(e.Gigabits > 0 && e.Gigabits <= highestRate) {
			problems = append(problems, fmt.Errorf("expected rate of %s: %v gigabits per second", e.Devices, e.Gigabits))
		}
	}
	return errors.Join(problems...)
}

// Config is what a Monitor is told.
type Config struct {
	Options
	Node        string        // its rows have their own place in the minute
	Interval    time.Duration // between looks at states
	RowEvery    time.Duration // between rows of a port
	StuckAfter  time.Duration // a device that has not answered for this long is reported
	StopWait    time.Duration // how long a stop waits for reads
	RemoveAfter time.Duration // a device that has been gone for this long is watched no more; 0: a day
	Rows        Rows
	Events      Events
	Logger      *slog.Logger
}

// scanEvery is the time between searches for devices that are new.
const scanEvery = 10 * time.Second

// removeAfter is how long a device that is gone has rows all the same: it has to be missed, but not for ever.
const removeAfter = 24 * time.Hour

// mostDevices bounds what a node may claim to have.
const mostDevices = 128

// Monitor watches the ports of one node. It runs once.
type Monitor struct {
	cfg      Config
	files    tree
	devices  []*device
	results  chan *device
	stop     chan struct{}
	done     sync.WaitGroup
	lastRow  time.Time
	lastScan time.Time
	unlisted bool // the class cannot be listed, and it was said
}

// New makes a monitor.
func New(cfg Config) *Monitor {
	if cfg.RemoveAfter == 0 {
		cfg.RemoveAfter = removeAfter
	}
	return &Monitor{
		cfg: cfg, files: newTree(cfg.Sysfs), results: make(chan *device, mostDevices), stop: make(chan struct{}),
	}
}

// Run watches until the context ends. Its error is that of a row or an event that could not be written.
func (m *Monitor) Run(ctx context.Context) error {
	defer m.close()
	now := time.Now()
	m.lastRow = now.Add(-time.Duration(wire.NodeID(m.cfg.Node) % uint64(m.cfg.RowEvery)))
	err := m.tick(now)
	ticker := time.NewTicker(m.cfg.Interval)
	defer ticker.Stop()
	for err == nil {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			err = m.tick(time.Now())
		case d := <-m.results:
			err = m.result(d)
		}
	}
	return fmt.Errorf("watch network ports: %w", err)
}

// tick asks every device that is free.
func (m *Monitor) tick(now time.Time) error {
	if now.Sub(m.lastScan) >= scanEvery {
		m.scan(now)
	}
	full := now.Sub(m.lastRow) >= m.cfg.RowEvery-m.cfg.Interval/2
	if full {
		m.lastRow = now
	}
	for _, d := range m.devices {
		if err := m.ask(d, full, now); err != nil {
			return err
		}
	}
	return nil
}

// ask gives a device its request. One that is still busy is passed over, and reported once.
func (m *Monitor) ask(d *device, full bool, now time.Time) error {
	switch {
	case !d.busy:
		d.busy, d.since = true, now
		d.requests <- request{attach: !d.attached, full: full || !d.attached}
		return nil
	case d.stuck || now.Sub(d.since) < m.cfg.StuckAfter:
		return nil
	}
	d.stuck = true
	return m.tell(d, 0, finding{kind: kindStuck, message: fmt.Sprintf("a read of sysfs has not returned for %s", now.Sub(d.since).Round(time.Second))})
}

// tell writes an event. port is 0 if it concerns the device.
func (m *Monitor) tell(d *device, port int64, f finding) error {
	m.cfg.Logger.Warn("network port", "device", d.name, "port", port, "kind", f.kind, "finding", f.message)
	e := event.Event{Kind: f.kind, Source: schema.SourceNetwork, NetworkDevice: d.name, Count: f.count, Message: d.name + ": " + f.message}
	if port > 0 {
		e.NetworkPort, e.Message = &port, fmt.Sprintf("%s port %d: %s", d.name, port, f.message)
	}
	return m.cfg.Events.Write(e)
}

// scan finds devices that are new. One that sits where another has vanished is that one by another
// name: udev names them after they have come.
func (m *Monitor) scan(now time.Time) {
	m.lastScan = now
	names, err := m.files.list(devicesFolder)
	if err != nil && !m.unlisted {
		m.cfg.Logger.Warn("list network devices", "error", err)
	}
	m.unlisted = err != nil
	listed := make(map[string]bool, len(names))
	for _, name := range names {
		listed[name] = true
	}
	for _, name := range names {
		if m.byName(name) == nil && len(m.devices) < mostDevices {
			m.add(name, listed)
		}
	}
}

func (m *Monitor) byName(name string) *device {
	for _, d := range m.devices {
		if d.name == name {
			return d
		}
	}
	return nil
}

// add gives a device a goroutine.
func (m *Monitor) add(name string, listed map[string]bool) {
	pci := m.files.pciAddress(name)
	m.devices = slices.DeleteFunc(m.devices, func(old *device) bool {
		if pci == "" || old.pci != pci || listed[old.name] {
			return false
		}
		m.cfg.Logger.Info("network device has another name", "device", name, "before", old.name, "pci_bus_id", pci)
		old.retired = true
		close(old.requests)
		return true
	})
	d := &device{files: newTree(m.cfg.Sysfs), name: name, folder: path.Join(devicesFolder, name), pci: pci, requests: make(chan request, 1)}
	m.devices = append(m.devices, d)
	m.done.Go(func() { d.run(m.results, m.stop) })
}

// result judges what a device's goroutine has read.
func (m *Monitor) result(d *device) error {
	now := time.Now()
	d.busy = false
	if d.retired {
		return nil
	}
	d.attached = len(d.ports) > 0 // the kernel lists a device before it has made its ports
	if d.stuck {
		d.stuck = false
		if err := m.tell(d, 0, finding{kind: kindUnstuck, message: "reads of sysfs return again"}); err != nil {
			return err
		}
	}
	if d.vanished() {
		m.scan(now)
		if d.retired {
			return nil
		}
	}
	for _, p := range d.ports {
		if err := m.judge(d, p, now); err != nil {
			return err
		}
	}
	return m.removeIfGone(d, now)
}

// removeIfGone ends a device that has been gone for too long.
func (m *Monitor) removeIfGone(d *device, now time.Time) error {
	switch {
	case !d.vanished():
		d.vanishedAt = time.Time{}
		return nil
	case d.vanishedAt.IsZero():
		d.vanishedAt = now
		return nil
	case now.Sub(d.vanishedAt) < m.cfg.RemoveAfter:
		return nil
	}
	d.retired = true
	close(d.requests)
	m.devices = slices.DeleteFunc(m.devices, func(o *device) bool { return o == d })
	return m.tell(d, 0, finding{kind: kindRemoved, message: fmt.Sprintf("has been gone for %s: it is watched no more", now.Sub(d.vanishedAt).Round(time.Minute))})
}

// judge writes what is found of one port.
func (m *Monitor) judge(d *device, p *port, now time.Time) error {
	p.flaps.rule, p.expected = m.cfg.Flapping, m.expected(d.name)
	for _, f := range p.judge(now, d.request.full) {
		if err := m.tell(d, p.number, f); err != nil {
			return err
		}
	}
	if problem := p.now.problem; problem != nil && problem.Error() != p.complained {
		p.complained = problem.Error()
		m.cfg.Logger.Warn("network port cannot be read in full", "device", d.name, "port", p.number, "error", problem)
	}
	if !d.request.full {
		return nil
	}
	return m.cfg.Rows.Append(schema.NetworkPortsID, d.row(p))
}

// expected is how fast the ports of a device should run; 0 if nobody said.
func (m *Monitor) expected(device string) float64 {
	for _, e := range m.cfg.Expect {
		if ok, err := path.Match(e.Devices, device); err == nil && ok {
			return e.Gigabits
		}
	}
	return 0
}

// close ends the devices' goroutines. A read that hangs cannot be ended.
func (m *Monitor) close() {
	close(m.stop)
	var busy []string
	for _, d := range m.devices {
		close(d.requests)
		if d.busy {
			busy = append(busy, d.name)
		}
	}
	idle := make(chan struct{})
	go func() {
		m.done.Wait()
		close(idle)
	}()
	timer := time.NewTimer(m.cfg.StopWait)
	defer timer.Stop()
	select {
	case <-idle:
	case <-timer.C:
		m.cfg.Logger.Warn("reads of sysfs have not returned; leaving them behind", "devices", strings.Join(busy, ", "), "waited", m.cfg.StopWait)
	}
}
