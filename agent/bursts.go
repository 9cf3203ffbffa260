// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/event"
	"github.com/gpufleet/gpufleet/agent/internal/flight"
	"github.com/gpufleet/gpufleet/agent/internal/sampler"
	"github.com/gpufleet/gpufleet/schema/wire"
	"github.com/gpufleet/gpufleet/schema/xid"
)

// Bursts says when GPUs are read at 10 Hz, and which samples around a fault are sent that are not sent else.
type Bursts struct {
	On      bool          // read at 10 Hz after a fault, when clocks begin to be held down, and when asked to
	For     time.Duration // how long
	PerHour int           // of one GPU
	Proc    fs.FS         // the node's /proc, where profilers are looked for: no burst beside one; nil: they are not

	// Before and After are how much of the driver's own samples around a fault is sent. What lies before is kept in
	// memory: 3 MiB for eight GPUs and two minutes.
	Before, After time.Duration
}

func defaultBursts() Bursts {
	return Bursts{On: true, For: 10 * time.Second, PerHour: 6, Before: 2 * time.Minute, After: time.Minute}
}

// problem tells what cannot be honoured.
func (b Bursts) problem() error {
	var problems []error
	if b.On && (b.For < sampler.ShortestBurst || b.For > sampler.LongestBurst) {
		problems = append(problems, fmt.Errorf("bursts of %s: %s to %s", b.For, sampler.ShortestBurst, sampler.LongestBurst))
	}
	if b.On && (b.PerHour < 1 || b.PerHour > 60) {
		problems = append(problems, fmt.Errorf("%d bursts per hour: 1 to 60", b.PerHour))
	}
	return errors.Join(append(problems, flight.Config{Before: b.Before, After: b.After}.Validate())...)
}

// traces tells that samples around faults are sent.
func (b Bursts) traces() bool { return b.Before > 0 || b.After > 0 }

// burster makes bursts.
type burster interface {
	Burst(ctx context.Context, o sampler.Order) (sampler.Outcome, error)
}

const (
	// maxOrders bounds the bursts that wait to be ordered; each takes milliseconds, or seconds if no driver is open.
	maxOrders = 32
	// orderLife is how long they may wait: what they are for is over then.
	orderLife = 5 * time.Second
)

// errStale is about an order that has waited for longer.
var errStale = fmt.Errorf("it has waited for more than %s", orderLife)

// waitingOrder is an order that nobody waits for.
type waitingOrder struct {
	sampler.Order

	at time.Time
}

// watchBursts has bursts made that were ordered, and samples around faults be sent.
func (a *Agent) watchBursts(b burster) {
	a.bursts = b
	a.watchers = append(a.watchers, a.recorder.Run, a.obeyOrders)
}

// obeyOrders makes the bursts that nobody waits for. What is refused is told by the sampler.
func (a *Agent) obeyOrders(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case o := <-a.orders:
			if err := a.obey(ctx, o); err != nil {
				return err
			}
		}
	}
}

// obey makes a burst. Whoever asked from afar learns from an event why there is none; of others the sampler tells it.
func (a *Agent) obey(ctx context.Context, o waitingOrder) error {
	var done sampler.Outcome
	refused := errStale
	if time.Since(o.at) <= orderLife {
		done, refused = a.burst(ctx, o.Order)
	}
	if refused != nil && ctx.Err() == nil {
		a.cfg.Logger.Info("no burst", "gpu", o.UUID, "reason", o.Reason, "error", refused)
	}
	if refused != nil && ctx.Err() == nil && o.Asked && len(done.Refused) == 0 {
		return a.journal.Write(event.Event{Kind: "burst_refused", Message: o.Reason + ": " + refused.Error()})
	}
	return nil
}

func (a *Agent) burst(ctx context.Context, o sampler.Order) (sampler.Outcome, error) {
	if a.bursts == nil {
		return sampler.Outcome{}, errNoDriver
	}
	return a.bursts.Burst(ctx, o)
}

// order has a burst made soon. It does not block.
func (a *Agent) order(o sampler.Order) {
	if !a.cfg.Bursts.On && !o.Asked {
		return
	}
	select {
	case a.orders <- waitingOrder{o, time.Now()}:
	default:
		a.cfg.Logger.Warn("too many bursts are wanted at once", "gpu", o.UUID, "reason", o.Reason)
	}
}

// orderEvery bounds what a collector can make an agent do and write.
const orderEvery = time.Second

// ordered is told what the collector asks for. The streams of all tables may have something to tell.
func (a *Agent) ordered(o wire.Order) {
	now, before := time.Now(), a.lastOrder.Load() // with a clock that nobody sets back
	if before != nil && now.Sub(*before) < orderEvery || !a.lastOrder.CompareAndSwap(before, &now) {
		a.cfg.Logger.Warn("the collector asks for too much at once")
		return
	}
	if a.bursts == nil {
		a.cfg.Logger.Warn("the collector asks for a burst of a recording")
		return
	}
	reason := "the collector asks for it"
	if o.Burst.Reason != "" {
		reason += ": " + o.Burst.Reason
	}
	a.order(sampler.Order{UUID: o.Burst.GPU, For: time.Duration(o.Burst.Seconds * float64(time.Second)), Reason: reason, Asked: true})
}

// slowed is told when a GPU begins to be held down by heat or by the hardware.
func (a *Agent) slowed(uuid string) {
	a.order(sampler.Order{UUID: uuid, Reason: "heat, the hardware or the power brake holds the clocks down", Everyday: true})
}

// faulted is told of each new fault. What is no more than information, as that another fault has stopped a program, is
// not worth it: it befalls all GPUs of a job at once.
func (a *Agent) faulted(e event.Event) {
	if e.Fault.Severity == string(xid.Info) || e.UUID == "" && e.Fault.SXID == nil {
		return
	}
	var gpu *uint64 // of a switch's fault: all GPUs
	if e.UUID != "" {
		id := wire.GPUID(e.UUID)
		gpu = &id
	}
	a.recorder.Trace(gpu, e.Fault.ID, e.Time)
	if time.Since(e.Time) > max(a.cfg.Bursts.After, a.cfg.Bursts.For) {
		return // it is read from a log of long ago
	}
	a.order(sampler.Order{UUID: e.UUID, Reason: "fault: " + codeOf(e)})
}

func codeOf(e event.Event) string {
	switch {
	case e.XID != nil:
		return fmt.Sprintf("XID %d", *e.XID)
	case e.Fault.SXID != nil:
		return fmt.Sprintf("SXID %d", *e.Fault.SXID)
	default:
		return e.Kind
	}
}

// Burst has GPUs read at 10 Hz for a while: the one with a UUID, or all of the node if it is "". lasts is 0 for the
// configured time. It tells which are, and for how long. It may only be called while Run runs.
func (a *Agent) Burst(ctx context.Context, uuid string, lasts time.Duration, reason string) (gpus []string, actually time.Duration, err error) {
	done, err := a.burst(ctx, sampler.Order{UUID: uuid, For: lasts, Reason: reason})
	if err != nil {
		return nil, 0, fmt.Errorf("read at 10 Hz: %w", err)
	}
	return done.Reading, done.For, nil
}
