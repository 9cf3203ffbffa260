// SPDX-License-Identifier: Apache-2.0

package inference

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/schema"
)

// write writes what a reading said. A server that counts nothing is said when that begins, and from time to time.
func (w *Watcher) write(t *target) error {
	w.tell(t)
	if !t.isServer() {
		return nil
	}
	if t.saysNothing() {
		t.covered = 0
	}
	if t.saysNothing() && t.reason == t.saidReason && t.readAt.Sub(t.saidAt) < w.cfg.RowEvery {
		return nil
	}
	t.saidReason, t.saidAt = t.reason, t.readAt
	if len(t.result.tallies) == 0 {
		return w.append(t, tallyKey{engine: -1, model: cmp.Or(t.model, t.podModel), role: t.role}, &tally{})
	}
	keys := slices.SortedFunc(maps.Keys(t.result.tallies), func(a, b tallyKey) int {
		return cmp.Or(cmp.Compare(a.engine, b.engine), cmp.Compare(a.model, b.model), cmp.Compare(a.role, b.role))
	})
	for _, key := range keys {
		counts := t.result.tallies[key]
		counts.derive(&w.engines[key.engine])
		if err := w.append(t, key, counts); err != nil {
			return err
		}
	}
	return nil
}

// saysNothing tells that there is nothing in the reading but the reason.
func (t *target) saysNothing() bool { return len(t.result.tallies) == 0 || t.reason == reasonSeveral }

// tell counts and logs what a reading came to.
func (w *Watcher) tell(t *target) {
	w.reads.Add(1)
	w.resets.Add(uint64(t.result.resets))
	w.doubt.Add(uint64(t.result.doubtful))
	failure := ""
	if t.failed != nil {
		w.failures.Add(1)
		failure = t.failed.Error()
	}
	failure = cmp.Or(failure, t.reason)
	if !t.isServer() || t.told && failure == t.logged {
		return
	}
	t.logged, t.told = failure, true
	if failure == "" {
		w.cfg.Logger.Info("tokens are counted", "url", t.url)
		return
	}
	w.cfg.Logger.Warn("an inference server counts no tokens that can be read", "url", t.url, "reason", t.reason, "error", failure)
}

func (w *Watcher) append(t *target, key tallyKey, counts *tally) error {
	engine := t.engine
	if key.engine >= 0 {
		engine = w.engines[key.engine].name
	}
	if err := w.cfg.Rows.Append(schema.TokensID, t.cells(engine, key, counts)); err != nil {
		return fmt.Errorf("write the tokens of %s: %w", t.url, err)
	}
	return nil
}

// cells lays a row out as the wire columns of token_samples.
func (t *target) cells(engine string, key tallyKey, n *tally) []batch.Cell {
	interval := batch.Cell{}
	if t.covered > 0 && t.covered < maxInterval {
		interval = batch.Number(t.covered.Milliseconds())
	}
	rejected, known := n.rejected()
	cells := []batch.Cell{
		batch.Milliseconds(t.readAt), batch.Text(t.name()), batch.Text(t.source), batch.TextOrNull(engine),
		{},
		batch.TextOrNull(key.model), batch.TextOrNull(key.role), interval, batch.Number(max(t.epoch, 1)),
		n.cell(input), n.cell(computed), n.cell(cached), n.cell(transferred), n.cell(output),
		{Int: int64(rejected), OK: known},
		n.cell(requests), n.cell(running), n.cell(waiting), n.cell(trained), n.cell(steps),
	}
	for i := range kind(lossCauses) {
		cells = append(cells, n.cell(lost+i))
	}
	return append(cells,
		batch.TextOrNull(t.namespace), batch.TextOrNull(t.pod), batch.TextOrNull(t.job), batch.TextOrNull(t.deployment), batch.TextOrNull(t.team),
		batch.Cell{Int: int64(len(t.gpus)), OK: len(t.gpus) > 0}, batch.TextOrNull(strings.Join(t.gpus, ",")), batch.TextOrNull(t.reason))
}

// maxInterval is what the column holds.
const maxInterval = 40 * 24 * time.Hour

func (t *tally) cell(k kind) batch.Cell { return batch.Cell{Int: int64(t.n[k]), OK: t.known[k]} }
