// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// record makes the columns of the schema from the body. The columns are not copied.
func (m message) record(schema *arrow.Schema, body []byte) (arrow.RecordBatch, error) {
	if got := len(m.nodes) / nodeBytes; got != schema.NumFields() {
		return nil, fmt.Errorf("%d columns, want %d: %w", got, schema.NumFields(), ErrMalformed)
	}
	buffers := bufferReader{list: m.buffers, body: body}
	columns := make([]arrow.Array, 0, schema.NumFields())
	defer func() {
		for _, c := range columns {
			c.Release()
		}
	}()
	for i, field := range schema.Fields() {
		c, err := m.column(i, field, &buffers)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", field.Name, err)
		}
		columns = append(columns, c)
	}
	if len(buffers.list) != 0 {
		return nil, fmt.Errorf("%d buffers more than the columns have: %w", len(buffers.list)/bufferBytes, ErrMalformed)
	}
	return array.NewRecordBatch(schema, columns, m.rows), nil
}

// column reads the node of a column and as many buffers as its type has: validity and values, of texts
// validity, offsets and values.
func (m message) column(i int, field arrow.Field, buffers *bufferReader) (arrow.Array, error) {
	node := m.nodes[i*nodeBytes:]
	length, nulls := int64(binary.LittleEndian.Uint64(node)), int64(binary.LittleEndian.Uint64(node[8:]))
	switch {
	case length != m.rows:
		return nil, fmt.Errorf("%d rows of %d: %w", length, m.rows, ErrMalformed)
	case nulls < 0 || nulls > length:
		return nil, fmt.Errorf("%d nulls in %d rows: %w", nulls, length, ErrMalformed)
	case nulls > 0 && !field.Nullable:
		return nil, fmt.Errorf("%d nulls, and it may have none: %w", nulls, ErrMalformed)
	}
	var parts [3]*memory.Buffer
	validity, err := buffers.next()
	if err != nil {
		return nil, err
	}
	if nulls > 0 {
		if validity, err = checkValidity(validity, length, nulls); err != nil {
			return nil, err
		}
		parts[0] = memory.NewBufferBytes(validity)
	}
	n, err := values(parts[1:], field.Type, length, buffers)
	if err != nil {
		return nil, err
	}
	data := array.NewData(field.Type, int(length), parts[:1+n], nil, int(nulls), 0)
	defer data.Release()
	return array.MakeFromData(data), nil
}

// checkValidity holds the number of nulls against the bitmap.
func checkValidity(bitmap []byte, length, nulls int64) ([]byte, error) {
	need := (length + 7) / 8
	if int64(len(bitmap)) < need {
		return nil, fmt.Errorf("validity of %d bytes, want %d: %w", len(bitmap), need, ErrMalformed)
	}
	if valid := bitutil.CountSetBits(bitmap, 0, int(length)); int64(valid) != length-nulls {
		return nil, fmt.Errorf("%d values are valid, announced %d: %w", valid, length-nulls, ErrMalformed)
	}
	return bitmap[:need:need], nil
}

// values reads the buffers after the validity into parts and tells how many there are.
func values(parts []*memory.Buffer, t arrow.DataType, length int64, buffers *bufferReader) (int, error) {
	first, err := buffers.next()
	if err != nil {
		return 0, err
	}
	if fixed, ok := t.(arrow.FixedWidthDataType); ok {
		need := length * int64(fixed.Bytes())
		if int64(len(first)) < need {
			return 0, fmt.Errorf("values of %d bytes, want %d: %w", len(first), need, ErrMalformed)
		}
		parts[0] = memory.NewBufferBytes(first[:need:need])
		return 1, nil
	}
	if t.ID() != arrow.STRING {
		return 0, fmt.Errorf("type %v is not in the table of types: %w", t, ErrMalformed)
	}
	need := (length + 1) * 4
	if int64(len(first)) < need {
		return 0, fmt.Errorf("offsets of %d bytes, want %d: %w", len(first), need, ErrMalformed)
	}
	second, err := buffers.next()
	if err != nil {
		return 0, err
	}
	if err := checkTexts(first[:need], second); err != nil {
		return 0, err
	}
	parts[0], parts[1] = memory.NewBufferBytes(first[:need:need]), memory.NewBufferBytes(second)
	return 2, nil
}

// checkTexts makes sure that each text lies behind the one before it and is UTF-8. All of them together
// are looked at once: they are UTF-8 if the whole is and none starts in the middle of a character.
func checkTexts(offsets, text []byte) error {
	first := int64(int32(binary.LittleEndian.Uint32(offsets)))
	last := first
	if first < 0 || first > int64(len(text)) {
		return fmt.Errorf("first text at %d of %d bytes: %w", first, len(text), ErrMalformed)
	}
	for ; len(offsets) > 0; offsets = offsets[4:] {
		at := int64(int32(binary.LittleEndian.Uint32(offsets)))
		if at < last || at > int64(len(text)) {
			return fmt.Errorf("text from %d to %d of %d bytes: %w", last, at, len(text), ErrMalformed)
		}
		if at < int64(len(text)) && !utf8.RuneStart(text[at]) {
			return fmt.Errorf("text starts within a character: %w", ErrMalformed)
		}
		last = at
	}
	if !utf8.Valid(text[first:last]) {
		return fmt.Errorf("text is not UTF-8: %w", ErrMalformed)
	}
	return nil
}

// bufferReader hands out the buffers of a message in order. They may not overlap, or a small message
// could say that each of a hundred columns is all of the body.
type bufferReader struct {
	list []byte
	body []byte
	end  int64 // of the last buffer
}

func (r *bufferReader) next() ([]byte, error) {
	if len(r.list) < bufferBytes {
		return nil, fmt.Errorf("no buffer is left for it: %w", ErrMalformed)
	}
	offset, length := int64(binary.LittleEndian.Uint64(r.list)), int64(binary.LittleEndian.Uint64(r.list[8:]))
	r.list = r.list[bufferBytes:]
	if length == 0 {
		return nil, nil
	}
	total := int64(len(r.body))
	if offset < r.end || offset%8 != 0 || length < 0 || offset > total || length > total-offset {
		return nil, fmt.Errorf("buffer of %d bytes at %d, after one that ends at %d, in a body of %d: %w", length, offset, r.end, total, ErrMalformed)
	}
	r.end = offset + length
	return r.body[offset:r.end], nil
}
