// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/event"
	"github.com/gpufleet/gpufleet/agent/internal/place"
	"github.com/gpufleet/gpufleet/schema"
)

// Where a node is, who told so, and why others did not.
type (
	// Place is where a node is.
	Place = place.Place
	// PlaceField is one fact of a Place.
	PlaceField = place.Field
	// PlaceReason says why a service did not answer.
	PlaceReason = place.Reason
	// PlaceConfig is what is known beforehand besides the Node, and whom to ask.
	PlaceConfig = place.Config
)

// PlaceFields lists the facts of a Place.
func PlaceFields() []PlaceField { return place.Fields() }

// InCluster is how a pod reads its node's object, by its environment.
func InCluster(getenv func(string) string) place.Kubernetes { return place.InCluster(getenv) }

// ReadPlace reads a file in which an operator wrote down where the node is.
func ReadPlace(path string) (Place, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Place{}, fmt.Errorf("read where the node is: %w", err)
	}
	p, err := place.ParseKnown(string(text))
	if err != nil {
		return Place{}, fmt.Errorf("read where the node is: %s: %w", path, err)
	}
	return p, nil
}

// FindPlace finds out where the node is. What n and cfg.Known say wins, n before cfg.Known.
func FindPlace(ctx context.Context, n Node, cfg PlaceConfig) (Place, []PlaceReason) {
	cfg.Known = known(n).Or(cfg.Known)
	return place.Probe(ctx, cfg)
}

// known is what the operator said of the node.
func known(n Node) Place {
	return Place{
		Provider: n.Provider, Platform: n.Platform, Region: n.Region, ZoneName: n.ZoneName, ZoneID: n.ZoneID, AccountID: n.AccountID,
		InstanceType: n.InstanceType, InstanceID: n.InstanceID, ImageID: n.ImageID, LifeCycle: n.LifeCycle,
		CapacityReservationID: n.CapacityReservationID, PlacementGroup: n.PlacementGroup, FaultDomain: n.FaultDomain,
		PhysicalHost: n.PhysicalHost, TopologyTiers: n.TopologyTiers, AcceleratorDomain: n.AcceleratorDomain,
		KubernetesNode: n.KubernetesNode, Cluster: n.Cluster, Rack: n.Rack,
	}
}

// located is the node at its place.
func located(n Node, p Place) Node {
	n.Provider, n.Platform, n.Region, n.ZoneName, n.ZoneID, n.AccountID = p.Provider, p.Platform, p.Region, p.ZoneName, p.ZoneID, p.AccountID
	n.InstanceType, n.InstanceID, n.ImageID, n.LifeCycle = p.InstanceType, p.InstanceID, p.ImageID, p.LifeCycle
	n.CapacityReservationID, n.PlacementGroup, n.FaultDomain = p.CapacityReservationID, p.PlacementGroup, p.FaultDomain
	n.PhysicalHost, n.TopologyTiers, n.AcceleratorDomain = p.PhysicalHost, p.TopologyTiers, p.AcceleratorDomain
	n.KubernetesNode, n.Cluster, n.Rack = p.KubernetesNode, p.Cluster, p.Rack
	n.PlaceSource = placeSource(p)
	return n
}

// placeSource names who told something that is stored. The operating system's name of the host is not.
func placeSource(p Place) string {
	sources := slices.Sorted(maps.Values(p.Sources))
	sources = slices.DeleteFunc(slices.Compact(sources), func(from string) bool { return from == place.FromHost })
	return strings.Join(sources, ",")
}

// follower keeps what is known of the node's place up to date while the agent runs.
type follower struct {
	node     Node // as it was configured
	cfg      PlaceConfig
	interval time.Duration
	spread   *place.Spread // of the times of the probes after the first
	moved    func(Node)
	write    func(event.Event) error
	logger   *slog.Logger

	place   Place
	told    *Node // what moved was called with at the latest
	settled bool  // the service that should know the node has answered in full
}

// followPlace finds out where the node is, which takes at most the cap of a probe, and then goes on looking and
// listening for notices until stop is called.
func (a *Agent) followPlace(ctx context.Context) (stop func()) {
	if !a.cfg.FindPlace {
		return func() {}
	}
	cfg := a.cfg.Place
	cfg.Node, cfg.Known, cfg.Logger = a.cfg.Node.Name, known(a.cfg.Node).Or(cfg.Known), a.cfg.Logger
	f := follower{node: a.cfg.Node, cfg: cfg, interval: a.cfg.PlaceInterval, spread: place.NewSpread(cfg.Node, "place"), moved: a.moved, write: a.journal.Write, logger: a.cfg.Logger}
	f.probe(ctx)
	ctx, cancel := context.WithCancel(ctx)
	var following sync.WaitGroup
	following.Go(func() { f.run(ctx) })
	return func() {
		cancel()
		following.Wait()
	}
}

// run watches for notices of the place that is known, and looks again from time to time.
func (f *follower) run(ctx context.Context) {
	for ctx.Err() == nil {
		watched, cancel := context.WithCancel(ctx)
		var watching sync.WaitGroup
		here := f.place
		watching.Go(func() {
			if err := place.Watch(watched, f.cfg, here, f.report); err != nil {
				f.logger.Info("no notices of interruptions and maintenance", "reason", err)
			}
		})
		f.untilMoved(ctx)
		cancel()
		watching.Wait()
	}
}

// firstRetry is the wait after a probe that was not answered in full: a machine may be up before its network is.
const firstRetry = time.Minute

// untilMoved probes again and again until another provider or instance answers. That happens when a service was
// not there at first.
func (f *follower) untilMoved(ctx context.Context) {
	here, retry := f.place, min(firstRetry, f.interval)
	for {
		var wait time.Duration
		if f.settled {
			wait = f.spread.Regular(f.interval)
		} else {
			wait, retry = f.spread.Retry(retry), min(2*retry, f.interval)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		f.probe(ctx)
		if f.place.Provider != here.Provider || f.place.InstanceName != here.InstanceName {
			return
		}
	}
}

// probe asks, and tells what is new.
func (f *follower) probe(ctx context.Context) {
	found, reasons := place.Probe(ctx, f.cfg)
	if ctx.Err() != nil {
		return // what was not asked to the end says nothing
	}
	found = found.Remember(f.place, reasons)
	f.settled = found.Provider != "" && !slices.ContainsFunc(reasons, func(r PlaceReason) bool { return r.Probe == found.Provider })
	f.place = found
	n := located(f.node, found)
	if f.told != nil && *f.told == n {
		return
	}
	f.told = &n
	f.moved(n)
	var facts []any
	for _, field := range place.Fields() {
		if value := field.Of(found); value != "" {
			facts = append(facts, slog.String(field.Name, value))
		}
	}
	f.logger.Info("where this node is", slog.Group("place", facts...), "source", n.PlaceSource)
	for _, r := range reasons {
		f.logger.Debug("not told where this node is", "by", r.Probe, "reason", r.Text)
	}
}

// report writes a provider's notice as an event.
func (f *follower) report(n place.Notice) {
	f.logger.Warn("notice", "kind", n.Kind, "id", n.ID, "state", n.State, "not_before", n.NotBefore, "description", n.Description, "source", n.Source, "raw", n.Raw)
	err := f.write(event.Event{
		Kind: n.Kind, Source: schema.SourceCloud, NoticeID: n.ID, NotBefore: n.NotBefore,
		Message: fmt.Sprintf("%s (%s: %s)", n.Description, n.Source, n.State),
	})
	if err != nil {
		f.logger.Error("write a notice", "id", n.ID, "error", err)
	}
}
