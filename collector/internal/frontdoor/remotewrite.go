// SPDX-License-Identifier: Apache-2.0

package frontdoor

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/gpufleet/gpufleet/collector/internal/foreign"
	"github.com/gpufleet/gpufleet/collector/internal/remotewrite"
)

// writtenHeader tells senders of version 2.0 how many samples were kept, and of what else was none.
const writtenHeader = "X-Prometheus-Remote-Write-%s-Written"

// remoteWrite takes what a Prometheus pushes. The protocol cannot say of a part of a request that it was not kept: what
// is not ours is told in the header and in our own metrics, and is no error, for Prometheus would drop the rest.
func (s *server) remoteWrite(w http.ResponseWriter, r *http.Request) {
	samples, outcome, err := s.writeRequest(w, r)
	if err != nil {
		code, _ := httpCode(err)
		if code == http.StatusTooManyRequests { // which Prometheus drops, if it is not configured otherwise
			code = http.StatusServiceUnavailable
		}
		if code == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter.Seconds())))
		}
		http.Error(w, err.Error(), code)
		return
	}
	w.Header().Set(fmt.Sprintf(writtenHeader, "Samples"), strconv.FormatInt(int64(samples)-outcome.Refused, 10))
	w.Header().Set(fmt.Sprintf(writtenHeader, "Histograms"), "0")
	w.Header().Set(fmt.Sprintf(writtenHeader, "Exemplars"), "0")
	w.WriteHeader(http.StatusNoContent)
}

func (s *server) writeRequest(w http.ResponseWriter, r *http.Request) (samples int, outcome foreign.Outcome, err error) {
	from, err := s.authorize(r.Header.Values, r.TLS, foreign.RemoteWrite)
	if err != nil {
		return 0, outcome, err
	}
	version, err := remotewrite.ParseContentType(r.Header.Get("Content-Type"))
	if err == nil && r.Header.Get("Content-Encoding") != "snappy" {
		err = fmt.Errorf("content encoding %q: snappy is what remote write uses", r.Header.Get("Content-Encoding"))
	}
	if err != nil {
		return 0, outcome, fmt.Errorf("%w: %w", err, errMedia)
	}
	sorted, err := s.sortBody(w, r, from, func(body []byte) ([]foreign.Group, error) {
		plain, err := remotewrite.Uncompress(body, maxBodyBytes)
		if err != nil {
			return nil, err
		}
		group, err := remotewrite.Decode(plain, version)
		samples = len(group.Readings)
		return []foreign.Group{group}, err
	})
	if err != nil {
		return 0, outcome, err
	}
	outcome, err = s.cfg.Door.Take(r.Context(), sorted)
	return samples, outcome, err
}
