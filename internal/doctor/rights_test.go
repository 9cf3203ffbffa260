// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent/control"
)

// agentThatSays answers with one status.
type agentThatSays control.Status

func (a agentThatSays) Status() control.Status              { return control.Status(a) }
func (agentThatSays) Release(context.Context, string) error { return nil }
func (agentThatSays) Resume() error                         { return nil }
func (agentThatSays) Burst(context.Context, control.BurstRequest) (control.Burst, error) {
	return control.Burst{}, nil
}

// TestAgentOfTheNode asks a real control socket.
func TestAgentOfTheNode(t *testing.T) {
	for name, tt := range map[string]struct {
		status control.Status
		level  Level
		says   string
	}{
		"well":         {control.Status{Version: "v1", Node: "n", GPUs: 8, BatchesWaiting: 2}, OK, "v1 runs for n: 8 GPUs answer, 2 batches wait"},
		"released":     {control.Status{Released: "driver 590"}, Warn, "released: driver 590"},
		"rejected":     {control.Status{ConfigRejected: "agent.yaml:3: no"}, Warn, "not in force: agent.yaml:3: no"},
		"without disk": {control.Status{SpoolFailing: true}, Warn, "in memory alone"},
	} {
		t.Run(name, func(t *testing.T) {
			root, err := os.MkdirTemp("", "d") //nolint:usetesting // the path of a socket is short
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(root) //nolint:errcheck // at worst an empty folder stays
			m := machine{root: root, system: "linux"}
			ctx, stop := context.WithCancel(t.Context())
			var serving sync.WaitGroup
			defer serving.Wait()
			defer stop()
			serving.Go(func() {
				control.Serve(ctx, control.Config{Path: m.path(control.DefaultPath), Agent: agentThatSays(tt.status), Logger: slog.New(slog.DiscardHandler)})
			})
			got := m.agent(ctx)
			for deadline := time.Now().Add(10 * time.Second); strings.Contains(got.Says, "none listens") && time.Now().Before(deadline); {
				<-time.After(time.Millisecond)
				got = m.agent(ctx)
			}
			if got.Level != tt.level || !strings.Contains(got.Says, tt.says) || (got.Fix == "") != (tt.level == OK) {
				t.Errorf("%+v", got)
			}
		})
	}
}
