// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/gpufleet/gpufleet/collector/internal/otlpout"
)

// Export is where fleet metrics are told, by OTLP. One collector of a database does it: it asks ClickHouse, and so
// tells of what all of them stored.
type Export struct {
	URL       string      // grpc://, grpcs://, http:// or https:// with host and port; "": nowhere
	TLS       *tls.Config // for grpcs and https
	Plaintext bool        // allows grpc and http to another machine
	Interval  time.Duration
	PerGPU    bool // also each GPU
}

func (e Export) check() error {
	if e.URL == "" {
		return nil
	}
	var problems []error
	if e.Interval < otlpout.MinInterval || e.Interval > otlpout.MaxInterval {
		problems = append(problems, fmt.Errorf("--otlp-out-interval %s: %s to %s", e.Interval, otlpout.MinInterval, otlpout.MaxInterval))
	}
	return errors.Join(append(problems, otlpout.Config{URL: e.URL, Plaintext: e.Plaintext}.CheckURL())...)
}

func (e Export) config(p *pipeline) otlpout.Config {
	trusted := e.TLS
	if trusted == nil {
		trusted = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return otlpout.Config{
		URL: e.URL, TLS: trusted, Plaintext: e.Plaintext, Interval: e.Interval, PerGPU: e.PerGPU, Name: p.cfg.Name, Version: p.cfg.Program,
		Database: p.store, Logger: p.cfg.Logger, Meter: p.cfg.Meter,
	}
}
