// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/agent/control"
	"github.com/gpufleet/gpufleet/internal/batchtrace"
	"github.com/gpufleet/gpufleet/internal/health"
	"github.com/gpufleet/gpufleet/internal/ops"
)

// supervisor runs an agent, and replaces it when the configuration is to be read anew. What serves others
// (/metrics) outlives the agents, and shows the present one. It is used once.
type supervisor struct {
	load   func() (settings, error)
	tracer *batchtrace.Tracer // nil: nothing is traced
	hangup <-chan os.Signal   // nil: the configuration is never read anew

	turn sync.Mutex // one at a time: a release, a resume, a replacement

	mu       sync.Mutex // guards the fields below; taken after turn
	current  *life
	rejected string // why the configuration that was read last is not in force; "" if it is

	started time.Time // the program
	before  *life     // the one that was replaced last; it may still send what it had. Of supervise's goroutine
}

// life is one agent, from its start to its end.
type life struct {
	settings
	runs      *agent.Agent
	telemetry *ops.Telemetry
	metrics   http.Handler
	end       context.CancelFunc // has it stop
	done      chan struct{}      // closed when it has; then err is set
	err       error
	since     time.Time // when the settings were read
}

func (s *supervisor) newLife(of settings) (*life, error) {
	of.agent.Trace = s.tracer
	a, err := agent.New(of.agent)
	if err != nil {
		return nil, err
	}
	telemetry, err := ops.NewTelemetry("gpufleet-agent")
	if err != nil {
		return nil, err
	}
	metrics, err := metricsOf(a, telemetry, of.agent.Exposition)
	if err != nil {
		return nil, err
	}
	return &life{settings: of, runs: a, telemetry: telemetry, metrics: metrics, done: make(chan struct{}), since: time.Now()}, nil
}

// start has the agent run until the context ends.
func (l *life) start(ctx context.Context) {
	ctx, l.end = context.WithCancel(ctx)
	go func() {
		defer close(l.done)
		err := l.runs.Run(ctx)
		l.err = errors.Join(err, l.telemetry.Close(context.WithoutCancel(ctx)))
	}()
}

// stop ends the agent, and waits for it.
func (l *life) stop() error {
	if l == nil {
		return nil
	}
	l.end()
	<-l.done
	return l.err
}

// run runs agents until the context ends, or one ends by itself.
func (s *supervisor) run(ctx context.Context, first settings) error {
	traces, err := ops.NewTraces(ctx, ops.TraceConfig{Service: "gpufleet-agent", Endpoint: first.traces, Getenv: os.Getenv, IDs: batchtrace.IDs{}, Log: first.agent.Logger})
	if err != nil {
		return err
	}
	s.tracer = batchtrace.New(traces.Provider(), first.every)
	return errors.Join(s.serve(ctx, first), traces.Close(context.WithoutCancel(ctx)))
}

// serve is run with somewhere to send traces.
func (s *supervisor) serve(ctx context.Context, first settings) error {
	l, err := s.newLife(first)
	if err != nil {
		return err
	}
	s.started = time.Now()
	s.set(l)
	first.limitMemory()
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	controlled, stopControl := context.WithCancel(ctx) // an agent that stops does nothing else any more
	defer stopControl()
	var group errgroup.Group
	group.Go(func() error {
		defer stopServing()
		defer stopControl()
		return s.supervise(ctx, l)
	})
	if first.ops.addr != "" {
		group.Go(func() error {
			return ops.Serve(serving, ops.ServerConfig{Addr: first.ops.addr, TLS: first.ops.tls, Service: "gpufleet-agent", Metrics: s, Alive: s.alive, Ready: s.ready, Log: first.agent.Logger})
		})
	}
	if first.control != "" {
		group.Go(func() error {
			control.Serve(controlled, control.Config{Path: first.control, Agent: s, Logger: first.agent.Logger})
			return nil
		})
	}
	return group.Wait()
}

// supervise returns when the agent has ended that was the last.
func (s *supervisor) supervise(ctx context.Context, current *life) error {
	current.start(ctx)
	for {
		select {
		case <-current.done:
			return errors.Join(current.stop(), s.before.stop())
		case <-s.hangup:
			var err error
			if current, err = s.reload(ctx, current); err != nil {
				return errors.Join(err, s.before.stop())
			}
		}
	}
}

