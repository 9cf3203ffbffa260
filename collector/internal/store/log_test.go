// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/gpufleet/gpufleet/collector/internal/batchlog"
	"github.com/gpufleet/gpufleet/collector/internal/batchtest"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema"
)

// TestLogBeforeFullLane: a log that hands over more than its lane takes still notes the units that make room.
func TestLogBeforeFullLane(t *testing.T) {
	log, err := batchlog.Open(batchlog.Config{Dir: t.TempDir(), MaxBytes: 1 << 30, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- log.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	db := clickhousetest.Start(t)
	cfg := config(endpoint(db.Writer))
	cfg.Notes, cfg.QueueItems, cfg.UnitRows = log, 2, 1
	r := start(t, cfg)
	table, at := batchtest.Table(t, schema.EventsID), today()
	var all []*sent
	for s := uint64(1); s <= 40; s++ {
		b := &sent{key: key(table.ID, s), record: batchtest.Record(table, s, 1, at), done: make(chan error, 2)}
		columns := batchtest.Columns(t, table, b.record)
		all = append(all, b)
		log.Append(batchtest.Encode(t, b.record, b.key), func(err error) {
			if err == nil {
				err = r.Submit(t.Context(), Item{Key: b.key, Columns: columns, From: at, To: at, Done: func(err error) { b.done <- err }})
			}
			if err != nil {
				b.done <- fmt.Errorf("hand over %v: %w", b.key, err)
			}
		})
	}
	wantStored(t, db.Reader, all...)
}
