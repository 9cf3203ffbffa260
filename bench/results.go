// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"runtime"
	"strings"
	"time"
)

// results are the figures by the names that the budgets use. What stands at the top is of the pipeline; runs has the
// same of the other parts, which are measured at other times.
type results struct {
	Machine    string             `json:"machine"`
	Version    string             `json:"version"`
	ClickHouse string             `json:"clickhouse"`
	Measured   time.Time          `json:"measured_at"`
	Data       string             `json:"data"`
	Command    string             `json:"command"`
	Runs       map[part]measured  `json:"runs,omitempty"`
	Figures    map[string]float64 `json:"figures"`
}

// measured is what one part came to.
type measured struct {
	Machine    string             `json:"machine"`
	Version    string             `json:"version"`
	ClickHouse string             `json:"clickhouse"`
	Others     map[string]string  `json:"others,omitempty"` // versions of other programs
	At         time.Time          `json:"measured_at"`
	Data       string             `json:"data"`
	Command    string             `json:"command"`
	Figures    map[string]float64 `json:"-"` // they stand with all others
}

// prefixes tell whose a figure is; what none fits is of the pipeline.
var prefixes = map[string]part{
	"peer_": partPeers, "fleet_": partFleet, "catchup_": partCatchup,
}

func partOf(figure string) part {
	for prefix, p := range prefixes {
		if strings.HasPrefix(figure, prefix) {
			return p
		}
	}
	return partPipeline
}

// record writes a part's figures into the file, in place of those that it had, and returns all that is there now.
func record(path string, name part, m measured) (results, error) {
	r, err := readResults(path)
	if err != nil {
		return r, err
	}
	m.Machine = fmt.Sprintf("%s/%s, %d CPUs, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), cpuModel())
	if err := r.replace(name, m); err != nil {
		return r, err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return r, fmt.Errorf("write results: %w", err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil { //nolint:gosec // figures for everybody
		return r, fmt.Errorf("write results: %w", err)
	}
	return r, nil
}

func readResults(path string) (results, error) {
	r := results{Figures: make(map[string]float64)}
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return r, nil
	case err != nil:
		return r, fmt.Errorf("read results: %w", err)
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("read results: %s: %w", path, err)
	}
	return r, nil
}

// replace puts the figures of a part in the place of its former ones.
func (r *results) replace(name part, m measured) error {
	for figure := range m.Figures {
		if partOf(figure) != name {
			return fmt.Errorf("figure %s of %s has the name of one of %s", figure, name, partOf(figure))
		}
	}
	for figure := range r.Figures {
		if partOf(figure) == name {
			delete(r.Figures, figure)
		}
	}
	maps.Copy(r.Figures, m.Figures)
	if name == partPipeline {
		r.Machine, r.Version, r.ClickHouse, r.Measured, r.Data, r.Command = m.Machine, m.Version, m.ClickHouse, m.At, m.Data, m.Command
		return nil
	}
	if r.Runs == nil {
		r.Runs = make(map[part]measured)
	}
	r.Runs[name] = m
	return nil
}
