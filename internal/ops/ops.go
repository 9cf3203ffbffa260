// SPDX-License-Identifier: Apache-2.0

// Package ops is what an operator sees of a running gpufleet program: its version, its log, its
// metrics and its health.
//
// It imports nothing else of gpufleet. A main calls it and hands the results to the component it
// runs: a *slog.Logger from NewLogger and a metric.Meter from Telemetry.MeterProvider. Components
// never import this package, so they say nothing about where their log and metrics go.
//
// Serve owns every goroutine this package starts, and none of them outlives its return.
package ops
