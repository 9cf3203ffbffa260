// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow/bitutil"
)

// read checks the columns of a message against the layout and notes where they lie in the body.
func (c *Columns) read(m message, body []byte) error {
	layout := c.layout
	if got := len(m.nodes) / nodeBytes; got != layout.present {
		return fmt.Errorf("%d columns, want %d: %w", got, layout.present, ErrMalformed)
	}
	c.rows, c.body = int(m.rows), body
	buffers := bufferReader{list: m.buffers, body: body}
	nodes := m.nodes
	for i := range layout.columns {
		if layout.columns[i].absent {
			c.places[i] = place{nulls: uint32(c.rows)}
			continue
		}
		node := nodes[:nodeBytes]
		nodes = nodes[nodeBytes:]
		if err := c.readColumn(i, m.rows, node, &buffers); err != nil {
			return fmt.Errorf("column %s: %w", layout.schema.Field(i).Name, err)
		}
	}
	if len(buffers.list) != 0 {
		return fmt.Errorf("%d buffers more than the columns have: %w", len(buffers.list)/bufferBytes, ErrMalformed)
	}
	if need := layout.zeros(c.rows); len(c.zeros) < need {
		c.zeros = make([]byte, need)
	}
	return nil
}

// readColumn reads the node of a column and as many buffers as its type has: validity and values, of texts
// validity, offsets and values.
func (c *Columns) readColumn(i int, rows int64, node []byte, buffers *bufferReader) error {
	length, nulls := int64(binary.LittleEndian.Uint64(node)), int64(binary.LittleEndian.Uint64(node[8:]))
	kind := c.layout.columns[i]
	switch {
	case length != rows:
		return fmt.Errorf("%d rows of %d: %w", length, rows, ErrMalformed)
	case nulls < 0 || nulls > length:
		return fmt.Errorf("%d nulls in %d rows: %w", nulls, length, ErrMalformed)
	case nulls > 0 && !kind.nullable:
		return fmt.Errorf("%d nulls, and it may have none: %w", nulls, ErrMalformed)
	}
	if kind.foreign {
		return fmt.Errorf("type %v is not in the table of types: %w", c.layout.schema.Field(i).Type, ErrMalformed)
	}
	at := &c.places[i]
	*at = place{nulls: uint32(nulls)}
	validity, err := buffers.next()
	if err != nil {
		return err
	}
	if nulls > 0 {
		if at.valid, err = checkValidity(buffers.body, validity, length, nulls); err != nil {
			return err
		}
	}
	return at.readValues(kind, length, buffers)
}

// checkValidity holds the number of nulls against the bitmap.
func checkValidity(body []byte, bitmap span, length, nulls int64) (span, error) {
	need := (length + 7) / 8
	if bitmap.bytes() < need {
		return span{}, fmt.Errorf("validity of %d bytes, want %d: %w", bitmap.bytes(), need, ErrMalformed)
	}
	if valid := bitutil.CountSetBits(bitmap.of(body), 0, int(length)); int64(valid) != length-nulls {
		return span{}, fmt.Errorf("%d values are valid, announced %d: %w", valid, length-nulls, ErrMalformed)
	}
	return bitmap.first(need), nil
}

// readValues reads the buffers after the validity.
func (p *place) readValues(kind columnLayout, length int64, buffers *bufferReader) error {
	first, err := buffers.next()
	if err != nil {
		return err
	}
	if !kind.text {
		need := length * int64(kind.width)
		if first.bytes() < need {
			return fmt.Errorf("values of %d bytes, want %d: %w", first.bytes(), need, ErrMalformed)
		}
		p.values = first.first(need)
		return nil
	}
	need := (length + 1) * 4
	if first.bytes() < need {
		return fmt.Errorf("offsets of %d bytes, want %d: %w", first.bytes(), need, ErrMalformed)
	}
	p.values = first.first(need)
	if p.text, err = buffers.next(); err != nil {
		return err
	}
	return checkTexts(p.values.of(buffers.body), p.text.of(buffers.body))
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

func (r *bufferReader) next() (span, error) {
	if len(r.list) < bufferBytes {
		return span{}, fmt.Errorf("no buffer is left for it: %w", ErrMalformed)
	}
	offset, length := int64(binary.LittleEndian.Uint64(r.list)), int64(binary.LittleEndian.Uint64(r.list[8:]))
	r.list = r.list[bufferBytes:]
	if length == 0 {
		return span{}, nil
	}
	total := int64(len(r.body))
	if offset < r.end || offset%8 != 0 || length < 0 || offset > total || length > total-offset {
		return span{}, fmt.Errorf("buffer of %d bytes at %d, after one that ends at %d, in a body of %d: %w", length, offset, r.end, total, ErrMalformed)
	}
	r.end = offset + length
	return span{uint32(offset), uint32(r.end)}, nil
}
