// SPDX-License-Identifier: Apache-2.0

// Package flight is the node's flight recorder: it keeps the driver's sub-second samples of the last minutes in
// memory, and sends those around a fault.
//
//	                 ┌ before ┐ fault ┌ after ┐
//	samples  ∙∙∙∙∙∙∙∙∙∙∙∙∙∙∙∙∙∙∙∙∙│∙∙∙∙∙∙∙∙∙∙∙∙∙∙∙∙∙∙∙∙∙∙∙∙∙
//	          kept    └ sent, with the fault's id ┘ kept
//
// A Recorder promises that each sample is sent once at the most, also when faults overlap: it then names the first of
// them. What was kept and not sent is lost when the process ends. Run owns no goroutine but the one that it is called in.
package flight

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/schema"
)

// Sink takes the rows of a node. It may be used by several goroutines.
type Sink interface {
	Append(table uint8, cells []batch.Cell) error
	FlushDue(now time.Time) error
}

// Config is what is kept, and what is sent.
type Config struct {
	Sink   Sink
	All    bool          // samples are sent anyway: nothing is kept, and what lies after a fault names it
	Before time.Duration // of a fault
	After  time.Duration
}

const (
	// LongestBefore bounds what is kept, and so the memory: see tapeSamples.
	LongestBefore = 15 * time.Minute
	// LongestAfter bounds what one fault has sent.
	LongestAfter = 15 * time.Minute
	// samplesPerSecond is what a GPU's rings give at the most that is foreseen: power and clocks 20 times, utilisation
	// six times. Rings that give more are kept for less long.
	samplesPerSecond = 128
	// harvestLag is how late samples may come: rings are read when rows are sent.
	harvestLag = 10 * time.Second
	// maxTapes bounds the GPUs that samples are kept of.
	maxTapes = 64
)

// Validate tells what cannot be honoured.
func (c Config) Validate() error {
	var problems []error
	if c.Before < 0 || c.Before > LongestBefore {
		problems = append(problems, fmt.Errorf("trace of %s before a fault: 0 to %s", c.Before, LongestBefore))
	}
	if c.After < 0 || c.After > LongestAfter {
		problems = append(problems, fmt.Errorf("trace of %s after a fault: 0 to %s", c.After, LongestAfter))
	}
	return errors.Join(problems...)
}

// tapeSamples is how many samples are kept of each GPU: 24 bytes each, so that eight GPUs and two minutes take 3 MiB.
func (c Config) tapeSamples() int {
	if c.All || c.Before == 0 {
		return 0
	}
	return int((c.Before+harvestLag)/time.Second) * samplesPerSecond
}

// Recorder stands between those who sample and the sink that takes their rows. Append belongs to one goroutine, Run
// and Flush to another one; Trace may be called by any.
type Recorder struct {
	Sink
	cfg    Config
	places places
	wake   chan struct{} // holds one while a fault waits for Run
	sent   atomic.Uint64
	row    []batch.Cell // of Append's goroutine
	taken  []sample     // of Run's

	mu      sync.Mutex // guards the fields below
	tapes   map[int64]*tape
	signals []string // by number on the tapes
}

// places are where the columns stand among the cells of gpu_subsecond.
type places struct{ at, gpu, signal, driver, value, burst, fault, count int }

func placesOf() places {
	table, _ := schema.TableByID(schema.SubsecondID)
	columns := table.WireColumns()
	place := func(name string) int {
		return slices.IndexFunc(columns, func(c schema.Column) bool { return c.Name == name })
	}
	return places{
		at: place(schema.ColumnTime), gpu: place(schema.ColumnGPU), signal: place("signal"), driver: place("driver_time_microseconds"),
		value: place("value"), burst: place("burst"), fault: place(schema.ColumnFault), count: len(columns),
	}
}

// New makes a recorder.
func New(cfg Config) *Recorder {
	r := &Recorder{Sink: cfg.Sink, cfg: cfg, places: placesOf(), wake: make(chan struct{}, 1), tapes: make(map[int64]*tape)}
	r.row = make([]batch.Cell, r.places.count)
	return r
}

// Sent counts the samples that were sent for a fault, and would not have been without it.
func (r *Recorder) Sent() uint64 { return r.sent.Load() }

// Append keeps a sample, or sends it: if all are, if it is of a burst, or if a fault is near. All other rows go on.
func (r *Recorder) Append(table uint8, cells []batch.Cell) error {
	if table != schema.SubsecondID {
		return r.Sink.Append(table, cells)
	}
	fault, goesOn := r.take(cells)
	if !goesOn {
		return nil
	}
	if fault != 0 {
		if !r.anyway(cells) {
			r.sent.Add(1)
		}
		copy(r.row, cells)
		r.row[r.places.fault] = batch.Number(fault)
		cells = r.row
	}
	return r.Sink.Append(table, cells)
}

