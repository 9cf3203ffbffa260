// SPDX-License-Identifier: Apache-2.0

// Package top looks at a running pipeline from outside and shows it: what is wrong first, then collectors, tables and what
// is refused for which reason. It reads the metrics of the collectors and asks ClickHouse, both at the same time and
// each with a bound; what does not answer is said in a line, and the rest is shown. All goroutines end with the call that began them.
package top

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/gpufleet/gpufleet/internal/clickhouseclient"
	"github.com/gpufleet/gpufleet/internal/terminal"
)

// Config says what is looked at.
type Config struct {
	Metrics    []string                                                    // addresses of the collectors' metrics: http://host:4491/metrics
	TLS        *tls.Config                                                 // for https; nil: the system's authorities
	Connect    func(context.Context) (*clickhouseclient.Connection, error) // opens ClickHouse; nil: it is not asked
	Interval   time.Duration                                               // between two snapshots
	AnswerWait time.Duration                                               // for each that is asked
}

// Defaults of a Config.
const (
	DefaultInterval   = 2 * time.Second
	DefaultAnswerWait = 5 * time.Second
)

// Validate tells what cannot be honoured.
func (c Config) Validate() error {
	switch {
	case len(c.Metrics) == 0 && c.Connect == nil:
		return errors.New("there is nothing to look at: name the metrics of a collector, or a ClickHouse")
	case c.Interval < 100*time.Millisecond || c.Interval > time.Hour:
		return fmt.Errorf("an interval of %s: 100ms to 1h", c.Interval)
	case c.AnswerWait <= 0:
		return errors.New("no time to wait for answers")
	default:
		return nil
	}
}

// Watcher looks again and again. It belongs to one goroutine.
type Watcher struct {
	cfg    Config
	client *http.Client
	before []reading // of each collector
	conn   *clickhouseclient.Connection
}

// New makes a watcher, which has to be closed.
func New(cfg Config) (*Watcher, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: cfg.TLS, IdleConnTimeout: time.Minute}
	return &Watcher{cfg: cfg, client: &http.Client{Transport: transport}, before: make([]reading, len(cfg.Metrics))}, nil
}

// Close lets go of ClickHouse.
func (w *Watcher) Close() error {
	w.client.CloseIdleConnections()
	if w.conn == nil {
		return nil
	}
	return w.conn.Close()
}

// Look makes a snapshot. Its rates are over the time since the one before; the first has none.
func (w *Watcher) Look(ctx context.Context) Snapshot {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.AnswerWait)
	defer cancel()
	s := Snapshot{At: time.Now(), Collectors: make([]Collector, len(w.cfg.Metrics))}
	var asking sync.WaitGroup
	for i, address := range w.cfg.Metrics {
		asking.Go(func() {
			now, err := read(ctx, w.client, address)
			if err != nil {
				s.Collectors[i] = Collector{Address: name(address), Error: err.Error()}
				return
			}
			s.Collectors[i] = collectorOf(name(address), now, w.before[i])
			w.before[i] = now
		})
	}
	asking.Go(func() { w.askStore(ctx, &s) })
	asking.Wait()
	s.Wrong = s.wrong()
	return s
}

// askStore connects if it has not yet, or if the last answer was none: a ClickHouse of gpufleet up has another port after a start.
func (w *Watcher) askStore(ctx context.Context, s *Snapshot) {
	if w.cfg.Connect == nil {
		return
	}
	if w.conn == nil {
		conn, err := w.cfg.Connect(ctx)
		if err != nil {
			s.StoreError = err.Error()
			return
		}
		w.conn = conn
	}
	store, err := ask(ctx, w.conn)
	if err != nil {
		s.StoreError = errors.Join(err, w.conn.Close()).Error()
		w.conn = nil
		return
	}
	s.Store = &store
}

// Answered tells that anything answered.
func (s *Snapshot) Answered() bool {
	for _, c := range s.Collectors {
		if c.Error == "" {
			return true
		}
	}
	return s.Store != nil
}

// WriteJSON writes the snapshot as a line.
func (s *Snapshot) WriteJSON(w io.Writer) error {
	if err := json.NewEncoder(w).Encode(s); err != nil {
		return fmt.Errorf("write the snapshot: %w", err)
	}
	return nil
}

// plainWidth is for what is no terminal.
const plainWidth = 100

// WriteText writes the snapshot as plain text.
func (s *Snapshot) WriteText(w io.Writer) error {
	for _, line := range s.text(plainWidth) {
		if _, err := fmt.Fprintln(w, line); err != nil {
			return fmt.Errorf("write the snapshot: %w", err)
		}
	}
	return nil
}

// onceWait is the time over which the rates of a single snapshot are.
const onceWait = 2 * time.Second

// Once makes a snapshot with rates.
func Once(ctx context.Context, cfg Config) (s Snapshot, err error) {
	w, err := New(cfg)
	if err != nil {
		return Snapshot{}, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	w.Look(ctx)
	select {
	case <-ctx.Done():
		return Snapshot{}, ctx.Err()
	case <-time.After(onceWait):
	}
	return w.Look(ctx), nil
}

// Screen is where the pipeline is shown.
type Screen interface {
	Draw(lines []string, size terminal.Size)
	Keys() <-chan byte
}

// resizeLook is how soon a terminal that has another size is drawn anew.
const resizeLook = 200 * time.Millisecond

// Run shows the pipeline until a key ends it, or the context.
func Run(ctx context.Context, cfg Config, screen Screen, size terminal.Size) (err error) {
	w, err := New(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	snapshots := make(chan Snapshot)
	var looking sync.WaitGroup
	looking.Go(func() { w.lookOn(ctx, snapshots) })
	defer func() {
		cancel()
		looking.Wait()
		err = errors.Join(err, w.Close())
	}()
	resize := time.NewTicker(resizeLook)
	defer resize.Stop()
	lines := func(int) []string { return []string{"looking"} }
	drawnWidth, drawnHeight := 0, 0
	for {
		width, height := size()
		fresh := width != drawnWidth || height != drawnHeight
		select {
		case <-ctx.Done():
			return nil
		case key, more := <-screen.Keys():
			if !more || ends(key) {
				return nil
			}
		case s := <-snapshots:
			lines, fresh = s.text, true
		case <-resize.C:
		}
		if fresh {
			drawnWidth, drawnHeight = size()
			screen.Draw(fit(lines(drawnWidth), drawnHeight), size)
		}
	}
}

// ends tells that a key ends the program: q, or Ctrl-C or Ctrl-D, which are no signals there.
func ends(key byte) bool { return key == 'q' || key == 'Q' || key == 3 || key == 4 }

// fit leaves out what a terminal has no room for, and says how to leave.
func fit(lines []string, height int) []string {
	const keys = "q ends"
	if len(lines) < height {
		return append(lines, keys)
	}
	if height < 2 {
		return lines
	}
	return append(lines[:height-1:height-1], fmt.Sprintf("… %d lines more; %s", len(lines)-height+1, keys))
}

// lookOn looks each interval.
func (w *Watcher) lookOn(ctx context.Context, snapshots chan<- Snapshot) {
	ticker := time.NewTicker(w.cfg.Interval)
	defer ticker.Stop()
	for {
		s := w.Look(ctx)
		select {
		case <-ctx.Done():
			return
		case snapshots <- s:
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
