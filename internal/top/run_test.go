// SPDX-License-Identifier: Apache-2.0

package top

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/internal/terminal"
)

// picture is a Screen.
type picture struct {
	keys  chan byte
	drawn chan []string
}

func (p *picture) Draw(lines []string, _ terminal.Size) { p.drawn <- lines }
func (p *picture) Keys() <-chan byte                    { return p.keys }

// until waits for a picture that shows something.
func (p *picture) until(t *testing.T, what string) []string {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case lines := <-p.drawn:
			if strings.Contains(strings.Join(lines, "\n"), what) {
				return lines
			}
		case <-deadline:
			t.Fatalf("%q is not shown", what)
		}
	}
}

// metricsServer shows the metrics of a collector.
func metricsServer(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(metricsText(300, 1)))
	}))
	t.Cleanup(server.Close)
	return server.URL + "/metrics"
}

func TestRunShowsUntilAKey(t *testing.T) {
	for name, key := range map[string]byte{"q": 'q', "Ctrl-C": 3, "no terminal any more": 0} {
		var height atomic.Int64
		height.Store(40)
		p := &picture{keys: make(chan byte), drawn: make(chan []string)}
		cfg := Config{Metrics: []string{metricsServer(t), "http://127.0.0.1:1/metrics"}, Interval: 100 * time.Millisecond, AnswerWait: 10 * time.Second}
		done := make(chan error, 1)
		go func() { done <- Run(t.Context(), cfg, p, func() (int, int) { return 80, int(height.Load()) }) }()
		p.until(t, "127.0.0.1:1 is not reached: ")
		p.until(t, "75.5 s")
		height.Store(5)
		if lines := p.until(t, "lines more; q ends"); len(lines) != 5 {
			t.Errorf("%s: %d lines on a terminal of 5", name, len(lines))
		}
		if key == 0 {
			close(p.keys)
		}
		for ended := false; !ended; {
			keys := p.keys
			if key == 0 {
				keys = nil
			}
			select {
			case keys <- key:
			case <-p.drawn:
			case err := <-done:
				if ended = true; err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p := &picture{keys: make(chan byte), drawn: make(chan []string, 100)}
	cancel()
	if err := Run(ctx, Config{Metrics: []string{metricsServer(t)}, Interval: time.Second, AnswerWait: time.Second}, p, func() (int, int) { return 80, 24 }); err != nil {
		t.Error(err)
	}
}

// TestHostileAnswers: whatever answers at the address, it is a line.
func TestHostileAnswers(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for want, answer := range map[string]func(http.ResponseWriter){
		"it answers 403 Forbidden":              func(w http.ResponseWriter) { w.WriteHeader(http.StatusForbidden) },
		"these are no metrics of a collector":   func(w http.ResponseWriter) { _, _ = w.Write([]byte("# TYPE other gauge\nother 1\n")) },
		"read its metrics: text format parsing": func(w http.ResponseWriter) { _, _ = w.Write([]byte("<html>\n")) },
		"no answer in time":                     nil,
	} {
		address := "http://" + silent.Addr().String() + "/metrics"
		if answer != nil {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w) }))
			defer server.Close()
			address = server.URL
		}
		w, err := New(Config{Metrics: []string{address}, Interval: time.Second, AnswerWait: 300 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		s := w.Look(t.Context())
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		if s.Answered() || len(s.Wrong) != 1 || !strings.Contains(s.Wrong[0], want) {
			t.Errorf("%q, want %q", s.Wrong, want)
		}
	}
}

func TestConfigThatCannotBeHonouredIsRefused(t *testing.T) {
	good := Config{Metrics: []string{"http://h/metrics"}, Interval: time.Second, AnswerWait: time.Second}
	for name, change := range map[string]func(*Config){
		"nothing to look at": func(c *Config) { c.Metrics = nil },
		"no interval":        func(c *Config) { c.Interval = 0 },
		"no wait":            func(c *Config) { c.AnswerWait = 0 },
	} {
		c := good
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
}

func FuzzMetrics(f *testing.F) {
	f.Add(metricsText(300, 1))
	f.Add("# TYPE gpufleet_collector_nodes gauge\ngpufleet_collector_nodes NaN\n")
	f.Add("gpufleet_collector_streams{table=\"\xff\"} +Inf\n")
	f.Fuzz(func(t *testing.T, text string) {
		families, err := parse(strings.NewReader(text))
		if err != nil {
			return
		}
		r := reading{at: time.Unix(2, 0), families: families}
		s := Snapshot{Collectors: []Collector{collectorOf("c", r, reading{at: time.Unix(1, 0), families: families})}}
		s.Wrong = s.wrong()
		var out strings.Builder
		if err := s.WriteJSON(&out); err != nil {
			t.Errorf("%v of %q", err, text)
		}
		s.text(80)
	})
}
