// SPDX-License-Identifier: Apache-2.0

package top

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// metricsText is what a collector shows after so many rows.
func metricsText(rows, retried int) string {
	return fmt.Sprintf(`
# TYPE gpufleet_collector_nodes gauge
gpufleet_collector_nodes 3
# TYPE gpufleet_collector_streams gauge
gpufleet_collector_streams{table="gpu_samples"} 3
gpufleet_collector_streams{table="prices"} 0
# TYPE gpufleet_collector_received_rows_total counter
gpufleet_collector_received_rows_total{table="gpu_samples"} %[1]d
# TYPE gpufleet_collector_received_bytes_total counter
gpufleet_collector_received_bytes_total{table="gpu_samples"} %[1]d000
# TYPE gpufleet_collector_stored_rows_total counter
gpufleet_collector_stored_rows_total{table="gpu_samples"} %[1]d
# TYPE gpufleet_collector_oldest_age_seconds gauge
gpufleet_collector_oldest_age_seconds 75.5
# TYPE gpufleet_collector_clickhouse_answers gauge
gpufleet_collector_clickhouse_answers{shard="1"} 1
gpufleet_collector_clickhouse_answers{shard="2"} 0
# TYPE gpufleet_collector_log_size_bytes gauge
gpufleet_collector_log_size_bytes{table="gpu_samples"} 900
gpufleet_collector_log_limit_bytes{table="gpu_samples"} 1000
# TYPE gpufleet_collector_memory_held_bytes gauge
gpufleet_collector_memory_held_bytes{table="gpu_samples"} 1
# TYPE gpufleet_collector_memory_limit_bytes gauge
gpufleet_collector_memory_limit_bytes{table="gpu_samples"} 1000
gpufleet_collector_memory_limit_bytes{table="prices"} 1000
# TYPE gpufleet_collector_quarantine_size_bytes gauge
gpufleet_collector_quarantine_size_bytes 0
# TYPE gpufleet_collector_quarantine_limit_bytes gauge
gpufleet_collector_quarantine_limit_bytes 1000
# TYPE gpufleet_collector_retried_batches_total counter
gpufleet_collector_retried_batches_total{reason="log_full",table="gpu_samples"} %[2]d
# TYPE gpufleet_collector_refused_streams_total counter
gpufleet_collector_refused_streams_total{code="Unauthenticated"} 7
# TYPE gpufleet_collector_freshness_seconds histogram
gpufleet_collector_freshness_seconds_bucket{table="gpu_samples",le="2"} %[1]d
gpufleet_collector_freshness_seconds_bucket{table="gpu_samples",le="120"} %[3]d
gpufleet_collector_freshness_seconds_bucket{table="gpu_samples",le="+Inf"} %[3]d
gpufleet_collector_freshness_seconds_sum{table="gpu_samples"} 1
gpufleet_collector_freshness_seconds_count{table="gpu_samples"} %[3]d
`, rows, retried, rows+rows/10)
}

func readingOf(t *testing.T, text string, at int64) reading {
	t.Helper()
	families, err := parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return reading{at: time.Unix(at, 0), families: families}
}

// example is a pipeline in which much is wrong.
func example(t *testing.T) *Snapshot {
	t.Helper()
	s := &Snapshot{
		At: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		Collectors: []Collector{
			collectorOf("10.0.0.1:4491", readingOf(t, metricsText(300, 12), 104), readingOf(t, metricsText(200, 2), 100)),
			{Address: "10.0.0.2:4491", Error: "connection refused"},
		},
		Store: &Store{Version: "26.7.2.1", Nodes: 3, GPUs: 22, Silent: 2, RowsPerSecond: 22, AgeSeconds: new(2.5), Quarantined: 4},
	}
	s.Wrong = s.wrong()
	return s
}

func TestText(t *testing.T) {
	want := `2026-03-01 12:00:00 UTC  22 of 24 GPUs of 3 nodes give 22 rows/s, age 2.5 s  ClickHouse 26.7.2.1
wrong  collector 10.0.0.2:4491 is not reached: connection refused
wrong  collector 10.0.0.1:4491: ClickHouse does not answer, shards 2
wrong  collector 10.0.0.1:4491: the log of gpu_samples is filled to 90 %
wrong  collector 10.0.0.1:4491: batches asked for again, log_full, gpu_samples
wrong  2 of 24 GPUs give no rows: SELECT * FROM fleet_silent
wrong  4 batches were put into quarantine within the last hour: gpufleet quarantine list
wrong  collector 10.0.0.1:4491: a batch has waited for 76 s
wrong  collector 10.0.0.1:4491: rows of gpu_samples are up to 120 s old when they are stored

collector         nodes  rows/s  stored/s  bytes/s  oldest   log  memory  quar.
10.0.0.1:4491         3      25        25  25.0 kB  75.5 s  90 %     1 %    0 %
10.0.0.2:4491         –       –         –        –       –     –       –      –

table             streams  rows/s  stored/s     p50     p99   log  memory
gpu_samples             3      25        25   2.0 s   2 min  90 %     1 %

refused, failed, sent again                        per s  since start
batches asked for again, log_full, gpu_samples       2.5           12
streams refused, Unauthenticated                       0            7`
	if diff := cmp.Diff(want, strings.Join(example(t).text(80), "\n")); diff != "" {
		t.Error(diff)
	}
}

