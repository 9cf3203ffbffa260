// SPDX-License-Identifier: Apache-2.0

package exposition

import (
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
)

// Sink takes the rows of a node.
type Sink interface {
	Append(table uint8, cells []batch.Cell) error
	FlushDue(now time.Time) error
	FlushTable(table uint8) error
}

// Watch stands between those who make rows and the sink that takes them, and shows each row to a page.
type Watch struct {
	Sink
	page *Page
}

// NewWatch makes a watch before a sink.
func NewWatch(sink Sink, page *Page) *Watch { return &Watch{Sink: sink, page: page} }

// Append hands a row on. One that the sink refuses is not shown.
func (w *Watch) Append(table uint8, cells []batch.Cell) error {
	if err := w.Sink.Append(table, cells); err != nil {
		return err
	}
	w.page.Take(table, cells)
	return nil
}
