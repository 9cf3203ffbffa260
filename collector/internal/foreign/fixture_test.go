// SPDX-License-Identifier: Apache-2.0

package foreign

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/gpufleet/gpufleet/collector/internal/foreign/mapping"
	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/collector/quarantine"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// noon is now in these tests.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// disk is a log and a store in memory. What is appended can be made to fail, and what is submitted to wait or be refused.
type disk struct {
	mu        sync.Mutex // guards the fields below
	failing   error      // of appends
	failOnce  uint8      // the table whose next append fails
	holding   bool       // submitted batches are not done
	full      bool       // the store has no room
	waiting   sync.WaitGroup
	refusing  error
	tried     []wire.Key // appended, whether or not it failed
	kept      []*wire.Batch
	submitted []store.Item // keys and scopes
	held      []store.Item
	settled   []wire.Key
	rejected  []string
	left      []wire.Key
}

func (d *disk) Append(b *wire.Batch, done func(error)) {
	d.mu.Lock()
	d.tried = append(d.tried, b.Identity.Key())
	err := d.failing
	if b.Identity.Table == d.failOnce && err == nil {
		d.failOnce, err = 0, errDisk
	}
	if err == nil {
		d.kept = append(d.kept, b)
	}
	full := d.full
	d.mu.Unlock()
	if full {
		d.waiting.Go(func() { done(err) })
		return
	}
	done(err)
}

func (d *disk) Settle(keys ...wire.Key) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settled = append(d.settled, keys...)
}

func (d *disk) Submit(ctx context.Context, i store.Item) error {
	d.mu.Lock()
	if d.full {
		d.mu.Unlock()
		<-ctx.Done()
		return ctx.Err()
	}
	d.submitted = append(d.submitted, store.Item{Key: i.Key, Scope: i.Scope})
	holding, refusing := d.holding, d.refusing
	if holding {
		d.held = append(d.held, i)
	}
	d.mu.Unlock()
	if !holding {
		i.Columns.Release()
		i.Done(refusing)
	}
	return nil
}

func (d *disk) Quarantined(_ context.Context, k wire.Key, rows int64, reason string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rejected = append(d.rejected, fmt.Sprintf("%d rows of %d: %s", rows, k.Table, reason))
	return nil
}

func (d *disk) leave(k wire.Key) {
	d.set(func(d *disk) { d.left = append(d.left, k) })
}

func (d *disk) Put(e quarantine.Entry, _ quarantine.Data) (string, error) {
	return "file of " + e.NodeName, nil
}

func (d *disk) set(change func(*disk)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(d)
}

// finish ends what was held.
func (d *disk) finish() {
	d.mu.Lock()
	held := d.held
	d.held, d.holding = nil, false
	d.mu.Unlock()
	for _, i := range held {
		i.Columns.Release()
		i.Done(nil)
	}
}

// running is a door that runs until the end of the test.
type running struct {
	*Door
	*disk
	t    *testing.T
	stop func()
}

func start(t *testing.T, change func(*Config)) *running {
	t.Helper()
	kept := &disk{}
	cfg := Config{
		Name: "c1", MaxGPUs: 100, MaxBytes: 64 << 20, MaxAge: 7 * 24 * time.Hour, MaxAhead: 5 * time.Minute, Gather: time.Millisecond,
		Store: kept, Log: kept, Quarantine: kept, Left: kept.leave, Logger: slog.New(slog.DiscardHandler), Meter: noop.Meter{}, now: func() time.Time { return noon },
	}
	if change != nil {
		change(&cfg)
	}
	door, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- door.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		kept.waiting.Wait()
	})
	t.Cleanup(stop)
	return &running{door, kept, t, stop}
}

var otlpSource = Source{Name: "dcgm", Protocol: OTLP}

// push hands readings over and tells what was said of them.
func (r *running) push(readings ...Reading) (string, error) {
	return r.pushAs(Labels{}, readings...)
}

func (r *running) pushAs(resource Labels, readings ...Reading) (string, error) {
	return r.pushFrom(otlpSource, resource, readings...)
}

