// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/gpufleet/gpufleet/collector/internal/batchlog"
	"github.com/gpufleet/gpufleet/collector/internal/index"
	"github.com/gpufleet/gpufleet/collector/internal/receiver"
	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/collector/quarantine"
)

// newPipeline opens the logs. Nothing is asked of ClickHouse yet.
func newPipeline(cfg Config, t topology, kept *quarantine.Store) (*pipeline, error) {
	routes := &router{topology: t}
	p := &pipeline{cfg: cfg, store: routes, index: index.New(routes), quarantine: kept, load: receiver.NewLoad(), taking: make(chan struct{}), mapChanged: make(chan struct{})}
	for i, e := range t.shards {
		s := &shard{units: cfg.store(e)}
		if cfg.Cluster.on() {
			s.number = i + 1
			s.units.Shard = &store.Shard{
				Cluster: cfg.Cluster.Name, Number: s.number, Replicated: cfg.Cluster.Replicated, Maps: t.maps, Former: routes.formerOf,
			}
		}
		routes.parts = append(routes.parts, s)
		if cfg.MaxLogBytes == 0 {
			continue
		}
		if err := p.openLog(s); err != nil {
			return nil, errors.Join(err, p.close())
		}
	}
	if err := p.openOtherLogs(); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// store is what the store of a server is told.
func (c Config) store(e Endpoint) store.Config {
	units := store.DefaultConfig()
	units.Program = c.Program
	units.Endpoint, units.Name, units.Logger, units.Meter = e, c.Name, c.Logger, c.Meter
	units.UnitRows, units.UnitWait, units.MaxAge = c.UnitRows, c.UnitWait, c.MaxAge
	units.OnStep = c.OnStep
	return units
}

// ofShard is the name of a shard's file or folder: the first one has that of a collector without a cluster.
func ofShard(name string, number int) string {
	if number <= 1 {
		return name
	}
	return fmt.Sprintf("%s-shard-%d", name, number)
}

// stopWait is how long a stop waits for a shard that does not take what is left. It is in the log, and the agents of the
// other shards are waiting for the next start.
const stopWait = 3 * time.Second

// openLog opens the log of a shard, and numbers its process.
func (p *pipeline) openLog(s *shard) (err error) {
	if s.log, err = p.open(filepath.Join(p.cfg.DataDir, ofShard("log", s.number))); err != nil {
		return err
	}
	s.units.Notes = s.log
	if len(p.store.shards) > 1 {
		s.units.StopWait = stopWait
	}
	s.instances = filepath.Join(p.cfg.DataDir, ofShard("instances", s.number))
	return s.renumber()
}

func (p *pipeline) open(dir string) (*batchlog.Log, error) {
	l, err := batchlog.Open(batchlog.Config{
		Dir: dir, MaxBytes: p.cfg.MaxLogBytes / int64(len(p.store.shards)), Logger: p.cfg.Logger, OnStep: p.cfg.OnStep,
	})
	if err == nil {
		p.logs = append(p.logs, l)
	}
	return l, err
}

// openOtherLogs opens what is left of shards that are not there any more: what was accepted is stored all the same.
func (p *pipeline) openOtherLogs() error {
	if p.cfg.MaxLogBytes == 0 {
		return nil
	}
	found, err := filepath.Glob(filepath.Join(p.cfg.DataDir, "log-shard-*"))
	if err != nil {
		return fmt.Errorf("look for logs of other shards: %w", err)
	}
	var known []string
	for n := range p.store.shards {
		known = append(known, ofShard("log", n+1))
	}
	for _, dir := range found {
		if slices.Contains(known, filepath.Base(dir)) {
			continue
		}
		if _, err := p.open(dir); err != nil {
			return err
		}
	}
	return nil
}

// openOne opens the store of a collector without a cluster.
func (p *pipeline) openOne(ctx context.Context) (err error) {
	s := p.store.parts[0]
	s.store, err = store.Open(ctx, s.units)
	return err
}

// close ends a pipeline that never runs; one that does closes itself.
func (p *pipeline) close() error {
	var problems []error
	for _, s := range p.store.parts {
		if s.store != nil {
			problems = append(problems, s.store.Close())
		}
	}
	for _, l := range p.logs {
		problems = append(problems, l.Close())
	}
	return errors.Join(problems...)
}
