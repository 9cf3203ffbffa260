// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"errors"
	"fmt"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/gpufleet/gpufleet/collector/quarantine"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// Contents is what a batch holds, as far as it can be read.
type Contents struct {
	Bytes   int   // of the batch, without the file's frame
	Rows    int   // that could be read
	Columns int   // that have a value in any row
	Bad     error // what this version finds wrong, with its column or row; nil: nothing
	// The rows with the lowest and the highest time, from 0 on: what is too old or too far ahead is one of them.
	Oldest, Newest       time.Time
	OldestRow, NewestRow int
}

// Examine reads a batch as a collector of this version would.
func Examine(f File) Contents {
	_, data, err := quarantine.Read(f.Path)
	if err != nil {
		return Contents{Bad: err}
	}
	c := Contents{Bytes: len(data.Metadata) + len(data.Header) + len(data.Body)}
	table, ok := schema.TableByName(f.Entry.Table)
	if !ok {
		c.Bad = fmt.Errorf("this version has no table %s", f.Entry.Table)
		return c
	}
	identity, err := wire.ParseIdentity(data.Metadata, data.Header, data.Body)
	if err != nil {
		c.Bad = err
		return c
	}
	if sent := f.Entry; identity.Node != sent.Node || identity.Epoch != sent.Epoch || identity.Table != table.ID {
		c.Bad = fmt.Errorf("the batch says that it is %v, and it came from node %s, life %d, for %s", identity.Key(), f.Node(), sent.Epoch, sent.Table)
	}
	z, err := wire.NewDecompressor()
	if err != nil {
		c.Bad = err
		return c
	}
	defer z.Close()
	columns, err := wire.NewDecoder(table.WireSchema(), z).Columns(identity, data.Header, data.Body)
	if err != nil {
		c.Bad = errors.Join(c.Bad, err)
		return c
	}
	defer columns.Release()
	c.count(columns)
	return c
}

// count looks at the columns of a batch that is whole. The first of them is the time.
func (c *Contents) count(columns *wire.Columns) {
	c.Rows = columns.Rows()
	for i := range columns.Schema().NumFields() {
		column := columns.Column(i)
		for row := range c.Rows {
			if !column.Null(row) {
				c.Columns++
				break
			}
		}
	}
	unit, ok := columns.Schema().Field(0).Type.(*arrow.TimestampType)
	if !ok {
		return
	}
	times := columns.Column(0)
	for row := range c.Rows {
		at := arrow.Timestamp(times.Uint64(row)).ToTime(unit.Unit)
		if row == 0 || at.Before(c.Oldest) {
			c.Oldest, c.OldestRow = at, row
		}
		if row == 0 || at.After(c.Newest) {
			c.Newest, c.NewestRow = at, row
		}
	}
}
