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
//	 "degraded":["disk"],
//	 "checks":[{"check":"clickhouse","state":"failing","reason":"…"},{"check":"disk","state":"warning","reason":"…"},{"check":"log","state":"ok"}]}
type verdict struct {
	Status   string         `json:"status"`
	Service  string         `json:"service,omitempty"`
	Version  string         `json:"version"`
	Degraded []string       `json:"degraded,omitempty"` // checks that warn: it works, and not as it should
	Checks   []health.Check `json:"checks"`
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
		for _, c := range v.Checks {
			if c.State == health.Warning {
				v.Degraded = append(v.Degraded, c.Name)
			}
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
