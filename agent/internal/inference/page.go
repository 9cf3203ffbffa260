// SPDX-License-Identifier: Apache-2.0

package inference

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Bounds of a page. One of vLLM has 100 kB, most of it histograms, of which no line is kept.
const (
	maxPageBytes  = 16 << 20
	maxLineBytes  = 32 << 10
	maxKeptBytes  = 1 << 20
	maxSeries     = 4096 // that are kept
	maxLabelBytes = 253  // of a value that goes into a row
)

// Why a page says nothing.
var (
	errNoPage    = errors.New("no page of metrics")
	errTooLarge  = errors.New("too large")
	errMalformed = errors.New("malformed")
)

// series is one number on a page.
type series struct {
	name   string
	labels []label
	value  float64
}

type label struct{ name, value string }

// get is the value of a label; "" if the series has none.
func (s *series) get(name string) string {
	for _, l := range s.labels {
		if l.name == name {
			return l.value
		}
	}
	return ""
}

// page is what is known of a server's page.
type page struct {
	prefixed map[string]bool // prefixes of engines that it has metrics of
	series   []series        // that are known
}

// startTime is when the process began, by which Prometheus clients tell a start from a counter that is merely lower.
const startTime = "process_start_time_seconds"

// names says what is kept of a page.
type names struct {
	known    map[string]bool
	prefixes []string
}

func newNames(all []engine) names {
	n := names{known: map[string]bool{startTime: true}}
	for _, e := range all {
		n.prefixes = append(n.prefixes, e.prefixes...)
		for _, m := range e.metrics {
			for _, name := range m.names {
				n.known[name] = true
			}
		}
	}
	return n
}

// newClient asks without a proxy, follows nowhere, and takes nothing compressed: what is small needs none, and what is
// not could be a bomb.
func newClient(transport http.RoundTripper, timeout time.Duration) *http.Client {
	if transport == nil {
		transport = &http.Transport{
			Proxy: nil, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10, MaxIdleConnsPerHost: 1, MaxIdleConns: mostTargets,
			IdleConnTimeout: 2 * time.Minute, DialContext: (&net.Dialer{Timeout: timeout}).DialContext,
		}
	}
	return &http.Client{
		Timeout: timeout, Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// get reads the page at an address.
func (n names) get(ctx context.Context, client *http.Client, address string) (*page, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/plain;version=0.0.4")
	req.Header.Set("User-Agent", "gpufleet-agent")
	resp, err := client.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // it repeats the address
		}
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %d: %w", resp.StatusCode, errNoPage)
	}
	return n.parse(resp.Body)
}

// parse keeps the lines of a page that are known, and reads those alone: the others are most of it.
func (n names) parse(text io.Reader) (*page, error) {
	p := &page{prefixed: make(map[string]bool)}
	limited := &io.LimitedReader{R: text, N: maxPageBytes}
	lines := bufio.NewScanner(limited)
	lines.Buffer(nil, maxLineBytes)
	var kept bytes.Buffer
	for lines.Scan() {
		line := lines.Bytes()
		end := bytes.IndexAny(line, "{ \t")
		if end <= 0 || line[0] == '#' {
			continue
		}
		for _, prefix := range n.prefixes {
			if bytes.HasPrefix(line, []byte(prefix)) {
				p.prefixed[prefix] = true
			}
		}
		if n.known[string(line[:end])] {
			kept.Write(line)
			kept.WriteByte('\n')
		}
		if kept.Len() > maxKeptBytes {
			return nil, fmt.Errorf("page of metrics: more than %d bytes of counters: %w", maxKeptBytes, errTooLarge)
		}
	}
	if err := lines.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			err = fmt.Errorf("a line of more than %d bytes: %w", maxLineBytes, errMalformed)
		}
		return nil, fmt.Errorf("page of metrics: %w", err)
	}
	if limited.N <= 0 {
		return nil, fmt.Errorf("page of metrics: more than %d bytes: %w", maxPageBytes, errTooLarge)
	}
	return p, p.read(&kept)
}

// read takes the lines that were kept: without comments, each is a number without a type.
func (p *page) read(kept io.Reader) error {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(kept)
	if err != nil {
		return fmt.Errorf("page of metrics: %w: %w", err, errMalformed)
	}
	for name, family := range families {
		for _, m := range family.GetMetric() {
			if len(p.series) == maxSeries {
				return fmt.Errorf("page of metrics: more than %d counters: %w", maxSeries, errTooLarge)
			}
			p.series = append(p.series, series{name: name, labels: labelsOf(m), value: m.GetUntyped().GetValue()})
		}
	}
	slices.SortStableFunc(p.series, func(a, b series) int { return strings.Compare(a.key(), b.key()) })
	p.series = slices.CompactFunc(p.series, func(a, b series) bool { return a.key() == b.key() }) // of two, the first counts
	return nil
}

func labelsOf(m *dto.Metric) []label {
	labels := make([]label, 0, len(m.GetLabel()))
	for _, l := range m.GetLabel() {
		labels = append(labels, label{l.GetName(), l.GetValue()})
	}
	slices.SortFunc(labels, func(a, b label) int { return strings.Compare(a.name, b.name) })
	return labels
}

// key names the series for good.
func (s *series) key() string { return s.keyWithout("") }

// keyWithout is the key as it would be without a label.
func (s *series) keyWithout(but string) string {
	var b strings.Builder
	b.WriteString(s.name)
	for _, l := range s.labels {
		if l.name != but {
			b.WriteByte(0)
			b.WriteString(l.name)
			b.WriteByte(1)
			b.WriteString(l.value)
		}
	}
	return b.String()
}

// largestCount is up to where every whole number is a float64 of its own.
const largestCount = 1 << 53

// count is the value as a count; false if it is none. Where a counter counts seconds, they are milliseconds.
func (s *series) count(k kind) (uint64, bool) {
	v := s.value
	if k >= lost && k < running {
		v *= 1000
	}
	if math.IsNaN(v) || v < 0 || v > largestCount {
		return 0, false
	}
	return uint64(v), true
}
