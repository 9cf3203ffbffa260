// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"fmt"
	"time"

	"github.com/gpufleet/gpufleet/collector/internal/store"
)

// otherMap notes that a shard was told of another map.
func (p *pipeline) otherMap() { p.mapChangedOnce.Do(func() { close(p.mapChanged) }) }

// maxFollowRetry is how long it is waited at the most before it is looked again whether this collector can go by another map.
const maxFollowRetry = 30 * time.Second

// follow waits for another map, and finds out what the cluster is by it while streams go on: then it ends the pipeline with
// store.ErrMapChanged. As long as the collector cannot go by it, the agents that it has stay as they are: shards
// grant it no more, but what they have granted holds.
func (p *pipeline) follow(ctx context.Context) (err error) {
	select {
	case <-p.mapChanged:
	case <-ctx.Done():
		return nil
	}
	for wait := surveyRetry; ; wait = min(2*wait, maxFollowRetry) {
		if p.next, err = p.cfg.survey(ctx); err == nil {
			if p.next.holds().Number > p.store.holds().Number {
				return store.ErrMapChanged
			}
			err = fmt.Errorf("no shard that answers knows it: %s is the last one that they know", p.next.holds())
		}
		p.strand(err)
		p.cfg.Logger.Error("the cluster has another map of nodes to shards, and this collector cannot go by it; agents that are connected go on by the earlier one", "retry_in", wait, "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

func (p *pipeline) strand(why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stranded = fmt.Errorf("this collector cannot go by the cluster's map of nodes to shards, and takes no more agents: %w", why)
}

func (p *pipeline) whyStranded() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stranded
}
