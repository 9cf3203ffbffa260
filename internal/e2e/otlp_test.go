// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
)

// TestPushedReadingsSurviveKills: what was answered with success is stored, each once, although the collector is killed
// again and again before it has stored it. What was not answered comes again, and is the only thing that may be there twice.
func TestPushedReadingsSurviveKills(t *testing.T) {
	const times, gpus, kills = 60, 8, 5
	db := clickhousetest.Start(t)
	p := newProcess(t, buildCollector(t), db.Writer)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	door := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	p.args = append(p.args, "--otlp-http-listen", door, "--foreign-gather", "10ms", "--unit-wait", "2s") // so that most is in the log alone
	p.start()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	unanswered := 0
	begin := time.Now().Add(-time.Hour).UTC()
	for at := range times {
		for kept := false; !kept; {
			code := push(ctx, t, client, "http://"+door+"/v1/metrics", otlpBody(begin.Add(time.Duration(at)*time.Second), at, gpus))
			kept = code == http.StatusOK
			if !kept {
				unanswered++
			}
		}
		if at%(times/kills) == times/kills-1 {
			p.kill()
			p.start()
		}
	}
	want := strconv.Itoa(times * gpus)
	awaitAnswer(t, db.Reader, "SELECT uniqExact(gpu_id, ts) FROM gpu_samples", want)
	awaitAnswer(t, db.Reader, "SELECT sum(missing_batches), sum(quarantined_batches) FROM ingest_audit", "0\t0")
	if twice := clickhousetest.Query(t, db.Reader, "SELECT count() - uniqExact(gpu_id, ts) FROM gpu_samples"); twice != "0" && unanswered == 0 {
		t.Errorf("%s rows twice, and every push was answered", twice)
	}
	if wrong := clickhousetest.Query(t, db.Reader, "SELECT count() FROM gpu_samples WHERE gpu_utilization_permille != 10 * (toUnixTimestamp(ts) - "+strconv.FormatInt(begin.Unix(), 10)+")"); wrong != "0" {
		t.Errorf("%s rows with the values of others", wrong)
	}
}

// push returns the status; 0 if there was no answer.
func push(ctx context.Context, t *testing.T, client *http.Client, url, body string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(r)
	if ctx.Err() != nil {
		t.Fatal("the collector takes nothing")
	}
	if err != nil {
		wait := time.NewTimer(20 * time.Millisecond) // it is being started
		<-wait.C
		return 0
	}
	if err := answer.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode
}

// otlpBody is one scrape of a node: each GPU was as busy as percent says.
func otlpBody(at time.Time, percent, gpus int) string {
	var points []string
	for gpu := range gpus {
		points = append(points, fmt.Sprintf(`{"timeUnixNano": "%d", "asInt": "%d", "attributes": [{"key": "UUID", "value": {"stringValue": "GPU-%d"}}, {"key": "Hostname", "value": {"stringValue": "node-1"}}]}`,
			at.UnixNano(), percent, gpu))
	}
	return `{"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "DCGM_FI_DEV_GPU_UTIL", "gauge": {"dataPoints": [` + strings.Join(points, ",") + `]}}]}]}]}`
}
