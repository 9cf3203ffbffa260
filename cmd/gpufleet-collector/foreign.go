// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/tls"

	"github.com/spf13/pflag"
)

// foreignFlags are those of what other programs push, and of what is told to them.
func (o *options) foreignFlags(f *pflag.FlagSet) {
	in, out := &o.collector.Foreign, &o.collector.Export
	f.StringVar(&in.GRPC, "otlp-listen", "", "address for metrics by OTLP over gRPC, such as 127.0.0.1:4317; beyond loopback as --listen; empty: none")
	f.StringVar(&in.HTTP, "otlp-http-listen", "", "address for metrics by OTLP over HTTP (/v1/metrics) and by Prometheus remote write (/api/v1/write), such as 127.0.0.1:4318; empty: none")
	f.IntVar(&in.GPUs, "foreign-gpus", in.GPUs, "GPUs of which is remembered what other programs pushed, at most; of more nothing is taken")
	f.IntVar(&in.Connections, "foreign-connections", in.Connections, "connections of other programs that may be open at the same time, of both protocols together; more are closed at once")
	f.DurationVar(&in.Gather, "foreign-gather", in.Gather, "what other programs push waits this long for the rest of its scrape, to be one row")
	f.StringVar(&out.URL, "otlp-out", "", "tell this OTLP backend how the fleet is: grpc://, grpcs://, http:// or https:// with host and port; one collector of a database is enough; headers from OTEL_EXPORTER_OTLP_HEADERS; empty: none")
	f.DurationVar(&out.Interval, "otlp-out-interval", out.Interval, "as often")
	f.BoolVar(&out.PerGPU, "otlp-per-gpu", false, "and how each GPU is")
	f.StringVar(&o.export.CA, "otlp-out-ca", "", "PEM file of authorities that the backend's certificate must come from; empty: the system's")
	f.BoolVar(&out.Plaintext, "otlp-out-plaintext", false, "speak grpc or http with a backend on another machine: the network learns the headers")
}

// exportTLS is whom the backend of --otlp-out must be certified by; nil: by the system's authorities.
func (o *options) exportTLS() (*tls.Config, error) {
	if o.export.CA == "" {
		return nil, nil
	}
	return o.export.Client()
}
