// SPDX-License-Identifier: Apache-2.0

package up

import (
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/gpufleet/gpufleet/agent/sim"
)

// servers are the inference servers of a simulated node: its pods, asked without a network.
type servers struct{ node *sim.Node }

// RoundTrip implements http.RoundTripper.
func (s servers) RoundTrip(r *http.Request) (*http.Response, error) {
	for _, pod := range s.node.Pods() {
		if pod.Address == r.URL.Hostname() {
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(s.node.MetricsPage(&pod))), Request: r}, nil
		}
	}
	return nil, fmt.Errorf("no pod of %s has the address %s", s.node.Name(), r.URL.Hostname())
}
