// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"github.com/gpufleet/gpufleet/agent/internal/event"
	"github.com/gpufleet/gpufleet/agent/internal/spool"
)

// openSpool takes the folder, if there is one, and begins a new epoch: later than any in it.
func (a *Agent) openSpool() error {
	var err error
	a.spool, err = spool.Open(spool.Config{
		Dir: a.spoolDir(), MaxBytes: a.cfg.SpoolBytes, MaxMemoryBytes: a.cfg.MaxQueueBytes, Node: a.cfg.Node.Name,
		OnLoss: a.lost, OnDisk: a.spoolHealth, Trace: a.cfg.Trace, Logger: a.cfg.Logger,
	})
	if err != nil {
		return err
	}
	a.epoch = a.spool.Epoch()
	return nil
}

// lost logs batches that will never be stored, and has them told with others in an event.
func (a *Agent) lost(l spool.Loss) {
	a.cfg.Logger.Error("batches will not be stored", "kind", string(l.Kind), "batches", l.Batches, "rows", l.Rows, "last", l.Last.String(), "reason", l.Reason)
	a.losses.add(l)
}

// spoolHealth writes that the spool's disk does not work, and that it does again. It runs in the goroutine that
// writes the spool, which writing an event does not wait for.
func (a *Agent) spoolHealth(problem error) {
	e := event.Event{Kind: "spool_recovered", Message: "batches are kept on disk again"}
	if problem != nil {
		e = event.Event{Kind: "spool_unavailable", Message: problem.Error()}
	}
	if err := a.journal.Write(e); err != nil {
		a.cfg.Logger.Error("write what became of the spool", "error", err)
	}
}
