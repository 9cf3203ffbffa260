// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"sync"

	"github.com/gpufleet/gpufleet/agent/internal/event"
)

// retirement is how an agent makes room for a successor.
type retirement struct {
	once    sync.Once
	asked   chan struct{} // closed when the agent is to stop sampling
	stopped chan struct{} // closed when it has
}

func newRetirement() *retirement {
	return &retirement{asked: make(chan struct{}), stopped: make(chan struct{})}
}

// context ends when the given one does, or when the agent is to retire. stop gives back what it holds.
func (r *retirement) context(ctx context.Context) (reading context.Context, stop func()) {
	reading, cancel := context.WithCancel(ctx)
	var waiting sync.WaitGroup
	waiting.Go(func() {
		select {
		case <-r.asked:
			cancel()
		case <-reading.Done():
		}
	})
	return reading, func() {
		cancel()
		waiting.Wait()
	}
}

func (r *retirement) isAsked() bool {
	select {
	case <-r.asked:
		return true
	default:
		return false
	}
}

// Retire makes room for an agent that samples the same node from now on: it ends the sampling, and returns
// once the driver is closed. With a spool on disk Run then ends: the successor, which must not be made before, finds
// there what is not stored yet. Without one Run goes on to send it; unlike at a stop it has all the time until its
// context ends. Retire may only be called while Run runs.
func (a *Agent) Retire() {
	a.retirement.once.Do(func() { close(a.retirement.asked) })
	<-a.retirement.stopped
}

// Spools tells whether the agent keeps a spool on disk, which one agent at a time may have.
func (a *Agent) Spools() bool { return a.cfg.SpoolDir != "" && a.cfg.Collector != "" }

// Tell writes an event that concerns the agent itself: kind is one of those in schema.EventKinds.
func (a *Agent) Tell(kind, message string) error {
	return a.journal.Write(event.Event{Kind: kind, Message: message})
}
