// SPDX-License-Identifier: Apache-2.0

package e2e

import (
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
	if n := clickhousetest.Query(t, db.Writer, "SELECT groupArray(name) FROM (SELECT concat(collector, ' ', toString(sum(ended))) AS name FROM collectors FINAL GROUP BY collector ORDER BY collector)"); n != "['up 1','up-2 1','up-3 1']" {
		t.Errorf("the collectors that have ended in order: %s", n)
	}
}
