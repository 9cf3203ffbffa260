// SPDX-License-Identifier: Apache-2.0

// Package remotewrite reads what Prometheus pushes by remote write, in versions 1.0 and 2.0 of its protocol. It reads the
// few fields that matter with protobuf's own scanner: Prometheus's own types would bring its whole module. It trusts
// nothing that it reads, and starts no goroutines.
package remotewrite

import (
	"errors"
	"fmt"
	"math"
	"mime"
	"unicode/utf8"

	"github.com/klauspost/compress/snappy"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/gpufleet/gpufleet/collector/internal/foreign"
	"github.com/gpufleet/gpufleet/collector/internal/foreign/mapping"
)

// Version is that of the protocol.
type Version uint8

// The versions.
const (
	V1 Version = 1
	V2 Version = 2
)

// ErrMalformed means that sending the same again cannot help.
var ErrMalformed = errors.New("malformed remote write request")

const (
	maxLabels  = 256                     // of a series: Prometheus itself has 30 or so
	maxSymbols = 4 * foreign.MaxReadings // most are of many series
)

// ParseContentType tells the version of a request by its Content-Type.
func ParseContentType(header string) (Version, error) {
	kind, params, err := mime.ParseMediaType(header)
	if header == "" {
		return V1, nil // as the first senders did
	}
	if err != nil || kind != "application/x-protobuf" {
		return 0, fmt.Errorf("content type %q: application/x-protobuf is what is taken", header)
	}
	switch params["proto"] {
	case "", "prometheus.WriteRequest":
		return V1, nil
	case "io.prometheus.write.v2.Request":
		return V2, nil
	default:
		return 0, fmt.Errorf("content type %q: the messages that are taken are prometheus.WriteRequest and io.prometheus.write.v2.Request", header)
	}
}

// Uncompress undoes snappy's block format, if the result has at most so many bytes.
func Uncompress(body []byte, maxBytes int) ([]byte, error) {
	size, err := snappy.DecodedLen(body)
	if err != nil {
		return nil, fmt.Errorf("snappy: %w: %w", err, ErrMalformed)
	}
	if size > maxBytes {
		return nil, fmt.Errorf("%d bytes uncompressed, at most %d: lower max_samples_per_send: %w", size, maxBytes, ErrMalformed)
	}
	plain, err := snappy.Decode(nil, body)
	if err != nil {
		return nil, fmt.Errorf("snappy: %w: %w", err, ErrMalformed)
	}
	return plain, nil
}

// Decode reads an uncompressed request. Its errors are ErrMalformed and foreign.ErrTooMany.
//
//	version 1: WriteRequest{1: timeseries{1: label{1: name, 2: value}, 2: sample{1: double, 2: ms}}}
//	version 2: Request{4: symbols, 5: timeseries{1: references to symbols, name and value in turns,
//	                                             2: sample{1: double, 2: ms, 3: start ms}, 6: start ms of older senders}}
func Decode(body []byte, v Version) (foreign.Group, error) {
	d := decoder{version: v}
	if v == V2 { // symbols may come after what refers to them
		if err := d.symbolsOf(body); err != nil {
			return foreign.Group{}, err
		}
	}
	series := protowire.Number(1)
	if v == V2 {
		series = 5
	}
	err := fields(body, func(n protowire.Number, _ uint64, message []byte) error {
		if n != series || message == nil {
			return nil
		}
		return d.series(message)
	})
	return d.group, err
}

type decoder struct {
	version Version
	symbols []string
	group   foreign.Group
}

func (d *decoder) symbolsOf(body []byte) error {
	return fields(body, func(n protowire.Number, _ uint64, text []byte) error {
		if n == 4 && text != nil {
			if len(d.symbols) == maxSymbols {
				return fmt.Errorf("more than %d symbols: %w", maxSymbols, foreign.ErrTooMany)
			}
			d.symbols = append(d.symbols, string(text))
		}
		return nil
	})
}

type sample struct {
	value       float64
	time, start int64
}

