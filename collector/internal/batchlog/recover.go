// SPDX-License-Identifier: Apache-2.0

package batchlog

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/gpufleet/gpufleet/internal/frames"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// openLane reads what an earlier life has left.
func openLane(cfg Config, t schema.Table, f folder) (*lane, error) {
	n := newLane(cfg, t, f)
	files, err := f.list()
	if err != nil {
		return nil, fmt.Errorf("open collector's log of %s: %w", t.Name, err)
	}
	names := slices.Sorted(maps.Keys(files)) // by age
	var newest string
	for _, name := range names {
		if _, ok := parseName(name); ok {
			newest = name
		}
	}
	for _, name := range names {
		g := &segment{name: name, size: files[name]}
		if strings.HasSuffix(name, segmentSuffix+damagedSuffix) {
			n.aside = append(n.aside, g)
			n.size += g.size
		}
		number, ok := parseName(name)
		if !ok {
			continue
		}
		n.number = max(n.number, number)
		n.size += g.size
		if n.readable(g, name == newest) {
			n.segments = append(n.segments, g)
		}
	}
	n.drop()
	return n, nil
}

// readable enters what is in a segment. It is false for one that the disk, or a limit of this process, kept from being read
// to its end: that one is left as it is, for a later start.
func (n *lane) readable(g *segment, newest bool) bool {
	err := n.recover(g, newest)
	switch {
	case err == nil:
	case errors.Is(err, errColumns), errors.Is(err, errOpening):
		g.damaged = true
		n.cfg.Logger.Error("a segment of the log cannot be read, and is set aside; agents send again what was in it", "table", n.table.Name, "file", g.name, "error", err)
	default:
		n.cfg.Logger.Error("a segment of the log cannot be read now, and is left for a later start", "table", n.table.Name, "file", g.name, "error", err)
		return false
	}
	return true
}

var (
	// errColumns says that a later version of this program wrote the file.
	errColumns = errors.New("its columns are of another version")
	// errOpening says that it cannot be told which version did: a batch alone does not name its columns, and may be read as
	// what it is not.
	errOpening = errors.New("the record that names its columns is damaged")
)

// recover enters what is in a segment. With an error, what was found before it counts.
func (n *lane) recover(g *segment, newest bool) error {
	f, err := n.folder.open(g.name)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // what was cut is cut again at the next start
	var said content
	s := records.NewScanner(frames.NewWindow(f, g.size), 0, func(r frames.Record) (err error) {
		said, err = parse(n.table, r)
		return err
	})
	for opened := false; ; {
		r, err := s.Scan()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		switch {
		case r.Head.Kind == opening && opened:
		case r.Head.Kind == opening:
			if g.columns, err = n.older(said.columns); err != nil {
				return fmt.Errorf("%w: %w", errColumns, err)
			}
			opened = true
		case !opened:
			return errOpening
		}
		n.enter(g, r, said)
	}
	n.judge(g, newest, s, f)
	return nil
}

// older gives the columns of batches that an earlier version wrote; nil if they are those of the table.
func (n *lane) older(columns string) ([]string, error) {
	if columns == columnsOf(n.table) {
		return nil, nil
	}
	names := strings.Split(columns, "\n")
	_, err := wire.NewOlderDecoder(n.table.WireSchema(), names, nil)
	return names, err
}

// enter notes what a record says.
func (n *lane) enter(g *segment, r frames.Record, said content) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch r.Head.Kind {
	case batch:
		n.keepLocked(g, said.keys[0], r.Offset)
	case unit:
		n.noteLocked(g, Unit{said.token, said.keys})
	case settled:
		for _, k := range said.keys {
			n.settleLocked(k)
		}
	}
}

// judge tells what a crash has left at the end of the newest file from damage: those before it were ended.
func (n *lane) judge(g *segment, newest bool, s *frames.Scanner, f file) {
	bad := s.Bad
	if tail, torn := s.Tail(); torn && newest {
		bad = bad[:len(bad)-1]
		n.cfg.Logger.Info("passed over what was not written whole at the end of a segment of the log", "table", n.table.Name, "file", g.name, "bytes", tail.To-tail.From)
		if f.Truncate(tail.From) == nil {
			n.size -= g.size - tail.From
			g.size = tail.From
		}
	}
	if len(bad) == 0 {
		return
	}
	g.damaged = true
	n.cfg.Logger.Error("a segment of the log is damaged; what is whole is stored, the rest is sent again by its agents, and the file is kept",
		"table", n.table.Name, "file", g.name, "places", len(bad), "from", bad[0].From, "to", bad[0].To)
}

// pending lists what is not settled: units in the order in which they were noted, then what was not joined.
func (n *lane) pending() (units []Unit) {
	n.mu.Lock()
	defer n.mu.Unlock()
	joined := slices.SortedFunc(maps.Values(n.units), func(a, b *noted) int { return cmp.Compare(a.order, b.order) })
	for _, u := range joined {
		if u.left == len(u.Keys) { // else its bytes cannot be made again
			units = append(units, u.Unit)
		}
	}
	var loose []wire.Key
	for k, b := range n.batches {
		if b.unit == nil || b.unit.left < len(b.unit.Keys) {
			loose = append(loose, k)
		}
	}
	slices.SortFunc(loose, func(a, b wire.Key) int {
		x, y := n.batches[a], n.batches[b]
		return cmp.Or(cmp.Compare(x.segment.name, y.segment.name), cmp.Compare(x.offset, y.offset))
	})
	if len(loose) > 0 {
		units = append(units, Unit{Keys: loose})
	}
	return units
}

// spoil has the file of a batch set aside once the rest of it is done.
func (n *lane) spoil(k wire.Key) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if b := n.batches[k]; b != nil {
		b.segment.damaged = true
	}
}

// read reads a batch from its file. An ErrBad says that its bytes are lost, any other error that they may be read later.
func (n *lane) read(k wire.Key) (Kept, error) {
	n.mu.Lock()
	b := n.batches[k]
	n.mu.Unlock()
	if b == nil {
		return Kept{}, fmt.Errorf("read batch %v: it is not in the log", k)
	}
	f, err := n.folder.open(b.segment.name)
	if err != nil {
		return Kept{}, fmt.Errorf("read batch %v: %w", k, err)
	}
	defer f.Close() //nolint:errcheck // it is only read
	r, err := records.ReadAt(f, b.offset)
	if err != nil {
		return Kept{}, fmt.Errorf("read batch %v: %w", k, err)
	}
	found := &wire.Batch{}
	found.Metadata, found.Header, found.Body = r.Head.Split(r.Content)
	if found.Identity, found.Scope, err = parseBatch(found.Metadata, found.Header, found.Body); err != nil {
		return Kept{}, fmt.Errorf("read batch %v: %w", k, err)
	}
	found.Metadata = found.Metadata[:wire.IdentityBytes]
	return Kept{found, b.segment.columns}, nil
}
