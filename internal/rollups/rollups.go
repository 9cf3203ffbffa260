// SPDX-License-Identifier: Apache-2.0

// Package rollups makes gpu_samples_1m and gpu_samples_1h of gpu_samples, and proves that they are right. A row of a
// rollup is a function of the samples of one GPU and one window, carries how many there were, and replaces rows of the
// same window that were made of fewer. Samples are only ever added. From that follows all that is promised:
//
//   - To make rows twice, late, in any order, or by several at the same time, is to make them once.
//   - A window is right when its row says as many samples as there are; sums over many windows agree only if each does.
//   - Whoever dies at any step leaves rows that are right, or that are found to say too few, and made again.
//
// Builder makes them, Check compares them with the samples to the last digit, Rebuild makes them anew whatever they
// say. All work is done in ClickHouse, in slices of one hour and a range of GPUs, so that each statement is bounded;
// nothing here has goroutines of its own.
package rollups

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// Conn is what this package needs of ClickHouse. A connection of clickhouse-go is one.
type Conn interface {
	// Exec runs a statement.
	Exec(ctx context.Context, query string, args ...any) error
	// Select runs a query and appends its rows to the slice that dest points to, a struct each, whose
	// tags ch name the columns.
	Select(ctx context.Context, dest any, query string, args ...any) error
}

// Limits bound what one statement takes.
type Limits struct {
	SliceSamples uint64 // samples that one statement rolls up, about: at 1 Hz a row is made of 60
	MemoryBytes  uint64 // that one statement may take; one that needs more is done in halves
	Threads      int    // of one statement
	Timeout      time.Duration
}

// DefaultLimits suit a ClickHouse that has something else to do. A row that is being made takes 15 kB.
func DefaultLimits() Limits {
	return Limits{SliceSamples: 1_000_000, MemoryBytes: 1 << 30, Threads: 2, Timeout: 4 * time.Minute}
}

func (l Limits) validate() error {
	if l.SliceSamples == 0 || l.MemoryBytes < 64<<20 || l.Threads < 1 || l.Timeout <= 0 {
		return fmt.Errorf("limits of %d samples, %d bytes, %d threads, %s: at least 1, 64 MiB, 1, and more than 0", l.SliceSamples, l.MemoryBytes, l.Threads, l.Timeout)
	}
	return nil
}

// Config is how rollups are made. Start from DefaultConfig.
type Config struct {
	Database  string
	Collector string        // who makes them, unique among those that write to one database
	Every     time.Duration // between two looks
	Grace     time.Duration // after the end of a minute until it is rolled up: what comes later is late. Negative: before its end
	Sweep     time.Duration // between two looks for late samples of the hour that is not over
	Quiet     time.Duration // an hour to which late samples come is rolled up again when none came for this time,
	MaxDelay  time.Duration // or when the first has waited this long
	TakeOver  time.Duration // who has recorded nothing for this long does not make them any more
	Limits    Limits
	Logger    *slog.Logger
	Meter     metric.Meter
	// Attributes are those of all metrics: one process may make the rollups of several shards.
	Attributes []attribute.KeyValue
	// OnStep is told of each step, before the next one; nil if nobody asks. Tests end the process there.
	OnStep func(step string)
}

// The steps that OnStep is told of.
const (
	StepMinutes  = "rollup minutes built"   // a slice of new minutes is there, and the boundary is where it was
	StepMoved    = "rollup boundary moved"  // the boundary is behind the new minutes
	StepMended   = "rollup minutes mended"  // a slice of minutes that lacked late samples is there
	StepHours    = "rollup hours built"     // a slice of hours is there
	StepRecorded = "rollup hour recorded"   // it is recorded that an hour is complete
	StepRemoved  = "rollup windows removed" // of a rebuild: windows without samples are gone
)

// DefaultConfig rolls a minute up a quarter of a minute after its end.
func DefaultConfig() Config {
	return Config{
		Every: 5 * time.Second, Grace: 15 * time.Second, Sweep: 5 * time.Minute, Quiet: time.Minute, MaxDelay: 10 * time.Minute,
		TakeOver: 150 * time.Second, Limits: DefaultLimits(), Logger: slog.New(slog.DiscardHandler), Meter: noop.Meter{},
	}
}

// Validate tells what is missing or cannot be honoured.
func (c Config) Validate() error {
	problems := []error{c.Limits.validate()}
	if c.Database == "" || c.Collector == "" {
		problems = append(problems, errors.New("database and collector must be given"))
	}
	if c.Every <= 0 || c.Sweep <= 0 || c.Quiet < 0 || c.MaxDelay < c.Quiet {
		problems = append(problems, fmt.Errorf("every %s, sweep %s, quiet %s, delay %s: not negative, and the delay not below quiet", c.Every, c.Sweep, c.Quiet, c.MaxDelay))
	}
	if c.TakeOver < 2*time.Minute {
		problems = append(problems, fmt.Errorf("take over after %s: at least 2m, as the boundary moves once a minute", c.TakeOver))
	}
	return errors.Join(problems...)
}
