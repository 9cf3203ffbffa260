// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/collector/quarantine"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// quarantined keeps a batch for each reason in the quarantine of a `gpufleet up`.
func quarantined(t *testing.T, reasons ...string) (dataDir string, paths []string) {
	t.Helper()
	dataDir = t.TempDir()
	kept, err := quarantine.Open(filepath.Join(dataDir, "collector", "quarantine"), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for i, reason := range reasons {
		path, err := kept.Put(quarantine.Entry{
			Table: "gpu_events", NodeName: "anna", Node: wire.NodeID("anna"), Epoch: 1, Sequence: uint64(i + 1), Rows: 3, Reason: reason,
			ReceivedAt: time.Now().Add(-time.Duration(i) * 24 * time.Hour), Collector: "c1",
		}, quarantine.Data{Metadata: []byte("no batch")})
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return dataDir, paths
}

func TestQuarantineList(t *testing.T) {
	data, paths := quarantined(t, "row 7: too old", "too far ahead")
	if err := os.WriteFile(filepath.Join(filepath.Dir(paths[0]), "torn.gfq"), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	all := gpufleet(t, "", "quarantine", "list", "--data", data)
	all.want(t, 0, "3 batches in quarantine, ", "")
	all.want(t, 0, "anna                  3 rows: row 7: too old\n  "+paths[0], "")
	all.want(t, 0, "torn.gfq: not a quarantined batch\n", "")
	if strings.Index(all.stdout, "too far ahead") > strings.Index(all.stdout, "too old") {
		t.Errorf("the oldest is not the first:\n%s", all.stdout)
	}
	gpufleet(t, "", "quarantine", "list", "--data", data, "--reason", "TOO OLD").want(t, 0, "1 batch in quarantine, ", "")
	gpufleet(t, "", "quarantine", "list", "--data", data, "--node", "berta").want(t, 0, "0 batches in quarantine, 0 bytes\n", "")
	gpufleet(t, "", "quarantine", "list", "--data", t.TempDir()).want(t, exitFailed, "", "no quarantine in ")
	gpufleet(t, "", "quarantine", "list", filepath.Join(data, "none")).want(t, exitFailed, "", "no such file")
	var line struct {
		File, Reason, Node string
		Rows, Seq          int
	}
	text := gpufleet(t, "", "quarantine", "list", "--json", paths[0]).stdout
	if err := json.Unmarshal([]byte(text), &line); err != nil || line.File != paths[0] || line.Node != "anna" || line.Rows != 3 || line.Seq != 1 || line.Reason != "row 7: too old" {
		t.Errorf("%v: %s", err, text)
	}
}

func TestQuarantineShow(t *testing.T) {
	data, _ := quarantined(t, "row 7: too old")
	shown := gpufleet(t, "", "quarantine", "show", "--data", data)
	for _, want := range []string{"reason      row 7: too old\n", "node        anna (", "batch       1 of gpu_events, of the agent's life from 1970-01-01T00:00:00Z (1)\n", "bad         batch identity", "collector   c1\n", "holds       3 rows, 8 bytes\n"} {
		shown.want(t, 0, want, "")
	}
	gpufleet(t, "", "quarantine", "show", "--data", data, "--table", "gpu_health").want(t, 0, "no batch in quarantine is meant\n", "")
}

func TestQuarantinePurge(t *testing.T) {
	data, paths := quarantined(t, "too old", "too far ahead", "too old, too")
	there := func() (n int) {
		for _, path := range paths {
			if _, err := os.Stat(path); err == nil {
				n++
			}
		}
		return n
	}
	for _, args := range [][]string{{}, {"--all", "--node", "anna"}} {
		gpufleet(t, "", append([]string{"quarantine", "purge", "--data", data}, args...)...).want(t, exitFailed, "", "say what is deleted")
	}
	gpufleet(t, "", "quarantine", "purge", "--data", data, "--all", "--dry-run").want(t, 0, "3 batches would be deleted, ", "")
	if n := there(); n != 3 {
		t.Fatalf("%d are left", n)
	}
	gpufleet(t, "", "quarantine", "purge", "--data", data, "--reason", "too old", "--older-than", "36h").want(t, 0, "deleted  "+paths[2]+": too old, too\n1 batch deleted, ", "")
	if n := there(); n != 2 {
		t.Errorf("%d are left", n)
	}
	other := filepath.Join(t.TempDir(), "report.txt")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	gpufleet(t, "", "quarantine", "purge", "--all", other).want(t, exitFailed, "0 batches deleted", "quarantined batches end with .gfq")
	if _, err := os.Stat(other); err != nil {
		t.Error(err)
	}
	gpufleet(t, "", "quarantine", "purge", "--data", data, "--all").want(t, 0, "2 batches deleted, ", "")
}
