// SPDX-License-Identifier: Apache-2.0

// Package account says what every GPU-millisecond of the inventory was spent on, and at which price. It makes
// account_hours of the rollups by minute, the inventory, owners, faults and prices, and proves that it is right. What is
// promised:
//
//   - Every millisecond in which a node has a GPU is in exactly one of six states, has one price or none, and belongs to
//     one owner, to several in equal parts, or to nobody. Sums of states are the inventory, to the last digit.
//   - An hour is a function of what is stored. It is made as a whole, under a version of its own, and counts once all its
//     rows are there; earlier versions stay. To make an hour twice, late, or by several at once is to make it once.
//   - What comes late, and a price that is corrected, is found by comparing hashes of what an hour was made of.
//
// Builder makes the hours, Check makes them again and compares, Rebuild makes them whatever there is. ClickHouse gathers,
// an hour and a range of GPUs at a time; the time is divided here. Nothing here has goroutines of its own.
package account

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Conn is what this package needs of ClickHouse. A connection of clickhouse-go is one.
type Conn interface {
	Exec(ctx context.Context, query string, args ...any) error
	Select(ctx context.Context, dest any, query string, args ...any) error
	PrepareBatch(ctx context.Context, query string, opts ...driver.PrepareBatchOption) (driver.Batch, error)
}

// Config is how the account is made. Start from DefaultConfig.
type Config struct {
	Database string // whose rows are accounted; of a cluster that of one shard
	Prices   string // database that has the prices; empty: the same
	By       string // who makes it, for account_builds
	// SliceGPUs is how many GPUs are gathered at a time: of each an hour takes about 3 kB here.
	SliceGPUs   uint64
	MemoryBytes uint64 // that a statement may take
	Timeout     time.Duration
}

// DefaultConfig suits a ClickHouse that has something else to do.
func DefaultConfig() Config {
	return Config{SliceGPUs: 20_000, MemoryBytes: 2 << 30, Timeout: 4 * time.Minute}
}

// Validate tells what is missing or cannot be honoured.
func (c Config) Validate() error {
	var problems []error
	if c.Database == "" || c.By == "" {
		problems = append(problems, errors.New("database and who makes the account must be given"))
	}
	if c.SliceGPUs == 0 || c.MemoryBytes < 64<<20 || c.Timeout <= 0 {
		problems = append(problems, fmt.Errorf("slices of %d GPUs, %d bytes, %s: at least 1, 64 MiB, and more than 0", c.SliceGPUs, c.MemoryBytes, c.Timeout))
	}
	return errors.Join(problems...)
}

// How long what is not said again still holds, and what of a later time an hour is made of.
const (
	// expected is how long a GPU belongs to the inventory after its agent last saw it: as in fleet_silent.
	expected = 7 * 24 * time.Hour
	// settled is how long after an hour its account may still change without anything coming late: an agent that stops
	// and comes back within that time was not taken away, and an owner who is not named again is gone two hours before.
	settled = 3 * time.Hour
	// faultHolds is how long a critical fault that nobody resolves is held against a GPU after it was last reported.
	faultHolds = 24 * time.Hour
	// verdictHolds is for how long one reading of the driver's recovery action holds: they come once a minute.
	verdictHolds = 90 * time.Second
)

const (
	second = int64(1000)
	minute = 60 * second
	hour   = 60 * minute
)

func timeOf(milliseconds int64) time.Time { return time.UnixMilli(milliseconds).UTC() }

func floor(at, unit int64) int64 { return at - at%unit }
