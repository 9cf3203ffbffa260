// SPDX-License-Identifier: Apache-2.0

package place

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode"
)

// Kinds of notices, as they are called in gpu_events.
const (
	Interruption         = "interruption_notice" // the node will be taken away
	Rebalance            = "rebalance_notice"    // it is more likely than before to be taken away
	MaintenanceScheduled = "maintenance_scheduled"
	MaintenanceStarted   = "maintenance_started"
	MaintenanceEnded     = "maintenance_ended" // done, called off, or no longer listed
)

// Notice is what a provider says of a node's near future.
type Notice struct {
	Kind        string
	ID          string    // the same for all that is said of one thing
	State       string    // in the provider's words
	NotBefore   time.Time // zero: not said
	Description string
	Source      string // who was asked for what
	Raw         string // the provider's own text, cut short
}

// maxNotices is how many notices about one node are believed.
const maxNotices = 64

// noticeSource is one thing that is asked again and again.
type noticeSource struct {
	name  string
	every time.Duration
	ask   func(context.Context) ([]Notice, error) // none: nil
}

// maxBackOff is the longest wait for a service that does not answer.
const maxBackOff = time.Minute

// Watch asks p's provider for notices until the context ends, and reports each when it is new, and when its
// state or time changes. Reports are not made at the same time. It returns at once, with an error, if this
// provider tells its nodes nothing.
func Watch(ctx context.Context, cfg Config, p Place, report func(Notice)) error {
	w := watch{cfg: cfg.withDefaults(), report: report}
	sources, done := w.sources(p)
	defer done()
	if len(sources) == 0 {
		return fmt.Errorf("watch for notices: the provider %q gives its nodes none that this version can read", p.Provider)
	}
	var watching sync.WaitGroup
	for _, s := range sources {
		watching.Go(func() { w.loop(ctx, s) })
	}
	watching.Wait()
	return nil
}

// watch is what the loops of one Watch share.
type watch struct {
	cfg    Config
	mu     sync.Mutex // one report at a time
	report func(Notice)
}

// sources are what there is to ask, and what to do when it is no longer asked.
func (w *watch) sources(p Place) (sources []noticeSource, done func()) {
	dial := w.cfg.dial
	if dial == nil {
		dial = dialNearby
	}
	for _, probe := range metadataProbes() {
		if probe.provider != p.Provider {
			continue
		}
		s := probe.service(w.cfg, dial)
		switch p.Provider {
		case AWS:
			sources = awsNotices(&awsService{service: s})
		case Azure:
			sources = azureNotices(s, p.InstanceName)
		case GCP:
			sources = gcpNotices(s)
		case Nebius:
			sources = kubernetesNotices(w.cfg.Kubernetes)
		}
		for i := range sources {
			sources[i].every = max(sources[i].every, w.cfg.Poll)
		}
		return sources, s.client.CloseIdleConnections
	}
	return nil, func() {}
}

// loop asks one source. A question has the time of a probe, so that a service that hangs holds up nothing but
// itself.
func (w *watch) loop(ctx context.Context, s noticeSource) {
	var seen tracker
	failures := 0
	next := time.NewTimer(NewSpread(w.cfg.Node, s.name).Regular(s.every))
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		current, err := w.ask(ctx, s)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if failures == 0 {
				w.cfg.Logger.Warn("ask for notices", "source", s.name, "error", err)
			}
			failures++
		default:
			if failures > 0 {
				w.cfg.Logger.Info("notices are answered again", "source", s.name, "after_failures", failures)
			}
			failures = 0
			w.tell(seen.changes(current))
		}
		next.Reset(backOff(s.every, failures))
	}
}

func (w *watch) ask(ctx context.Context, s noticeSource) ([]Notice, error) {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Cap)
	defer cancel()
	notices, err := s.ask(ctx)
	if len(notices) > maxNotices {
		return nil, fmt.Errorf("%s: %d notices, more than %d about one node", s.name, len(notices), maxNotices)
	}
	for i := range notices {
		n := &notices[i]
		n.Source = s.name
		n.ID, n.State, n.Description, n.Raw = oneLine(n.ID), oneLine(n.State), oneLine(n.Description), oneLine(n.Raw)
	}
	return notices, err
}

func (w *watch) tell(changed []Notice) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range changed {
		w.report(n)
	}
}

// backOff doubles the wait with each failure.
func backOff(every time.Duration, failures int) time.Duration {
	return max(every, min(every<<min(failures, 10), maxBackOff))
}

// oneLine makes any text one line of printable text of bounded length.
func oneLine(s string) string {
	clean := strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s[:min(len(s), 2*maxValueBytes)], ""))
	return strings.Join(strings.Fields(clean), " ")
}