// reload reads the configuration anew, and replaces the agent if all of it is right. It returns the agent that
// runs then; an error means that none does.
func (s *supervisor) reload(ctx context.Context, current *life) (*life, error) {
	s.turn.Lock()
	defer s.turn.Unlock()
	wanted, mistake := s.next(current)
	if mistake != nil {
		s.reject(current, mistake)
		return current, nil
	}
	if err := s.before.stop(); err != nil {
		current.agent.Logger.Error("batches of an earlier configuration are given up", "error", err)
	}
	s.before = nil
	current.runs.Retire()
	if current.runs.Spools() {
		<-current.done // the spool has one agent at a time
		if current.err != nil {
			current.agent.Logger.Error("the agent before ended badly", "error", current.err)
		}
	} else {
		s.before = current
	}
	select {
	case <-ctx.Done(): // it was to end, too
		return current, nil
	default:
		return s.replace(ctx, current, wanted)
	}
}

// replace starts the successor; if it cannot be made after all, another agent of the configuration before.
func (s *supervisor) replace(ctx context.Context, current *life, wanted settings) (*life, error) {
	before := current.settings
	released, _ := current.runs.Released() // a new configuration is no reason to take up the driver
	wanted.agent.Released, before.agent.Released = released, released
	next, err := s.newLife(wanted)
	if err != nil {
		again, failed := s.newLife(before)
		if failed != nil {
			return nil, errors.Join(err, failed)
		}
		again.since, next, wanted = current.since, again, before
	}
	s.set(next)
	if err != nil {
		s.reject(next, err)
	} else {
		said := changes(current.flags, next.flags)
		next.tell("config_reloaded", said)
		next.agent.Logger.Info("the configuration was read anew", "changes", said)
	}
	wanted.limitMemory()
	next.start(ctx)
	return next, nil
}

// reject tells that a configuration is not taken.
func (s *supervisor) reject(in *life, err error) {
	s.mu.Lock()
	s.rejected = cut(err.Error())
	s.mu.Unlock()
	in.agent.Logger.Error("the configuration is not taken, the one before stays in force", "error", err)
	in.tell("config_rejected", err.Error())
}

// next is what the configuration asks for now.
func (s *supervisor) next(current *life) (settings, error) {
	wanted, err := s.load()
	if err != nil {
		return settings{}, err
	}
	for _, name := range fixed {
		if is, was := valueOf(wanted.flags, name), valueOf(current.flags, name); is != was {
			return settings{}, fmt.Errorf("%s was %q and is %q: that takes a restart", name, was, is)
		}
	}
	if err := wanted.agent.Validate(); err != nil {
		return settings{}, fmt.Errorf("agent configuration: %w", err)
	}
	return wanted, nil
}

// fixed are flags of what outlives an agent.
var fixed = []string{"control", "ops-listen", "ops-tls-cert", "ops-tls-key", "otlp-traces", "trace-every"}

func valueOf(flags *pflag.FlagSet, name string) string {
	if f := flags.Lookup(name); f != nil {
		return f.Value.String()
	}
	return ""
}

// changes names the flags whose values differ. Values themselves are not told: events go to everybody.
func changes(before, now *pflag.FlagSet) string {
	var names []string
	now.VisitAll(func(f *pflag.Flag) {
		if valueOf(before, f.Name) != f.Value.String() {
			names = append(names, f.Name)
		}
	})
	if len(names) == 0 {
		return "no flag changed; token, certificates and overrides were read anew"
	}
	slices.Sort(names)
	return "changed: " + strings.Join(names, ", ")
}

// longestMessage bounds what an event says, in bytes.
const longestMessage = 2000

// tell writes an event; if that fails, the agent will end with the same error.
func (l *life) tell(kind, message string) {
	if err := l.runs.Tell(kind, cut(message)); err != nil {
		l.agent.Logger.Error("write event", "kind", kind, "error", err)
	}
}

func cut(message string) string {
	if len(message) <= longestMessage {
		return message
	}
	return strings.ToValidUTF8(message[:longestMessage], "") + " …"
}

func (s *supervisor) set(l *life) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current, s.rejected = l, ""
}

func (s *supervisor) present() *life {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// alive is what a liveness probe is told.
func (s *supervisor) alive(context.Context) []health.Check { return s.present().runs.Alive(time.Now()) }

// ready is what a readiness probe is told: of the present agent, and that it does not run as the file says.
func (s *supervisor) ready(context.Context) []health.Check {
	s.mu.Lock()
	l, rejected := s.current, s.rejected
	s.mu.Unlock()
	if rejected != "" {
		rejected = "what was read last is not in force: " + rejected
	}
	return append(l.runs.Ready(), health.Warn("configuration", rejected))
}

// ServeHTTP answers a scrape with what the present agent shows.
func (s *supervisor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.present().metrics.ServeHTTP(w, r)
}