// anyway tells that a sample is sent without a fault, too.
func (r *Recorder) anyway(cells []batch.Cell) bool { return r.cfg.All || cells[r.places.burst].OK }

// take tells whether a sample is to be sent, and for which fault; else it is kept.
func (r *Recorder) take(cells []batch.Cell) (fault int64, goesOn bool) {
	p := &r.places
	r.mu.Lock()
	defer r.mu.Unlock()
	goesOn = r.anyway(cells)
	t := r.tapeLocked(cells[p.gpu].Int)
	if t == nil {
		return 0, goesOn
	}
	s := sample{at: cells[p.at].Int, driver: cells[p.driver].Int, what: what(r.signalLocked(cells[p.signal].Text), cells[p.value].Int)}
	if !cells[p.burst].OK && t.repeats(s) {
		return 0, false
	}
	fault = firstAt(t.windows, s.at)
	if fault == 0 && !goesOn {
		t.keep(s)
	}
	return fault, goesOn || fault != 0
}

// tapeLocked is the tape of a GPU; nil if there are too many.
func (r *Recorder) tapeLocked(gpu int64) *tape {
	t := r.tapes[gpu]
	if t == nil && len(r.tapes) < maxTapes {
		t = &tape{most: r.cfg.tapeSamples(), newest: make(map[uint8]sample)}
		r.tapes[gpu] = t
	}
	return t
}

func (r *Recorder) signalLocked(name string) uint8 {
	i := slices.Index(r.signals, name)
	if i < 0 {
		i = len(r.signals)
		r.signals = append(r.signals, name)
	}
	return uint8(i)
}

// Trace has the samples around a fault sent: those that are kept by Run, soon; those to come as they do. gpu is nil if
// the fault is of the node. Of one that is told of long after it, as from a log that is read anew, nothing is kept.
func (r *Recorder) Trace(gpu *uint64, fault uint64, at time.Time) {
	w := window{fault: int64(fault), from: at.Add(-r.cfg.Before).UnixMicro(), until: at.Add(r.cfg.After).UnixMicro()}
	now := time.Now()
	if w.until < now.Add(-r.cfg.Before-harvestLag).UnixMicro() {
		return
	}
	over := now.Add(-harvestLag).UnixMicro()
	r.mu.Lock()
	defer r.mu.Unlock()
	if gpu != nil {
		if t := r.tapeLocked(int64(*gpu)); t != nil {
			t.open(w, over)
		}
	} else {
		for _, t := range r.tapes {
			t.open(w, over)
		}
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run sends what is kept around faults until the context ends.
func (r *Recorder) Run(ctx context.Context) error {
	for {
		select {
		case <-r.wake:
			if err := r.Flush(); err != nil {
				return err
			}
		case <-ctx.Done():
			return r.Flush()
		}
	}
}

// Flush sends what is kept around faults that were told of. It may be called after Run.
func (r *Recorder) Flush() error {
	for _, gpu := range r.waiting() {
		if err := r.send(gpu); err != nil {
			return err
		}
	}
	return nil
}

// waiting lists the GPUs of which something is to be sent.
func (r *Recorder) waiting() (gpus []int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for gpu, t := range r.tapes {
		if t.waits {
			gpus = append(gpus, gpu)
		}
	}
	slices.Sort(gpus)
	return gpus
}

// send takes the samples around faults from a tape, and sends them without the lock: whoever samples does not wait.
func (r *Recorder) send(gpu int64) error {
	r.mu.Lock()
	t := r.tapes[gpu]
	r.taken = t.cut(r.taken[:0])
	faults, signals := slices.Clone(t.windows), slices.Clone(r.signals)
	r.mu.Unlock()
	p := &r.places
	row := make([]batch.Cell, p.count)
	for _, s := range r.taken {
		row[p.at], row[p.gpu] = batch.Number(s.at), batch.Number(gpu)
		row[p.signal], row[p.driver] = batch.Text(signals[s.signal()]), batch.Number(s.driver)
		row[p.value], row[p.fault] = batch.Number(s.value()), batch.Number(firstAt(faults, s.at))
		if err := r.Sink.Append(schema.SubsecondID, row); err != nil {
			return fmt.Errorf("send the samples around a fault: %w", err)
		}
		r.sent.Add(1)
	}
	return nil
}
