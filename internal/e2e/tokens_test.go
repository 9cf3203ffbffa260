// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
)

// TestTokens: what a server counts is an answer of SQL, each token once, also over a start of the server.
func TestTokens(t *testing.T) {
	db := clickhousetest.Start(t)
	address, stop := startCollector(t, collectorConfig(t, db.Writer))
	var count atomic.Int64
	count.Store(1000)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "vllm:prompt_tokens_total{engine=\"0\",model_name=\"m\"} %d\nvllm:generation_tokens_total{engine=\"0\",model_name=\"m\"} %[1]d\n", count.Load())
	}))
	defer server.Close()
	f := startFleet(t, fleetConfig{
		nodes: 1, gpus: 1, seed: 7, collector: address, interval: 200 * time.Millisecond, flush: 500 * time.Millisecond,
		change: func(c *agent.Config) {
			c.Inference.Interval = time.Second
			c.Inference.Servers = []agent.InferenceServer{{URL: server.URL + "/metrics", Deployment: "chat", Role: "both"}}
		},
	})
	awaitAnswer(t, db.Reader, "SELECT model, deployment, role, node_name FROM fleet_tokens ORDER BY ts LIMIT 1", "m\tchat\tboth\t"+f.names[0])
	count.Store(1700)
	awaitAnswer(t, db.Reader, "SELECT sum(output_tokens) FROM fleet_tokens", "700")
	count.Store(50) // it starts anew
	awaitAnswer(t, db.Reader, "SELECT sum(input_tokens), sum(output_tokens), sum(requests) FROM token_rates WHERE deployment = 'chat'", "750\t750\t\\N")
	f.wantExactlyOnce(db.Reader)
	stop()
}
