// SPDX-License-Identifier: Apache-2.0

package aside

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gpufleet/gpufleet/collector/quarantine"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is files and ledger, which note what they are told in its order.
type world struct {
	noFiles, noLedger error
	done              []string
	entry             quarantine.Entry
	data              quarantine.Data
	key               wire.Key
}

func (w *world) Put(e quarantine.Entry, d quarantine.Data) (string, error) {
	w.done, w.entry, w.data = append(w.done, "file"), e, d
	return "path", w.noFiles
}

func (w *world) Quarantined(_ context.Context, k wire.Key, rows int64, reason string) error {
	if rows != 80 || reason != "too old" {
		return errors.New("another batch's entry")
	}
	w.done, w.key = append(w.done, "entry"), k
	return w.noLedger
}

// TestPut: the file comes first, and without it there is no entry.
func TestPut(t *testing.T) {
	away := errors.New("away")
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.FixedZone("", 3600))
	batch := &wire.Batch{
		Identity: wire.Identity{Table: schema.SamplesID, Node: 7, Epoch: 8, Sequence: 9, Rows: 80},
		Metadata: []byte("m"), Header: []byte("h"), Body: []byte("b"), Scope: wire.Scope{Tenant: "acme", Residency: "eu"},
	}
	for name, c := range map[string]struct {
		noFiles, noLedger, want error
		done                    []string
	}{
		"both":      {nil, nil, nil, []string{"file", "entry"}},
		"no file":   {quarantine.ErrFull, nil, quarantine.ErrFull, []string{"file"}},
		"no ledger": {nil, away, away, []string{"file", "entry"}},
	} {
		w := &world{noFiles: c.noFiles, noLedger: c.noLedger}
		a := Aside{Collector: "c", Files: w, Ledger: w, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return now }}
		err := a.Put(t.Context(), "anna", batch, errors.New("too old"))
		if !errors.Is(err, c.want) || errors.Is(err, ErrNotKept) != (c.noFiles != nil) || !slices.Equal(w.done, c.done) {
			t.Errorf("%s: %v, done %q", name, err, w.done)
		}
		want := quarantine.Entry{
			Table: "gpu_samples", NodeName: "anna", Node: 7, Epoch: 8, Sequence: 9, Rows: 80, Reason: "too old",
			ReceivedAt: now.UTC(), Collector: "c", Tenant: "acme", Residency: "eu",
		}
		if w.entry != want || string(w.data.Metadata)+string(w.data.Header)+string(w.data.Body) != "mhb" || c.noFiles == nil && w.key != batch.Identity.Key() {
			t.Errorf("%s: entry %+v of %v", name, w.entry, w.key)
		}
	}
}

func TestOutlast(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	ctx, stop := Outlast(over)
	defer stop()
	if _, bounded := ctx.Deadline(); ctx.Err() != nil || !bounded {
		t.Errorf("it is over (%v), or has no end", ctx.Err())
	}
}
