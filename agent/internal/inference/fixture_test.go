// SPDX-License-Identifier: Apache-2.0

package inference

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/agent/internal/owner"
	"github.com/gpufleet/gpufleet/schema"
)

// world is a node with servers, in the bubble of synctest. A test changes it while nothing runs.
type world struct {
	t       *testing.T
	options Options
	held    []owner.Holder
	log     bytes.Buffer

	mu    sync.Mutex        // guards the fields below
	pages map[string]string // by URL; a number is a status
	asked map[string]int
	rows  []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, options: DefaultOptions(), pages: make(map[string]string), asked: make(map[string]int)}
	w.options.Transport = w
	return w
}

// RoundTrip implements http.RoundTripper.
func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked[r.URL.String()]++
	text, ok := w.pages[r.URL.String()]
	if !ok {
		return nil, fmt.Errorf("nobody is at %s", r.URL.Host)
	}
	answer := &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(text)), Request: r}
	if text == "404" {
		answer.StatusCode = http.StatusNotFound
	}
	return answer, nil
}

// Append implements Rows: rows become text, NULL is left out.
func (w *world) Append(table uint8, cells []batch.Cell) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	t, _ := schema.TableByID(table)
	columns := t.WireColumns()
	if len(cells) != len(columns) {
		w.t.Errorf("%d cells for %d columns of %s", len(cells), len(columns), t.Name)
		return nil
	}
	var parts []string
	for i, c := range columns {
		switch {
		case !cells[i].OK || slices.Contains([]string{schema.ColumnTime, schema.ColumnCounterEpoch, "source"}, c.Name):
		case c.Type == schema.Name || c.Type == schema.Text:
			parts = append(parts, c.Name+"="+cells[i].Text)
		default:
			if cells[i].Int < 0 {
				w.t.Errorf("%s is %d", c.Name, cells[i].Int)
			}
			parts = append(parts, fmt.Sprintf("%s=%d", strings.TrimSuffix(c.Name, "_delta"), cells[i].Int))
		}
	}
	w.rows = append(w.rows, strings.Join(parts, " "))
	return nil
}

// set changes what a server shows.
func (w *world) set(url, page string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pages[url] = page
}

// take gives the rows since the last call.
func (w *world) take() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	rows := strings.Join(w.rows, "\n")
	w.rows = nil
	return rows
}

// watcher makes one over the world, whose readings the test asks for.
func (w *world) watcher() *Watcher {
	return New(Config{
		Options: w.options, Node: "node-1", Holders: func() []owner.Holder { return w.held }, Rows: w, RowEvery: time.Hour,
		Logger: slog.New(slog.NewTextHandler(&w.log, nil)),
	})
}

// look has the watcher read everything once, after a time.
func (w *world) look(watcher *Watcher, after time.Duration) string {
	w.t.Helper()
	<-time.After(after)
	if err := watcher.once(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return w.take()
}

// inBubble runs a test where time is the test's own.
func inBubble(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newWorld(t)) })
}

// recorded is a page as a server gave it.
func recorded(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".prom"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// changed replaces lines of a page, each of which must be there.
func changed(t *testing.T, page string, lines ...string) string {
	t.Helper()
	for _, line := range lines {
		name := line[:strings.LastIndexByte(line, ' ')+1]
		at := strings.Index(page, "\n"+name)
		if at < 0 {
			t.Fatalf("the page has no %s", name)
		}
		end := at + 1 + strings.IndexByte(page[at+1:], '\n')
		page = page[:at+1] + line + page[end:]
	}
	return page
}

func wantRows(t *testing.T, got string, want ...string) {
	t.Helper()
	if text := strings.Join(want, "\n"); got != text {
		t.Errorf("rows\n%s\nwant\n%s", got, text)
	}
}
