// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"time"
)

// TimeSeries is Prometheus or VictoriaMetrics: both take remote write and answer PromQL.
type TimeSeries struct {
	*Program
	write string
	// Landed is how many samples it has taken in.
	Landed func(context.Context) (float64, error)
	// Disk has everything brought to disk as it stays there, and weighs it.
	Disk func(context.Context) (bytes int64, err error)
	// NoCache is what to add to a question so that its answer is not kept from the last time; empty if none ever is.
	NoCache string
}

var writeHeaders = map[string]string{
	"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf", "X-Prometheus-Remote-Write-Version": "0.1.0",
}

// Write sends a request that RemoteWrite made.
func (t *TimeSeries) Write(ctx context.Context, body []byte) error {
	return t.Post(ctx, t.write, body, writeHeaders)
}

// Ask asks for a query at the end of each step of the span, and reads the whole answer.
func (t *TimeSeries) Ask(ctx context.Context, query string, span Span, step int64, more string) ([]byte, error) {
	at := func(end time.Time) string { return strconv.FormatFloat(float64(end.UnixMilli()-1)/1000, 'f', 3, 64) }
	first := span.Start.Add(time.Duration(step) * time.Second)
	return t.Get(ctx, "/api/v1/query_range?query="+url.QueryEscape(query)+"&start="+at(first)+"&end="+at(span.End)+"&step="+strconv.FormatInt(step, 10)+more)
}

// StartVictoriaMetrics runs one, or says that it is missing.
func StartVictoriaMetrics(ctx context.Context, folder, dir, address string) (*TimeSeries, error) {
	data := filepath.Join(dir, "data")
	p, err := start(ctx, folder, "victoria-metrics", dir, address, answers("/health"),
		"-httpListenAddr="+address, "-storageDataPath="+data, "-retentionPeriod=1", "-search.latencyOffset=0s", "-search.maxUniqueTimeseries=1000000")
	if err != nil {
		return nil, err
	}
	t := &TimeSeries{Program: p, write: "/api/v1/write", NoCache: "&nocache=1"}
	t.Landed = func(ctx context.Context) (float64, error) {
		if _, err := p.Get(ctx, "/internal/force_flush"); err != nil {
			return 0, err
		}
		page, err := p.Get(ctx, "/metrics")
		if err != nil {
			return 0, err
		}
		return ParseCounter(page, "vm_rows", `type="storage/`)
	}
	t.Disk = func(ctx context.Context) (int64, error) {
		for _, path := range []string{"/internal/force_flush", "/internal/force_merge"} {
			if _, err := p.Get(ctx, path); err != nil {
				return 0, err
			}
		}
		return settled(ctx, data)
	}
	return t, nil
}

// StartPrometheus runs one, or says that it is missing.
func StartPrometheus(ctx context.Context, folder, dir, address string) (*TimeSeries, error) {
	data := filepath.Join(dir, "data")
	p, err := start(ctx, folder, "prometheus", dir, address, answers("/-/ready"),
		"--config.file=/dev/null", "--web.listen-address="+address, "--storage.tsdb.path="+data, "--web.enable-remote-write-receiver", "--web.enable-admin-api")
	if err != nil {
		return nil, err
	}
	t := &TimeSeries{Program: p, write: "/api/v1/write"}
	t.Landed = func(ctx context.Context) (float64, error) {
		page, err := p.Get(ctx, "/metrics")
		if err != nil {
			return 0, err
		}
		return ParseCounter(page, "prometheus_tsdb_head_samples_appended_total", "")
	}
	t.Disk = func(ctx context.Context) (int64, error) { // a snapshot is the blocks that the head would become
		if err := p.Post(ctx, "/api/v1/admin/tsdb/snapshot", nil, nil); err != nil {
			return 0, err
		}
		return DirBytes(filepath.Join(data, "snapshots"))
	}
	return t, nil
}

// settled weighs a folder once its merges have come to rest: when it does not change any more.
func settled(ctx context.Context, dir string) (int64, error) {
	last := int64(-1)
	for range 60 {
		size, err := DirBytes(dir)
		if err != nil || size == last {
			return size, err
		}
		last = size
		select {
		case <-time.After(2 * time.Second):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return last, nil
}

// AverageByNode is question (a): the average of a column by node and minute.
func AverageByNode(column string) string {
	return fmt.Sprintf("avg by (%s) (avg_over_time(%s[1m]))", NodeLabel, MetricName(column))
}

// HighestOfGPU is question (b): the highest value of a column of one GPU by ten seconds.
func HighestOfGPU(column string, gpu uint64) string {
	return fmt.Sprintf("max_over_time(%s{%s=\"%s\"}[10s])", MetricName(column), GPULabel, ID(gpu))
}
