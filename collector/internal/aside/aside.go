// SPDX-License-Identifier: Apache-2.0

// Package aside puts batches that can never be stored into quarantine. It promises that whoever is told so by nil finds
// the batch in a file, with the reason, and its entry in the ledger: in this order, so that a crash between the two leaves
// a batch that is sent again, and no entry without a file. It has no goroutine.
package aside

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/gpufleet/gpufleet/collector/quarantine"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// ErrNotKept is an error of Put and Keep: there is no file of it.
var ErrNotKept = errors.New("keep in quarantine")

// Files keeps batches.
type Files interface {
	Put(e quarantine.Entry, d quarantine.Data) (path string, err error)
}

// Ledger records that a batch can never be stored.
type Ledger interface {
	Quarantined(ctx context.Context, k wire.Key, rows int64, reason string) error
}

// Aside is where batches are put. All must be set.
type Aside struct {
	Collector string // its name
	Files     Files
	Ledger    Ledger
	Logger    *slog.Logger
	Now       func() time.Time
}

// Put keeps a batch of a node, and records it. The name of the node may be unknown: empty.
func (a Aside) Put(ctx context.Context, node string, b *wire.Batch, reason error) error {
	if err := a.Keep(node, b, reason); err != nil {
		return err
	}
	return a.Ledger.Quarantined(ctx, b.Identity.Key(), int64(b.Identity.Rows), reason.Error())
}

// Keep keeps what may be no batch at all, so that there is nothing to record.
func (a Aside) Keep(node string, b *wire.Batch, reason error) error {
	i, table := b.Identity, schema.TableName(b.Identity.Table)
	path, err := a.Files.Put(quarantine.Entry{
		Table: table, NodeName: node, Node: i.Node, Epoch: i.Epoch, Sequence: i.Sequence, Rows: i.Rows,
		Reason: reason.Error(), ReceivedAt: a.Now().UTC(), Collector: a.Collector,
		Tenant: b.Scope.Tenant, Residency: b.Scope.Residency,
	}, quarantine.Data{Metadata: b.Metadata, Header: b.Header, Body: b.Body})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotKept, err)
	}
	a.Logger.Warn("batch quarantined", "node", node, "batch", i.Key().String(), "table", table, "reason", reason, "file", path)
	return nil
}

// wait bounds the entry of a batch that the store refused.
const wait = 30 * time.Second

// Outlast is a context for what is refused after it was accepted: it does not end with the stream that the batch came by.
func Outlast(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), wait)
}
