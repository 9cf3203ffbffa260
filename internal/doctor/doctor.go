// SPDX-License-Identifier: Apache-2.0

// Package doctor looks at what a node or a pipeline lacks, and says for each thing what helps. It looks
// without changing anything: it loads no driver, and starts no ClickHouse.
package doctor

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// Level is how bad a finding is.
type Level string

// The levels.
const (
	OK   Level = "ok"
	Warn Level = "warn" // it works, with less than could be had
	Fail Level = "fail" // something does not work
)

// Finding is what was seen of one thing.
type Finding struct {
	Check string `json:"check"`
	Level Level  `json:"level"`
	Says  string `json:"says"`
	Fix   string `json:"fix,omitempty"` // what helps; empty if nothing is wrong
}

// Report is all findings.
type Report struct {
	OK       int       `json:"ok"`
	Warnings int       `json:"warn"`
	Failures int       `json:"fail"`
	Findings []Finding `json:"checks"`
}

// Config says what is looked at besides this machine.
type Config struct {
	DataDir    string   // of `gpufleet up`
	Library    string   // path of libchdb.so; empty: search
	ClickHouse string   // URL; empty: the one of DataDir if it runs
	Password   string   // for ClickHouse, if its URL has none
	Shards     []string // HTTP addresses of the shards, if it is of a cluster; none: the cluster's own hosts
	Collector  string   // host:port, several with commas between; empty: none
	TLS        *tls.Config

	machine machine // zero: this one
}

// Run makes every check. A check that cannot be made is a finding, too.
func Run(ctx context.Context, cfg Config) Report {
	if cfg.machine.root == "" {
		cfg.machine = thisMachine()
	}
	m := cfg.machine
	findings := []Finding{m.kernel()}
	findings = append(findings, m.gpus()...)
	findings = append(findings, m.kernelLog())
	findings = append(findings, m.rights(ctx)...)
	findings = append(findings, m.clock(), m.memory(), m.disk(cfg.DataDir), clickhouseProgram(ctx, cfg.Library))
	findings = append(findings, services(ctx, cfg)...)
	report := Report{Findings: findings}
	for _, f := range findings {
		switch f.Level {
		case OK:
			report.OK++
		case Warn:
			report.Warnings++
		case Fail:
			report.Failures++
		}
	}
	return report
}

// WriteJSON writes the report as one line, for programs.
func (r Report) WriteJSON(w io.Writer) error {
	if err := json.NewEncoder(w).Encode(r); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// WriteText writes a line for each finding, with the fix below it.
func (r Report) WriteText(w io.Writer) error {
	for _, f := range r.Findings {
		fmt.Fprintf(w, "%-4s  %-18s %s\n", f.Level, f.Check, f.Says)
		if f.Fix != "" {
			fmt.Fprintf(w, "%-4s  %-18s → %s\n", "", "", strings.ReplaceAll(f.Fix, "\n", "\n"+strings.Repeat(" ", 27)))
		}
	}
	if _, err := fmt.Fprintf(w, "ok: %d, warnings: %d, failures: %d\n", r.OK, r.Warnings, r.Failures); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

func ok(check, format string, args ...any) Finding {
	return Finding{Check: check, Level: OK, Says: fmt.Sprintf(format, args...)}
}

func warn(check, says, fix string) Finding {
	return Finding{Check: check, Level: Warn, Says: says, Fix: fix}
}

func fail(check, says, fix string) Finding {
	return Finding{Check: check, Level: Fail, Says: says, Fix: fix}
}