func (d *decoder) series(message []byte) error {
	labels := make(foreign.Labels)
	var samples []sample
	var created int64
	err := fields(message, func(n protowire.Number, number uint64, bytes []byte) error {
		switch {
		case n == 1 && bytes != nil && d.version == V1:
			return addLabel(labels, bytes)
		case n == 1 && bytes != nil:
			return d.addReferences(labels, bytes)
		case n == 2 && bytes != nil:
			return d.addSample(&samples, bytes)
		case n == 6 && bytes == nil && d.version == V2:
			created = int64(number)
		}
		return nil
	})
	if err != nil {
		return err
	}
	metric := labels["__name__"]
	if metric == "" {
		return fmt.Errorf("a series without a name: %w", ErrMalformed)
	}
	delete(labels, "__name__")
	for _, s := range samples {
		if s.start == 0 {
			s.start = created
		}
		d.group.Readings = append(d.group.Readings, foreign.Reading{
			Metric: metric, Labels: labels, Time: s.time, Start: s.start, Value: mapping.Float(s.value), // a staleness marker is no number
		})
	}
	return nil
}

func (d *decoder) addSample(samples *[]sample, message []byte) error {
	if len(d.group.Readings)+len(*samples) == foreign.MaxReadings {
		return fmt.Errorf("more than %d samples: %w", foreign.MaxReadings, foreign.ErrTooMany)
	}
	s, err := readSample(message)
	*samples = append(*samples, s)
	return err
}

func addLabel(labels foreign.Labels, message []byte) error {
	var name, value string
	err := fields(message, func(n protowire.Number, _ uint64, text []byte) error {
		switch {
		case n == 1 && text != nil:
			name = string(text)
		case n == 2 && text != nil:
			value = string(text)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return put(labels, name, value)
}

func (d *decoder) addReferences(labels foreign.Labels, packed []byte) error {
	for len(packed) > 0 {
		var pair [2]string
		for i := range pair {
			at, n := protowire.ConsumeVarint(packed)
			if n < 0 || at >= uint64(len(d.symbols)) {
				return fmt.Errorf("a label that is not among the %d symbols: %w", len(d.symbols), ErrMalformed)
			}
			pair[i], packed = d.symbols[at], packed[n:]
		}
		if err := put(labels, pair[0], pair[1]); err != nil {
			return err
		}
	}
	return nil
}

func put(labels foreign.Labels, name, value string) error {
	if len(labels) >= maxLabels {
		return fmt.Errorf("a series with more than %d labels: %w", maxLabels, ErrMalformed)
	}
	if !utf8.ValidString(name) || !utf8.ValidString(value) {
		return fmt.Errorf("a label that is no UTF-8: %w", ErrMalformed)
	}
	labels[name] = value
	return nil
}

func readSample(message []byte) (s sample, err error) {
	err = fields(message, func(n protowire.Number, number uint64, bytes []byte) error {
		switch {
		case bytes != nil:
		case n == 1:
			s.value = math.Float64frombits(number)
		case n == 2:
			s.time = int64(number)
		case n == 3:
			s.start = int64(number)
		}
		return nil
	})
	return s, err
}

// fields goes through the fields of a message: of a number bytes is nil, of anything else it is not.
func fields(message []byte, each func(n protowire.Number, number uint64, bytes []byte) error) error {
	for len(message) > 0 {
		field, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return fmt.Errorf("%w: %w", protowire.ParseError(n), ErrMalformed)
		}
		message = message[n:]
		var number uint64
		var bytes []byte
		switch kind {
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(message)
		case protowire.Fixed64Type:
			number, n = protowire.ConsumeFixed64(message)
		case protowire.BytesType:
			bytes, n = protowire.ConsumeBytes(message)
			if n >= 0 && bytes == nil {
				bytes = []byte{}
			}
		default:
			n = protowire.ConsumeFieldValue(field, kind, message)
			field = 0 // none of ours
		}
		if n < 0 {
			return fmt.Errorf("%w: %w", protowire.ParseError(n), ErrMalformed)
		}
		message = message[n:]
		if err := each(field, number, bytes); err != nil {
			return err
		}
	}
	return nil
}
