// SPDX-License-Identifier: Apache-2.0

package bills

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
)

// parquetRows is how many rows of a file are in memory at a time, and no more of it than their row group's columns.
const parquetRows = 4096

// readParquet reads a bill in Parquet. Hostile files can make the library panic: that is an error here.
func readParquet(ctx context.Context, f *os.File, source string, each func(Charge) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("it is no sound Parquet file: %v", r)
		}
	}()
	raw, err := file.NewParquetReader(f)
	if err != nil {
		return err
	}
	defer raw.Close() //nolint:errcheck // it was read
	reader, err := pqarrow.NewFileReader(raw, pqarrow.ArrowReadProperties{BatchSize: parquetRows}, memory.DefaultAllocator)
	if err != nil {
		return err
	}
	batches, err := reader.GetRecordReader(ctx, nil, nil)
	if err != nil {
		return err
	}
	defer batches.Release()
	header := make([]string, batches.Schema().NumFields())
	fractions := false
	for i, field := range batches.Schema().Fields() {
		header[i] = field.Name
		fractions = fractions || arrow.IsFloating(field.Type.ID())
	}
	places, err := placesIn(header)
	if err != nil {
		return err
	}
	line := 0
	cells := make([]string, len(header))
	for {
		batch, err := batches.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for row := range int(batch.NumRows()) {
			line++
			for i := range cells {
				cells[i] = cellText(batch.Column(i), row)
			}
			if err := each(newCharge(record{places: places, cells: cells, line: line, binary: fractions}, source)); err != nil {
				return err
			}
		}
	}
}

// cellText is a value as a CSV file would have it; "" is NULL.
func cellText(column arrow.Array, row int) string {
	if column.IsNull(row) {
		return ""
	}
	switch c := column.(type) {
	case *array.Timestamp:
		unit := c.DataType().(*arrow.TimestampType).Unit
		return c.Value(row).ToTime(unit).UTC().Format(time.RFC3339Nano)
	case *array.Date32:
		return c.Value(row).ToTime().Format(time.DateOnly)
	case *array.Float64: // the shortest decimal that it stands for
		return strconv.FormatFloat(c.Value(row), 'f', -1, 64)
	case *array.Float32:
		return strconv.FormatFloat(float64(c.Value(row)), 'f', -1, 32)
	default:
		return column.ValueStr(row)
	}
}
