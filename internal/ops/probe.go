// SPDX-License-Identifier: Apache-2.0

package ops

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/gpufleet/gpufleet/internal/health"
)

// verdict is the answer to a probe:
//
//	{"status":"not ready","service":"gpufleet-collector","version":"v1.2.3",
//	 "checks":[{"check":"clickhouse","state":"failing","reason":"…"},{"check":"log","state":"ok"}]}
type verdict struct {
	Status  string         `json:"status"`
	Service string         `json:"service,omitempty"`
	Version string         `json:"version"`
	Checks  []health.Check `json:"checks"`
}

// probe answers with 200 and the word, or with 503 and that it is not so.
func (c ServerConfig) probe(ask func(context.Context) []health.Check, word string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := verdict{Status: word, Service: c.Service, Version: Version(), Checks: []health.Check{}}
		if ask != nil {
			ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
			defer cancel()
			v.Checks = append(v.Checks, ask(ctx)...)
		}
		status := http.StatusOK
		if health.AnyFailing(v.Checks) {
			status, v.Status = http.StatusServiceUnavailable, "not "+word
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v) // a client that has gone is not an error here
	})
}
