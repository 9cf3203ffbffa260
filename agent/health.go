// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"time"

	"github.com/gpufleet/gpufleet/internal/health"
)

// hangs is how long ticks may stay away before a restart is the only help: longer than any wait of the sampler.
const hangs = 5 * time.Minute

// Alive tells whether the agent still does what it is for. It fails when a restart may help and waiting does not: no
// tick was started for minutes, though the driver is there and was not released.
func (a *Agent) Alive(now time.Time) []health.Check {
	s := a.source.Stats()
	released, _ := a.Released()
	last := s.LastTick.Load()
	if last == 0 || released != "" || s.Missing.Load() != nil {
		return []health.Check{health.Warn("ticks", "")}
	}
	if since := now.Sub(time.UnixMilli(last)); since > hangs+2*a.cfg.Interval {
		return []health.Check{health.Of("ticks", fmt.Errorf("no tick was started for %s", since.Round(time.Second)))}
	}
	return []health.Check{health.Warn("ticks", "")}
}

// Ready tells whether GPUs are read and batches are kept, with what will soon be wrong as a warning. A collector that is
// away is one: the spool holds what it does not take.
func (a *Agent) Ready() []health.Check {
	s := a.Stats()
	return []health.Check{a.driverCheck(s), health.Warn("collector", away(s)), a.spoolCheck(s), health.Disk(a.spoolDir())}
}

func (a *Agent) driverCheck(s Stats) health.Check {
	const name = "driver"
	if released, since := a.Released(); released != "" {
		return health.Warn(name, fmt.Sprintf("the GPU driver was released at %s: %s; gpufleet-agent resume takes it up again", since.UTC().Format(time.RFC3339), released))
	}
	if s.DriverMissing != "" {
		return health.Of(name, fmt.Errorf("the GPU driver %s: it is tried again", s.DriverMissing))
	}
	return health.Warn(name, "")
}

func away(s Stats) string {
	if s.CollectorAway == "" {
		return ""
	}
	return fmt.Sprintf("it was tried in vain: %s; %d batches wait, the oldest for %s", s.CollectorAway, s.BatchesWaiting, s.OldestWaiting.Round(time.Second))
}

// spoolCheck looks at the disk that keeps batches, or at the memory where there is none.
func (a *Agent) spoolCheck(s Stats) health.Check {
	const name = "spool"
	switch {
	case a.spoolDir() == "":
		return health.Fill(name, "queue in memory", s.BytesWaiting, a.cfg.MaxQueueBytes, "the collector does not store what is sent; then the oldest are dropped")
	case s.SpoolFailing:
		return health.Of(name, errSpool)
	default:
		return health.Fill(name, "spool "+a.cfg.SpoolDir, s.SpoolBytes, a.cfg.SpoolBytes, "the collector does not store what is sent; then the oldest readings are dropped")
	}
}

var errSpool = errors.New("the spool's disk does not work: batches are kept in memory, and are lost if the agent dies")

// spoolDir is the folder that is used; "": none. Without a collector nobody would empty it.
func (a *Agent) spoolDir() string {
	if a.cfg.Collector == "" {
		return ""
	}
	return a.cfg.SpoolDir
}
