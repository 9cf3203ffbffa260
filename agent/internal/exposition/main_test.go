// SPDX-License-Identifier: Apache-2.0

package exposition

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/goleak"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/agent/internal/event"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const uuid = "GPU-11111111-2222-3333-4444-555555555555"

// start is when the rows of tests begin.
var start = time.UnixMilli(1_800_000_000_000)

// node is a page with a clock that a test sets.
type node struct {
	*Page
	t   *testing.T
	now time.Time
}

func newNode(t *testing.T, o Options) *node {
	t.Helper()
	n := &node{t: t, now: start}
	n.Page = New(Config{Options: o, Node: "node-1", Interval: time.Second, HealthInterval: time.Minute, Now: func() time.Time { return n.now }})
	return n
}

// cellsOf lays out a row: numbers by column, and texts.
func cellsOf(t *testing.T, table uint8, numbers map[string]int64, texts map[string]string) []batch.Cell {
	t.Helper()
	c := columnsOf(table)
	cells := make([]batch.Cell, c.count)
	for name, v := range numbers {
		cells[c.place(name)] = batch.Number(v)
	}
	for name, v := range texts {
		cells[c.place(name)] = batch.Text(v)
	}
	return cells
}

// row shows the page a row of the GPU, read now. The interval is that between the rows.
func (n *node) row(table uint8, id string, interval time.Duration, numbers map[string]int64) {
	n.t.Helper()
	cells := cellsOf(n.t, table, numbers, nil)
	cells[0] = batch.Milliseconds(n.now)
	cells[columnsOf(table).gpu] = batch.ID(wire.GPUID(id))
	if interval > 0 {
		cells[columnsOf(table).interval] = batch.Number(interval.Milliseconds())
	}
	n.Take(table, cells)
}

func (n *node) sample(interval time.Duration, numbers map[string]int64) {
	n.t.Helper()
	n.row(schema.SamplesID, uuid, interval, numbers)
}

func (n *node) health(interval time.Duration, numbers map[string]int64) {
	n.t.Helper()
	n.row(schema.HealthID, uuid, interval, numbers)
}

// identify tells what the GPU is.
func (n *node) identify(id string, texts map[string]string, numbers map[string]int64) {
	n.t.Helper()
	all := map[string]string{"gpu_uuid": id, "model": "NVIDIA H100 80GB HBM3"}
	maps.Copy(all, texts)
	cells := cellsOf(n.t, schema.GPUInventoryID, numbers, all)
	cells[inventory().gpu] = batch.ID(wire.GPUID(id))
	n.Take(schema.GPUInventoryID, cells)
}

// happens shows the page an event.
func (n *node) happens(e event.Event) { n.Take(schema.EventsID, e.Cells()) }

// text is the page as Prometheus gets it, without its comments.
func (n *node) text() string {
	n.t.Helper()
	var lines strings.Builder
	for line := range strings.Lines(string(page(n.t, n.Page))) {
		if !strings.HasPrefix(line, "#") {
			lines.WriteString(line)
		}
	}
	return lines.String()
}

// page is what Prometheus gets.
func page(t *testing.T, p *Page) []byte {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(p)
	answer := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if answer.Code != http.StatusOK {
		t.Fatalf("the page answers %d: %s", answer.Code, answer.Body)
	}
	return answer.Body.Bytes()
}

// value is the value of the one series of a name; "" if there is none.
func (n *node) value(name string) string {
	n.t.Helper()
	found := ""
	for line := range strings.Lines(n.text()) {
		if strings.HasPrefix(line, name+"{") {
			if found != "" {
				n.t.Errorf("%s has several series", name)
			}
			found = strings.TrimSpace(line[strings.LastIndexByte(line, ' '):])
		}
	}
	return found
}

// keep writes a file for whoever looks at a failure, and returns its path.
func keep(t *testing.T, name string, text []byte) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "exposition") //nolint:usetesting // it outlives the test
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
