// SPDX-License-Identifier: Apache-2.0

package prices

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Outcome is what came of asking a feed.
type Outcome string

// The outcomes.
const (
	WasRead     Outcome = "read"
	NotModified Outcome = "not_modified" // it is as it was
	Failed      Outcome = "failed"       // the prices of before stay in use
)

// Reading is one time that a feed was asked.
type Reading struct {
	At                  time.Time
	Source, Format      string
	Outcome             Outcome
	Validators          Validators
	Prices, Quarantined int // of WasRead
	Detail              string
}

// Record notes that a feed was asked.
func Record(ctx context.Context, conn driver.Conn, r Reading) error {
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"distributed_foreground_insert": 1}))
	batch, err := conn.PrepareBatch(ctx, "INSERT INTO price_reads (read_at, source, format, outcome, etag, last_modified, prices, quarantined, detail)")
	if err != nil {
		return fmt.Errorf("note the reading of %s: %w", r.Source, err)
	}
	defer batch.Close() //nolint:errcheck // what counts is Send
	var usable, quarantined *uint32
	if r.Outcome == WasRead {
		usable, quarantined = new(uint32(r.Prices)), new(uint32(r.Quarantined))
	}
	err = batch.Append(r.At, r.Source, r.Format, string(r.Outcome), textOrNil(r.Validators.ETag), textOrNil(r.Validators.LastModified), usable, quarantined, textOrNil(r.Detail))
	if err != nil {
		return fmt.Errorf("note the reading of %s: %w", r.Source, err)
	}
	if err := batch.Send(); err != nil {
		return fmt.Errorf("note the reading of %s: %w", r.Source, err)
	}
	return nil
}

// LastReading is the last time that a feed could be read, with the validators of its answer; false if it never was.
func LastReading(ctx context.Context, conn driver.Conn, source string) (Reading, bool, error) {
	var found []struct {
		At       time.Time `ch:"at"`
		ETag     *string   `ch:"etag"`
		Modified *string   `ch:"last_modified"`
	}
	err := conn.Select(ctx, &found, `SELECT read_at AS at, etag, last_modified FROM price_reads WHERE source = ? AND outcome IN ('read', 'not_modified') ORDER BY read_at DESC LIMIT 1`, source)
	if err != nil {
		return Reading{}, false, fmt.Errorf("ask when %s was last read: %w", source, err)
	}
	if len(found) == 0 {
		return Reading{}, false, nil
	}
	r := Reading{At: found[0].At, Source: source}
	if found[0].ETag != nil {
		r.Validators.ETag = *found[0].ETag
	}
	if found[0].Modified != nil {
		r.Validators.LastModified = *found[0].Modified
	}
	return r, true, nil
}

func textOrNil(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
