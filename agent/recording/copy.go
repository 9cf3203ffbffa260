// SPDX-License-Identifier: Apache-2.0

package recording

import (
	"errors"
	"fmt"
	"io"
)

// CopyMasked writes a recording without what names the machine that it was made on. about may correct what it says of
// itself. One that is cut off is copied as far as it is whole.
func CopyMasked(out io.Writer, in io.Reader, about func(Provenance) Provenance) (*Writer, error) {
	reader, err := NewReader(in)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	mask, err := NewMask(reader.Provenance().Node)
	if err != nil {
		return nil, err
	}
	defer mask.Close()
	w, err := NewWriter(out, about(mask.Provenance(reader.Provenance())))
	if err != nil {
		return nil, err
	}
	for {
		b, err := reader.Next()
		if errors.Is(err, io.EOF) || errors.Is(err, ErrCut) {
			return w, nil
		}
		if err != nil {
			return nil, err
		}
		masked, err := mask.encode(b.Record, b.Identity)
		b.Record.Release()
		if err != nil {
			return nil, fmt.Errorf("copy recording: %w", err)
		}
		if err := w.Write(masked); err != nil {
			return nil, err
		}
	}
}
