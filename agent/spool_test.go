// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/schema"
)

// TestASpoolHasOneAgent: that of its node, and one at a time. Anything else is a mistake of a person, who is told.
func TestASpoolHasOneAgent(t *testing.T) {
	none := &counted{rows: map[uint8]uint32{}, bytes: map[uint8]int64{}}
	dir := filepath.Join(t.TempDir(), "spool")
	cfg := outageConfig(t, dir, "127.0.0.1:1", none)
	cfg.DrainWait = 10 * time.Millisecond
	first, err := agent.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := agent.New(cfg); err == nil || !strings.Contains(err.Error(), "in use by another process") || !strings.Contains(err.Error(), dir) {
		t.Errorf("a second agent: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := first.Run(ended); err != nil {
		t.Errorf("ended with %v, and what is left is safe", err)
	}
	other := cfg
	other.Node.Name = "node-2"
	if _, err := agent.New(other); err == nil || !strings.Contains(err.Error(), "belongs to another node") || !strings.Contains(err.Error(), "node-1") {
		t.Errorf("an agent of another node: %v", err)
	}
	cfg.SpoolBytes = 1 << 20
	if _, err := agent.New(cfg); err == nil || !strings.Contains(err.Error(), "spool of 1048576 bytes") {
		t.Errorf("a spool of 1 MiB: %v", err)
	}
	cfg.SpoolBytes, cfg.Collector = agent.DefaultConfig().SpoolBytes, ""
	for range 2 { // nobody would empty it, so nobody takes it
		if a, err := agent.New(cfg); err != nil || a.Spools() {
			t.Errorf("without a collector: %v", err)
		}
	}
}

// TestASpoolThatCannotBeWritten is told in an event, and so is its end. What is left then is not safe at a stop.
func TestASpoolThatCannotBeWritten(t *testing.T) {
	for name, repaired := range map[string]bool{"for a while": true, "to the end": false} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "spool")
			if err := os.WriteFile(dir, []byte("no folder"), 0o600); err != nil {
				t.Fatal(err)
			}
			recorded := newTape(t, "node-1")
			synctest.Test(t, func(t *testing.T) {
				cfg := outageConfig(t, dir, "127.0.0.1:1", nil)
				cfg.Tee, cfg.DrainWait = recorded.tee, 10*time.Millisecond
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
				defer cancel()
				done := make(chan error, 1)
				go func() { done <- agent.Run(ctx, cfg) }()
				<-time.After(10 * time.Second)
				if repaired {
					if err := os.Remove(dir); err != nil {
						t.Fatal(err)
					}
				}
				if err := <-done; (err == nil) != repaired {
					t.Errorf("ended with %v", err)
				}
			})
			events, _ := texts(recorded.load(), schema.EventsID)
			said := strings.Join(events, "\n")
			if strings.Count(said, "spool_unavailable") != 1 || strings.Contains(said, "spool_recovered") != repaired {
				t.Errorf("events:\n%s", said)
			}
			if files, _ := filepath.Glob(filepath.Join(dir, "*.gfs")); (len(files) > 0) != repaired {
				t.Errorf("files %v", files)
			}
		})
	}
}
