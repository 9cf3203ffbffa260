// SPDX-License-Identifier: Apache-2.0

package event

import (
	"cmp"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/schema"
)

// Sink takes rows and sends them. It may be used by several goroutines.
type Sink interface {
	// Append adds a row: the wire columns of a table in order. The cells are only valid in the call.
	Append(table uint8, cells []batch.Cell) error
	// FlushTable sends the open batch of a table now.
	FlushTable(table uint8) error
}

// sendWithin lets the events of one moment share a batch.
const sendWithin = 100 * time.Millisecond

// Journal writes events. It may be used by several goroutines.
type Journal struct {
	sink Sink

	mu    sync.Mutex  // guards the fields below
	timer *time.Timer // sends what was written; nil while nothing waits
	err   error       // of a flush, told by the next call
}

// NewJournal makes a journal.
func NewJournal(sink Sink) *Journal { return &Journal{sink: sink} }

// Write appends an event.
func (j *Journal) Write(e Event) error {
	if err := j.WriteCells(e.Cells()); err != nil {
		return fmt.Errorf("write event %s: %w", e.Kind, err)
	}
	return nil
}

// WriteCells appends an event that is laid out already, as one that was recorded is.
func (j *Journal) WriteCells(cells []batch.Cell) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return j.err
	}
	if err := j.sink.Append(schema.EventsID, cells); err != nil {
		return err
	}
	if j.timer == nil {
		j.timer = time.AfterFunc(sendWithin, func() {
			j.mu.Lock()
			defer j.mu.Unlock()
			j.flushLocked()
		})
	}
	return nil
}

// errClosed is told to those who write too late.
var errClosed = errors.New("the agent has ended")

// Close sends what was written, and takes no more. It leaves no timer behind.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.flushLocked()
	err := j.err
	j.err = cmp.Or(j.err, errClosed)
	return err
}

// Flush sends what was written. It leaves no timer behind, unless more is written.
func (j *Journal) Flush() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.flushLocked()
	return j.err
}

func (j *Journal) flushLocked() {
	if j.timer == nil {
		return
	}
	j.timer.Stop()
	j.timer = nil
	if err := j.sink.FlushTable(schema.EventsID); err != nil {
		j.err = fmt.Errorf("send events: %w", err)
	}
}
