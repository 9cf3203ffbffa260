// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/schema"
)

const (
	// surveyRetry is how long it is waited before a cluster is asked for again of which too few servers answer.
	surveyRetry    = 200 * time.Millisecond
	maxSurveyRetry = 5 * time.Second
)

// findTopology asks the servers of the cluster until one has told which map holds; and all of them if nobody has heard of a
// map: then it is the first one.
func (c Config) findTopology(ctx context.Context) (topology, error) {
	if !c.Cluster.on() {
		return topology{shards: []Endpoint{c.Database}}, nil
	}
	for wait := surveyRetry; ; wait = min(2*wait, maxSurveyRetry) {
		t, err := c.survey(ctx)
		if _, ends := errors.AsType[hopeless](err); err == nil || ends {
			return t, err
		}
		c.Logger.Warn("which shards the cluster has is not known; trying again", "cluster", c.Cluster.Name, "retry_in", wait, "error", err)
		select {
		case <-ctx.Done():
			return t, ctx.Err()
		case <-time.After(wait):
		}
	}
}

// hopeless is an error that waiting does not mend.
type hopeless struct{ error }

func (h hopeless) Unwrap() error { return h.error }

// wrongCluster says that what was given and what there is differ.
func wrongCluster(format string, values ...any) error {
	return hopeless{fmt.Errorf("the cluster is another one than was given: "+format, values...)}
}

// survey asks once. It takes as long as one server may, however many do not answer; of those that do one alone may know
// the maps.
func (c Config) survey(ctx context.Context) (t topology, err error) {
	said := make(answers)
	first, err := c.ask(ctx, said)
	if err != nil {
		return t, err
	}
	for i, s := range first.Shards {
		t.shards = append(t.shards, c.endpoint(i, s.Hosts))
	}
	if n := len(c.Cluster.Shards); n > 0 && n != len(t.shards) {
		return t, wrongCluster("%d shards are given (--clickhouse-shard), and %s has %d", n, c.Cluster.Name, len(t.shards))
	}
	said.gather(ctx, t.shards, c.Cluster.Name)
	if err := t.learn(said, first.Weights()); err != nil {
		return t, err
	}
	holds := t.holds()
	if !slices.Equal(holds.Weights, first.Weights()) {
		c.Logger.Warn("the cluster has other shards or weights than the map of nodes to shards, which holds until it is changed by gpufleet schema apply", "cluster", c.Cluster.Name, "weights", first.Weights(), "map", holds.String())
	}
	if len(holds.Weights) > len(t.shards) {
		return t, wrongCluster("%s has %d shards, and by %s there are more: a shard is not taken away, but given the weight 0", c.Cluster.Name, len(t.shards), holds)
	}
	t.shards = t.shards[:len(holds.Weights)]
	if err := errors.Join(holds.Validate(), c.checkParts(len(t.shards))); err != nil {
		return t, hopeless{err}
	}
	return t, nil
}

// ask finds a server that knows the cluster: the one that is named, or one of the shards that are given. Waiting does not help
// if all have answered, and none with what was asked for.
func (c Config) ask(ctx context.Context, said answers) (store.Seen, error) {
	endpoints := []Endpoint{c.Database}
	for i := range c.Cluster.Shards {
		endpoints = append(endpoints, c.endpoint(i, nil))
	}
	said.gather(ctx, endpoints, c.Cluster.Name)
	var problems []error
	final := true
	for _, e := range endpoints {
		a := said[e.Address]
		if a.err == nil {
			return a.seen, nil
		}
		final = final && store.Final(a.err)
		problems = append(problems, fmt.Errorf("%s: %w", e.Address, a.err))
	}
	err := errors.Join(problems...)
	if final {
		return store.Seen{}, hopeless{err}
	}
	return store.Seen{}, err
}

// learn puts together what the shards know of maps. One that does not answer, or does not let this collector in, is away:
// that is a matter of its own nodes, as long as the others know all maps.
func (t *topology) learn(said answers, weights []int) (err error) {
	var away error
	for i, e := range t.shards {
		a := said[e.Address]
		switch {
		case a.err != nil:
			away = errors.Join(away, fmt.Errorf("shard %d: %w", i+1, a.err))
			continue
		case a.seen.Shard != 0 && a.seen.Shard != i+1, a.seen.Own != 0 && a.seen.Own != i+1:
			return wrongCluster("%s is shard %d, and was given as shard %d: give the shards in their order", e.Address, max(a.seen.Own, a.seen.Shard), i+1)
		}
		if t.maps, err = schema.JoinShardMaps(t.maps, a.seen.Maps); err != nil {
			return err
		}
	}
	missing := schema.MissingShardMap(t.maps)
	switch {
	case len(t.maps) == 0 && away != nil:
		return fmt.Errorf("no shard that answers was told which nodes are whose: before the first map all must answer: %w", away)
	case len(t.maps) == 0:
		t.maps = []schema.ShardMap{{Number: 1, Weights: weights}}
	case missing != 0 && away != nil:
		return fmt.Errorf("%w: one that does must answer: %w", schema.NoShardMap{Number: missing, Newest: t.holds()}, away)
	case missing != 0:
		return hopeless{fmt.Errorf("%w: bring that row of shard_maps back on every shard", schema.NoShardMap{Number: missing, Newest: t.holds()})}
	}
	return nil
}

// answers are what servers have answered, by address.
type answers map[string]answer

type answer struct {
	seen store.Seen
	err  error
}

// gather asks those that were not asked yet, all at the same time.
func (a answers) gather(ctx context.Context, endpoints []Endpoint, cluster string) {
	var asking sync.WaitGroup
	var mu sync.Mutex // guards came
	came := make(answers)
	for _, e := range endpoints {
		if _, asked := a[e.Address]; asked {
			continue
		}
		a[e.Address] = answer{}
		asking.Go(func() {
			seen, err := store.Survey(ctx, e, cluster)
			mu.Lock()
			defer mu.Unlock()
			came[e.Address] = answer{seen, err}
		})
	}
	asking.Wait()
	maps.Copy(a, came)
}
