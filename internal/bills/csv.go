// SPDX-License-Identifier: Apache-2.0

package bills

import (
	"compress/gzip"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Read reads a bill and calls for each of its rows, in its order: it holds one row in memory, of Parquet one batch. The name
// says what it is: .csv, .csv.gz, .parquet.
func Read(ctx context.Context, path string, each func(Charge) error) error {
	source := filepath.Base(path)
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read the bill: %w", err)
	}
	defer file.Close() //nolint:errcheck // it was read
	each = untilDone(ctx, each)
	switch name := strings.ToLower(source); {
	case strings.HasSuffix(name, ".parquet"):
		err = readParquet(ctx, file, source, each)
	case strings.HasSuffix(name, ".csv"):
		err = ReadCSV(file, source, each)
	case strings.HasSuffix(name, ".csv.gz"):
		err = readGzip(file, source, each)
	default:
		err = errors.New("its name ends in none of .csv, .csv.gz, .parquet")
	}
	if err != nil {
		return fmt.Errorf("read the bill %s: %w", source, err)
	}
	return nil
}

// untilDone ends the reading of a file when the context does.
func untilDone(ctx context.Context, each func(Charge) error) func(Charge) error {
	return func(c Charge) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return each(c)
	}
}

func readGzip(r io.Reader, source string, each func(Charge) error) error {
	unpacked, err := gzip.NewReader(r)
	if err != nil {
		return err
	}
	return ReadCSV(unpacked, source, each)
}

// ReadCSV reads a bill with a header.
func ReadCSV(r io.Reader, source string, each func(Charge) error) error {
	rows := csv.NewReader(r)
	rows.FieldsPerRecord, rows.ReuseRecord = -1, true
	header, err := rows.Read()
	if err != nil {
		return fmt.Errorf("its header: %w", err)
	}
	places, err := placesIn(header)
	if err != nil {
		return err
	}
	for {
		cells, err := rows.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		line, _ := rows.FieldPos(0)
		if err := each(newCharge(record{places: places, cells: cells, line: line}, source)); err != nil {
			return err
		}
	}
}
