// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/http"

	"github.com/spf13/cobra"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/internal/ops"
)

// opsOptions is what the flags say of /metrics, /healthz and /readyz.
type opsOptions struct {
	addr string // "": none
	tls  ops.TLSFiles
}

func opsFlags(c *cobra.Command, o *opsOptions, e *agent.Exposition) {
	f := c.Flags()
	f.StringVar(&o.addr, "ops-listen", "127.0.0.1:4492", "address of /metrics, /healthz and /readyz; empty: none")
	f.StringVar(&o.tls.Cert, "ops-tls-cert", "", "PEM file of the certificate for them; beyond loopback it is needed")
	f.StringVar(&o.tls.Key, "ops-tls-key", "", "PEM file of its private key")
	f.BoolVar(&e.GPUs, "gpu-metrics", true, "show the GPUs' latest readings on /metrics, as gpufleet_gpu_*")
	f.BoolVar(&e.DCGM, "dcgm-names", false, "show them on /metrics as dcgm-exporter does, too, as DCGM_FI_*")
}

// metricsOf is what /metrics shows of an agent.
func metricsOf(a *agent.Agent, telemetry *ops.Telemetry, e agent.Exposition) (http.Handler, error) {
	if err := a.Instrument(telemetry.MeterProvider().Meter("gpufleet")); err != nil {
		return nil, err
	}
	if page := a.Collector(); page != nil {
		if err := telemetry.Register(page); err != nil {
			return nil, err
		}
	}
	if e.DCGM {
		return telemetry.TextHandler(), nil
	}
	return telemetry.Handler(), nil
}
