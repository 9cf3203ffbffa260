// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/klauspost/compress/zstd"
)

// NewOlderDecoder makes a decoder for batches that an earlier version made: they have the named columns of the schema, in
// its order, and lack those that it has gained since, which are NULL. It refuses names that do not fit the schema, and a
// schema whose rows mean nothing without what is lacking.
func NewOlderDecoder(schema *arrow.Schema, names []string, z *zstd.Decoder) (*Decoder, error) {
	if len(names) == 0 {
		return nil, fmt.Errorf("batches without a column: %w", ErrMalformed)
	}
	l := newLayout(schema)
	l.present = len(names)
	for i, field := range schema.Fields() {
		if len(names) > 0 && names[0] == field.Name {
			names = names[1:]
			continue
		}
		if !field.Nullable {
			return nil, fmt.Errorf("batches lack column %s, which may not be NULL: %w", field.Name, ErrMalformed)
		}
		l.columns[i].absent = true
	}
	if len(names) > 0 {
		return nil, fmt.Errorf("batches have a column %.64q, which is not known or not in its place: %w", names[0], ErrMalformed)
	}
	return &Decoder{layout: l, zstd: z}, nil
}

// zeros is how many bytes the columns need that a batch of so many rows lacks; 0 if it lacks none.
func (l *layout) zeros(rows int) (most int) {
	if l.present == len(l.columns) {
		return 0
	}
	for _, c := range l.columns {
		most = max(most, c.width*(rows+1))
	}
	return most
}
