// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent/control"
)

func TestStatusInWords(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	since := now.Add(-90 * time.Second)
	s := control.Status{
		Node: "node-1", Version: "v1", ProcessID: 7, Started: now.Add(-time.Hour), Collector: "c:1", GPUs: 8, Ticks: 3600, MissedTicks: 1,
		DriverCalls: 28_800, BatchesStored: 720, BatchesWaiting: 2, BytesWaiting: 9000, OldestWaiting: 61, SpoolBytes: 4096, BatchesRejected: 3, BatchesDropped: 4,
	}
	const running = `node       node-1
agent      v1, process 7, started 1h0m0s ago
GPUs       8 answer
ticks      3600, 1 missed; 28800 driver calls
collector  c:1
batches    720 stored, 2 waiting (9000 bytes, the oldest for 1m1s), 3 rejected, 4 dropped
spool      4096 bytes
`
	const released = `node           node-1
agent          v1, process 7, started 1h0m0s ago
GPUs           released 1m30s ago: driver 590
ticks          3600, 1 missed; 28800 driver calls
collector      c:1
batches        720 stored, 2 waiting (9000 bytes, the oldest for 1m1s), 3 rejected, 4 dropped
spool          cannot be written: batches are in memory alone
configuration  agent.yaml, read 1m30s ago
               what was read since is not in force: agent.yaml:3: no
`
	wantStatus(t, s, now, running)
	troubled := s
	troubled.GPUs, troubled.DriverMissing, troubled.CollectorAway = 0, "cannot be opened: no library", "it does not answer"
	wantStatus(t, troubled, now, strings.NewReplacer("8 answer", "none: the driver cannot be opened: no library", "c:1\n", "c:1\n           was tried in vain: it does not answer\n").Replace(running))
	s.Released, s.ReleasedSince, s.Config, s.Configured, s.ConfigRejected = "driver 590", &since, "agent.yaml", since, "agent.yaml:3: no"
	s.SpoolFailing = true
	wantStatus(t, s, now, released)
}

func wantStatus(t *testing.T, s control.Status, now time.Time, want string) {
	t.Helper()
	var out bytes.Buffer
	if err := writeStatus(&out, s, now); err != nil {
		t.Fatal(err)
	}
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &out, want)
	}
}
