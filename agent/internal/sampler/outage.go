// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"context"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/internal/event"
	"github.com/gpufleet/gpufleet/schema"
)

// pause is the time between two sessions: rows are still written and sent.
func (s *Sampler) pause(ctx context.Context, wait time.Duration) error {
	over, flush := time.NewTimer(wait), time.NewTicker(s.cfg.Interval)
	defer over.Stop()
	defer flush.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-over.C:
			return nil
		case now := <-flush.C:
			if s.outage {
				err = s.observeNode(now, gpu.System{}, nil)
			}
			if err == nil {
				err = s.cfg.Sink.FlushDue(now)
			}
		}
		if err != nil {
			return err
		}
	}
}

// driverMissing tells once that the driver does not answer, and that its facts are not known.
func (s *Sampler) driverMissing(why string) error {
	s.stats.Missing.Store(&why)
	if s.outage {
		return nil
	}
	s.outage = true
	if err := s.write(event.Event{Kind: "driver_missing", Message: "the GPU driver " + why}); err != nil {
		return err
	}
	return s.observeNode(time.Now(), gpu.System{}, nil)
}

// driverBack tells that the driver answers again.
func (s *Sampler) driverBack() error {
	s.stats.Missing.Store(nil)
	if !s.outage {
		return nil
	}
	s.outage = false
	return s.write(event.Event{Kind: "driver_recovered", Message: "the GPU driver answers again"})
}

// versionSeen tells when the driver has another version than in the session before.
func (s *Sampler) versionSeen(version string) error {
	before := s.driverVersion
	if version == "" || version == before {
		return nil
	}
	s.driverVersion = version
	if before == "" {
		return nil
	}
	return s.write(event.Event{Kind: "driver_changed", Message: "from " + before + " to " + version})
}

// observeNode writes a row of node_inventory if something changed, or if it is time to say that
// nothing did. gpus is nil if the driver does not tell.
func (s *Sampler) observeNode(now time.Time, system gpu.System, gpus *int64) error {
	cells := s.node.Load().cells(now, system, gpus)
	changed := cells[nodeHash] != s.nodeWritten
	if !changed && !due(now, &s.lastNode, s.cfg.InventoryInterval) {
		return nil
	}
	s.nodeWritten, s.lastNode = cells[nodeHash], now
	return s.cfg.Sink.Append(schema.NodeInventoryID, cells)
}