func TestTablesFitTheTerminal(t *testing.T) {
	for i, line := range example(t).text(80) {
		if n := utf8.RuneCountInString(line); n > 80 && i > 8 { // what is above is cut where it is drawn
			t.Errorf("%d characters: %s", n, line)
		}
	}
}

// TestStreamsThatAgentsEnd are nothing wrong, and are shown all the same; damaged messages are.
func TestStreamsThatAgentsEnd(t *testing.T) {
	text := func(n int) string {
		return fmt.Sprintf("# TYPE gpufleet_collector_broken_streams_total counter\ngpufleet_collector_broken_streams_total{code=\"Canceled\"} %[1]d\ngpufleet_collector_broken_streams_total{code=\"DataLoss\"} %[1]d\n", n)
	}
	c := collectorOf("a:1", readingOf(t, text(9), 104), readingOf(t, text(5), 100))
	var said []string
	c.full(func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) })
	if want := []string{"collector a:1: streams broken, DataLoss"}; len(c.Losses) != 2 || !cmp.Equal(said, want) {
		t.Errorf("%q, losses %v", said, c.Losses)
	}
}

// TestLossesAreCounters: docs/operations.md is held against the collector's code.
func TestLossesAreCounters(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append([]string{metricRows, metricBytes, metricStored, metricFreshness}, lossNames()...) {
		if !strings.Contains(string(page), "| `"+name+"` |") {
			t.Errorf("a collector has no %s", name)
		}
	}
}

func lossNames() (names []string) {
	for _, l := range losses {
		names = append(names, l.metric)
	}
	return names
}

func TestWhatNobodyKnowsIsADash(t *testing.T) {
	s := Snapshot{Collectors: []Collector{collectorOf("c:4491", readingOf(t, metricsText(300, 0), 100), reading{})}}
	if c := s.Collectors[0]; c.RowsPerSecond != nil || c.Lanes[0].FreshnessP50 == nil {
		t.Errorf("without an earlier reading: %+v", c)
	}
	restarted := collectorOf("c:4491", readingOf(t, metricsText(1, 0), 104), readingOf(t, metricsText(300, 0), 100))
	if restarted.RowsPerSecond != nil || restarted.Lanes[0].FreshnessP99 != nil {
		t.Errorf("of a process that began anew: %v", *restarted.RowsPerSecond)
	}
	if got := strings.Join(s.text(80), "\n"); !strings.Contains(got, "c:4491                3       –         –        –  75.5 s") {
		t.Error(got)
	}
}

func TestAddress(t *testing.T) {
	for _, c := range []struct {
		text   string
		secure bool
		want   string
	}{
		{"host:4491", false, "http://host:4491/metrics"},
		{"host", true, "https://host:4491/metrics"},
		{"https://host:1/other", false, "https://host:1/other"},
		{"[::1]:4491", false, "http://[::1]:4491/metrics"},
		{"ftp://host", false, ""},
		{"", false, ""},
		{"http://:1:2", false, ""},
	} {
		if got, err := Address(c.text, c.secure); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q: %q, %v", c.text, got, err)
		}
	}
}

func TestFiguresAreReadable(t *testing.T) {
	for got, want := range map[string]string{
		rate(nil): "–", rate(new(0.0)): "0", rate(new(0.01)): "0.1", rate(new(123.4)): "123",
		bytes(nil): "–", bytes(new(999.0)): "999 B", bytes(new(1500.0)): "1.5 kB", bytes(new(2.5e8)): "250 MB", bytes(new(5e12)): "5000 GB",
		seconds(nil): "–", seconds(new(1.25)): "1.2 s", seconds(new(600.0)): "10 min", seconds(new(7200.0)): "2 h",
		percent(Fill{}): "–", percent(Fill{Bytes: 1, Limit: 1000}): "1 %", percent(Fill{Limit: 10}): "0 %",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
