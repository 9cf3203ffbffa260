// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/internal/up"
)

// TestUpWithSeveralCollectors kills one of them: its agents go on with the others.
func TestUpWithSeveralCollectors(t *testing.T) {
	programs := buildPrograms(t, "gpufleet", "gpufleet-collector")
	db := clickhousetest.Start(t)
	cmd := exec.CommandContext(t.Context(), filepath.Join(programs, "gpufleet"), "up", "--json", "--nodes", "9", "--collectors", "3", "--flush", "500ms",
		"--for", "8s", "--kill-collector-at", "3s", "--data", t.TempDir(), "--clickhouse", "http://"+db.Writer.User+"@"+db.Writer.HTTPAddress()+"/"+db.Name)
	cmd.Env = append(os.Environ(), "GPUFLEET_CLICKHOUSE_PASSWORD="+db.Writer.Password)
	cmd.Stderr = os.Stderr
	line, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	var r up.Result
	if err := json.Unmarshal(line, &r); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	if r.Rows == 0 || r.SentRows == nil || *r.SentRows != r.Rows || r.LostRows != 0 || r.DuplicatedRows != 0 || r.CollectorRestarts != 1 {
		t.Errorf("%s", line)
	}
	if n := clickhousetest.Query(t, db.Writer, "SELECT uniqExact(collector) FROM ingest_ledger"); n != "3" {
		t.Errorf("%s collectors have stored something", n)
	}
	if n := clickhousetest.Query(t, db.Writer, "SELECT count() > 0 FROM fleet_tokens WHERE engine = 'vllm' AND deployment IS NOT NULL AND gpu_count > 0 AND reason IS NULL"); n != "1" {
		t.Error("no simulated server counts tokens")
	}
	if n := clickhousetest.Query(t, db.Writer, "SELECT groupArray(name) FROM (SELECT concat(collector, ' ', toString(sum(ended))) AS name FROM collectors FINAL GROUP BY collector ORDER BY collector)"); n != "['up 1','up-2 1','up-3 1']" {
		t.Errorf("the collectors that have ended in order: %s", n)
	}
}

// TestUpWithShards kills one of them. What is in the directory afterwards is audited as it was left.
func TestUpWithShards(t *testing.T) {
	gpufleet, data := filepath.Join(buildPrograms(t, "gpufleet", "gpufleet-collector"), "gpufleet"), t.TempDir()
	run := func(want int, args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), gpufleet, append(args, "--data", data)...)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != want {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
		return out
	}
	up2 := []string{"up", "--json", "--nodes", "9", "--flush", "500ms", "--for", "8s"}
	line := run(0, append(up2, "--shards", "2", "--collectors", "2", "--kill-clickhouse-at", "3s")...)
	var r up.Result
	if err := json.Unmarshal(line, &r); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	if r.Rows == 0 || r.SentRows == nil || *r.SentRows != r.Rows || r.LostRows != 0 || r.DuplicatedRows != 0 || r.ClickHouseRestarts != 1 {
		t.Errorf("%s", line)
	}
	if got := string(run(0, "query", "--format", "TSV", "SELECT uniqExact(_shard_num), uniqExact(node_id) FROM gpu_samples")); got != "2\t9\n" {
		t.Errorf("shards and nodes with rows: %q", got)
	}
	if got := run(0, "audit", "--all", "--since", "1h"); !bytes.Contains(got, []byte("9 agents")) {
		t.Errorf("%s", got)
	}
	run(0, "audit", "--by", "node", "--since", "2h", "--json")
	if err := exec.CommandContext(t.Context(), gpufleet, append(up2, "--shards", "3", "--data", data)...).Run(); err == nil {
		t.Error("a directory of two shards was run with three")
	}
}
