// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"

	"github.com/gpufleet/gpufleet/schema/wire"
)

// life is what the folder remembers of the latest life of its agent, when it holds no batches, too: two lives
// with one epoch would have two batches with one identity.
//
//	 0         4        12      16      20
//	┌─────────┬────────┬───────┬───────┬───────────┐
//	│ "GFL" 1 │ epoch  │ length│ crc   │ node name │
//	│         │ uint64 │ u32   │ u32   │ UTF-8     │
//	└─────────┴────────┴───────┴───────┴───────────┘
//
// Little endian; crc is the CRC-32C of the bytes 0 to 16 and the name.
type life struct {
	epoch uint64
	node  string // its name; "" if there was none before
}

const (
	lifeName      = "life"
	lifeBytes     = 20
	lifeCovered   = 16
	maxLifeBytes  = lifeBytes + 253
	halfWritten   = ".tmp"
	lifeMagicText = "GFL\x01"
)

func (l life) appendTo(b []byte) []byte {
	start := len(b)
	b = append(b, lifeMagicText...)
	b = binary.LittleEndian.AppendUint64(b, l.epoch)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(l.node)))
	crc := crc32.Update(crc32.Checksum(b[start:], castagnoli), castagnoli, []byte(l.node))
	b = binary.LittleEndian.AppendUint32(b, crc)
	return append(b, l.node...)
}

func parseLife(b []byte) (life, error) {
	if len(b) < lifeBytes || string(b[:4]) != lifeMagicText {
		return life{}, fmt.Errorf("%d bytes that do not start with %q: %w", len(b), lifeMagicText, errBad)
	}
	name := b[lifeBytes:]
	if got := crc32.Update(crc32.Checksum(b[:lifeCovered], castagnoli), castagnoli, name); got != binary.LittleEndian.Uint32(b[lifeCovered:]) {
		return life{}, fmt.Errorf("CRC-32C %08x, written with %08x: %w", got, binary.LittleEndian.Uint32(b[lifeCovered:]), errBad)
	}
	if int(binary.LittleEndian.Uint32(b[12:])) != len(name) || wire.CheckNodeName(string(name)) != nil {
		return life{}, fmt.Errorf("node name of %d bytes: %w", len(name), errBad)
	}
	return life{epoch: binary.LittleEndian.Uint64(b[4:]), node: string(name)}, nil
}

// readLife reads the latest life; its node is "" if there was none.
func readLife(f folder) (life, error) {
	in, err := f.open(lifeName, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return life{}, nil
	}
	if err != nil {
		return life{}, err
	}
	defer in.Close() //nolint:errcheck // it was only read
	b := make([]byte, maxLifeBytes+1)
	n, _ := in.ReadAt(b, 0) // it is shorter: what is wrong with it, its checksum tells
	l, err := parseLife(b[:n])
	if err != nil {
		return life{}, fmt.Errorf("file %s: %w", lifeName, err)
	}
	return l, nil
}

// writeLife notes the present life, durably: beside its name, synced, and renamed.
func writeLife(f folder, l life) error {
	out, err := f.open(lifeName+halfWritten, os.O_CREATE|os.O_TRUNC|os.O_WRONLY)
	if err != nil {
		return err
	}
	_, err = out.Write(l.appendTo(nil))
	if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
		return fmt.Errorf("write file %s: %w", lifeName, err)
	}
	if err := f.rename(lifeName+halfWritten, lifeName); err != nil {
		return err
	}
	return syncFolder(f)
}
