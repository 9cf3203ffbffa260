// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"text/template"
)

// Store is the ClickHouse that an OpenTelemetry Collector writes to.
type Store struct {
	Address, User, Password, Database string // Address is that of the native protocol
}

// OTel is an OpenTelemetry Collector with the exporter for ClickHouse.
type OTel struct{ *Program }

// otelConfig batches as the exporter's documentation advises, waits for each insert, and keeps what waits in memory.
// Without a limit on the retries a batch could still be on its way when everything is counted.
var otelConfig = template.Must(template.New("otelcol").Parse(`receivers:
  otlp:
    protocols:
      http:
        endpoint: {{.Listen}}
processors:
  batch:
    send_batch_size: 100000
    send_batch_max_size: 200000
    timeout: 1s
exporters:
  clickhouse:
    endpoint: tcp://{{.Store.Address}}
    username: {{.Store.User}}
    password: {{printf "%q" .Store.Password}}
    database: {{.Store.Database}}
    async_insert: false
    compress: lz4
    create_schema: true
    timeout: 60s
    sending_queue:
      num_consumers: 2
      queue_size: 1000
      block_on_overflow: true
    retry_on_failure:
      enabled: true
      max_elapsed_time: 120s
service:
  telemetry:
    metrics:
      level: none
    logs:
      level: warn
  pipelines:
    metrics:
      receivers: [otlp]
      processors: [batch]
      exporters: [clickhouse]
`))

var otlpHeaders = map[string]string{"Content-Encoding": "gzip", "Content-Type": "application/x-protobuf"}

// StartOTel runs one that writes to the store, in a database that exists; or says that it is missing.
func StartOTel(ctx context.Context, folder, dir, address string, store Store) (*OTel, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("start otelcol: %w", err)
	}
	path := filepath.Join(dir, "config.yaml")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600) // it has a password
	if err != nil {
		return nil, fmt.Errorf("start otelcol: %w", err)
	}
	err = otelConfig.Execute(file, struct {
		Listen string
		Store  Store
	}{address, store})
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return nil, fmt.Errorf("write the configuration of otelcol: %w", err)
	}
	ready := func(ctx context.Context, p *Program) error {
		return p.Post(ctx, "/v1/metrics", []byte{}, map[string]string{"Content-Type": otlpHeaders["Content-Type"]})
	}
	p, err := start(ctx, folder, "otelcol", dir, address, ready, "--config=file:"+path)
	if err != nil {
		return nil, err
	}
	return &OTel{p}, nil
}

// Write sends a request that OTLP made.
func (o *OTel) Write(ctx context.Context, body []byte) error {
	return o.Post(ctx, "/v1/metrics", body, otlpHeaders)
}

// OTelTable is where the exporter puts gauges.
const OTelTable = "otel_metrics_gauge"

// OTelAverageByNode is question (a) in the exporter's tables.
func OTelAverageByNode(column string) string {
	return fmt.Sprintf("SELECT ResourceAttributes['%s'] AS node, toUnixTimestamp(toStartOfMinute(TimeUnix)) AS minute, avg(Value) FROM %s WHERE MetricName = '%s' GROUP BY node, minute",
		NodeLabel, OTelTable, MetricName(column))
}

// OTelHighestOfGPU is question (b) in the exporter's tables.
func OTelHighestOfGPU(column string, gpu uint64) string {
	return fmt.Sprintf("SELECT toUnixTimestamp(toStartOfInterval(TimeUnix, INTERVAL 10 SECOND)) AS t, max(Value) FROM %s WHERE MetricName = '%s' AND Attributes['%s'] = '%s' GROUP BY t ORDER BY t",
		OTelTable, MetricName(column), GPULabel, ID(gpu))
}
