// SPDX-License-Identifier: Apache-2.0

package top

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
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

// mostBytes is what a collector's metrics may be long: they are some hundred kilobytes.
const mostBytes = 16 << 20

// reading is what a collector's metrics were at one moment. The zero value has none.
type reading struct {
	at       time.Time
	families map[string]*dto.MetricFamily
}

// read asks a collector for its metrics.
func read(ctx context.Context, client *http.Client, address string) (reading, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return reading{}, fmt.Errorf("ask %s: %w", address, err)
	}
	at := time.Now()
	answer, err := client.Do(request)
	if err != nil {
		return reading{}, shorter(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return reading{}, fmt.Errorf("it answers %s", answer.Status)
	}
	families, err := parse(io.LimitReader(answer.Body, mostBytes))
	if err != nil {
		return reading{}, err
	}
	if families[metricNodes] == nil {
		return reading{}, errors.New("these are no metrics of a collector")
	}
	return reading{at: at, families: families}, nil
}

func parse(text io.Reader) (map[string]*dto.MetricFamily, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(text)
	if err != nil {
		return nil, fmt.Errorf("read its metrics: %w", err)
	}
	return families, nil
}

// shorter leaves out what the line says already: the method and the address.
func shorter(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		if wrapped.Timeout() {
			return errors.New("no answer in time")
		}
		err = wrapped.Err
	}
	if wrapped, ok := errors.AsType[*net.OpError](err); ok {
		return wrapped.Err
	}
	return err
}

// label is the value of a metric's label; "" if it has none.
func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

func value(m *dto.Metric) float64 {
	switch {
	case m.GetCounter() != nil:
		return finite(m.GetCounter().GetValue())
	case m.GetGauge() != nil:
		return finite(m.GetGauge().GetValue())
	default:
		return finite(m.GetUntyped().GetValue())
	}
}

func finite(v float64) float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	return v
}

// match tells which of a family's metrics are meant.
type match func(*dto.Metric) bool

func anyOf(*dto.Metric) bool { return true }

// of means those of a lane. Counters do not tell shards apart.
func of(table string) match {
	return func(m *dto.Metric) bool { return label(m, "table") == table }
}

// sum adds the metrics of a family up; a family that nothing has happened to is not there, and 0. What is no number counts
// as nothing.
func (r reading) sum(family string, which match) float64 {
	total := 0.0
	for _, m := range r.families[family].GetMetric() {
		if which(m) {
			total += value(m)
		}
	}
	return finite(total)
}

// rate is what a counter gained by second; nil without an earlier reading, or if the process has begun anew since.
func (r reading) rate(before reading, family string, which match) *float64 {
	seconds := r.at.Sub(before.at).Seconds()
	if before.families == nil || seconds <= 0 {
		return nil
	}
	gained := r.sum(family, which) - before.sum(family, which)
	if gained < 0 {
		return nil
	}
	return new(finite(gained / seconds))
}

// quantiles are of what a histogram gained since an earlier reading, all its metrics together; nil if it gained nothing. A quantile
// is the upper end of the bucket that it falls into.
func (r reading) quantiles(before reading, family string, which match, shares ...float64) []*float64 {
	counts, all := make(map[float64]float64), 0.0
	add := func(r reading, sign float64) {
		for _, m := range r.families[family].GetMetric() {
			if !which(m) {
				continue
			}
			all += sign * float64(m.GetHistogram().GetSampleCount())
			for _, b := range m.GetHistogram().GetBucket() {
				counts[b.GetUpperBound()] += sign * float64(b.GetCumulativeCount())
			}
		}
	}
	add(r, 1)
	add(before, -1)
	found := make([]*float64, len(shares))
	if all <= 0 {
		return found
	}
	for i, share := range shares {
		for _, bound := range slices.Sorted(maps.Keys(counts)) {
			if counts[bound] >= share*all && !math.IsInf(bound, 1) {
				found[i] = new(bound)
				break
			}
		}
	}
	return found
}

// name is an address as it is shown: without what all have.
func name(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return address
	}
	if u.Path != metricsPath {
		return u.Host + u.Path
	}
	return u.Host
}

// metricsPath is where a program has its metrics.
const metricsPath = "/metrics"

// Address is where a collector's metrics are, from what a person writes: a URL, or host:port, which is https if it is to
// be secure.
func Address(text string, secure bool) (string, error) {
	scheme := "http://"
	if secure {
		scheme = "https://"
	}
	if !strings.Contains(text, "://") {
		text = scheme + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return "", fmt.Errorf("address of a collector's metrics %q: want host:4491, or http://host:4491/metrics", text)
	}
	if u.Port() == "" {
		u.Host += ":4491"
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = metricsPath
	}
	return u.String(), nil
}