func (r *running) pushFrom(from Source, resource Labels, readings ...Reading) (string, error) {
	outcome, err := r.Take(r.t.Context(), r.Sort(r.t.Context(), from, []Group{{Resource: resource, Readings: readings}}))
	return outcome.String(), err
}

// must pushes what has to be kept whole.
func (r *running) must(readings ...Reading) {
	r.t.Helper()
	if said, err := r.push(readings...); err != nil || said != "" {
		r.t.Fatalf("push: %q, %v", said, err)
	}
}

// dcgm is a reading of a GPU some seconds after noon.
func dcgm(metric, uuid string, second int, value float64, labels ...string) Reading {
	g := Reading{
		Metric: "DCGM_FI_" + metric, Time: noon.Add(time.Duration(second) * time.Second).UnixMilli(), Value: mapping.Float(value),
		Labels: Labels{"UUID": uuid, "Hostname": "node-1"},
	}
	for i := 0; i < len(labels); i += 2 {
		g.Labels[labels[i]] = labels[i+1]
	}
	return g
}

// rows are what a table got, in order, each with the columns that were asked for; NULL is "-".
func (r *running) rows(table uint8, columns ...string) string {
	r.t.Helper()
	z, err := wire.NewDecompressor()
	if err != nil {
		r.t.Fatal(err)
	}
	defer z.Close()
	of, _ := schema.TableByID(table)
	decoder := wire.NewDecoder(of.WireSchema(), z)
	var lines []string
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	for _, b := range r.kept {
		if b.Identity.Table != table {
			continue
		}
		decoded, err := decoder.Columns(b.Identity, b.Header, b.Body)
		if err != nil {
			r.t.Fatal(err)
		}
		for row := range decoded.Rows() {
			var cells []string
			for _, name := range columns {
				cells = append(cells, r.cell(of, decoded, name, row))
			}
			lines = append(lines, strings.Join(cells, " "))
		}
		decoded.Release()
	}
	return strings.Join(lines, "\n")
}

func (r *running) cell(table schema.Table, decoded *wire.Columns, name string, row int) string {
	place := slices.IndexFunc(table.WireColumns(), func(c schema.Column) bool { return c.Name == name })
	if place < 0 {
		r.t.Fatalf("no column %s", name)
	}
	c, kind := decoded.Column(place), table.WireColumns()[place].Type
	if c.Valid != nil && c.Valid[row/8]&(1<<(row%8)) == 0 {
		return "-"
	}
	switch {
	case kind == schema.Name || kind == schema.Text:
		return c.String(row)
	case name == schema.ColumnTime || strings.HasPrefix(name, "valid_"):
		return strconv.FormatInt((int64(c.Uint64(row))-noon.UnixMilli())/1000, 10)
	default:
		width := kind.Width()
		bits := make([]byte, 8)
		copy(bits, c.Values[row*width:(row+1)*width])
		n := binary.LittleEndian.Uint64(bits)
		if kind == schema.Int16 {
			return strconv.Itoa(int(int16(n)))
		}
		return strconv.FormatUint(n, 10)
	}
}

func (r *running) want(table uint8, columns []string, rows ...string) {
	r.t.Helper()
	if got, want := r.rows(table, columns...), strings.Join(rows, "\n"); got != want {
		r.t.Errorf("%s %v\ngot\n%s\nwant\n%s", schema.TableName(table), columns, got, want)
	}
}

// wantWhole says that every life has its batches without gaps, none twice with different bytes.
func (r *running) wantWhole() {
	r.t.Helper()
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	bodies := map[wire.Key][]byte{}
	highest := map[wire.Key]uint64{}
	for _, b := range r.kept {
		k := b.Identity.Key()
		if before, ok := bodies[k]; ok && !bytes.Equal(before, b.Body) {
			r.t.Errorf("batch %v came with other bytes", k)
		}
		bodies[k] = b.Body
		life := k
		life.Sequence = 0
		highest[life] = max(highest[life], k.Sequence)
	}
	var expected uint64
	for n := range maps.Values(highest) {
		expected += n
	}
	if uint64(len(bodies)) != expected {
		r.t.Errorf("%d batches with numbers up to %d", len(bodies), expected)
	}
}

var errDisk = errors.New("disk is full")
