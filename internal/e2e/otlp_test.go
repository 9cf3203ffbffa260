// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
)

// TestPushedReadingsSurviveKills: what was answered with success is stored, each once, although the collector is killed
// again and again before it has stored it. What was not answered comes again, and is the only thing that may be there twice.
func TestPushedReadingsSurviveKills(t *testing.T) {
	const times, gpus, kills = 60, 8, 6
	db := clickhousetest.Start(t)
	p := newProcess(t, buildCollector(t), db.Writer)
	door := freeAddress(t)
	p.args = append(p.args, "--otlp-http-listen", door, "--foreign-gather", "10ms", "--unit-wait", "2s") // so that most is in the log alone
	p.start()
	ctx, cancel := context.WithTimeout(t.Context(), limitless)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	sender := pusher{client: client, url: "http://" + door + "/v1/metrics", doubtful: make(map[int64]bool)}
	begin := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	for at := range times {
		scrape := begin.Add(time.Duration(at) * time.Second)
		onTheWay, kept := make(chan struct{}), make(chan error, 1)
		go func() { kept <- sender.push(ctx, scrape, otlpBody(scrape, at, gpus), onTheWay) }()
		if nth := at * kills / times; at == nth*times/kills {
			await(ctx, t, onTheWay)
			<-time.After(time.Duration(nth) * 4 * time.Millisecond) // sooner and later than what is gathered is in the log
			p.kill()
			p.start()
		}
		if err := <-kept; err != nil {
			t.Fatal(err)
		}
	}
	if n := len(sender.doubtful); n == 0 || n > kills {
		t.Errorf("%d of %d pushes were cut off by %d kills", n, times, kills)
	}
	awaitAnswer(t, db.Reader, "SELECT uniqExact(gpu_id, ts) FROM gpu_samples", strconv.Itoa(times*gpus))
	awaitAnswer(t, db.Reader, "SELECT sum(missing_batches), sum(quarantined_batches) FROM ingest_audit", "0\t0")
	twice := clickhousetest.Query(t, db.Reader, "SELECT DISTINCT toUnixTimestamp(ts) FROM gpu_samples GROUP BY gpu_id, ts HAVING count() > 1")
	for text := range strings.FieldsSeq(twice) {
		if at, err := strconv.ParseInt(text, 10, 64); err != nil || !sender.doubtful[at] {
			t.Errorf("rows of %s are there twice, and each push of them was answered", text)
		}
	}
	if wrong := clickhousetest.Query(t, db.Reader, "SELECT count() FROM gpu_samples WHERE gpu_utilization_permille != 10 * (toUnixTimestamp(ts) - "+strconv.FormatInt(begin.Unix(), 10)+")"); wrong != "0" {
		t.Errorf("%s rows with the values of others", wrong)
	}
}

func await(ctx context.Context, t *testing.T, what <-chan struct{}) {
	t.Helper()
	select {
	case <-what:
	case <-ctx.Done():
		t.Fatal("the collector takes nothing")
	}
}

// pusher pushes scrapes, one at a time, again and again until each is answered with success.
type pusher struct {
	client   *http.Client
	url      string
	doubtful map[int64]bool // of scrapes, seconds since 1970: a push was not answered with success, so whether it was kept is not known
}

// push returns when it was answered with success. onTheWay is closed once all of it was sent for the first time.
func (p *pusher) push(ctx context.Context, scrape time.Time, body string, onTheWay chan<- struct{}) error {
	sent := sync.OnceFunc(func() { close(onTheWay) })
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { sent() }})
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, strings.NewReader(body))
		if err != nil {
			return err
		}
		r.Header.Set("Content-Type", "application/json")
		answer, err := p.client.Do(r)
		if err == nil {
			err = answer.Body.Close()
		}
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("the collector takes nothing: %w", ctx.Err())
		case errors.Is(err, syscall.ECONNREFUSED): // nobody was there to keep it
		case err == nil && answer.StatusCode == http.StatusOK:
			return nil
		default:
			p.doubtful[scrape.Unix()] = true
		}
		<-time.After(20 * time.Millisecond) // it is being started
	}
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
