// SPDX-License-Identifier: Apache-2.0

package foreign

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gpufleet/gpufleet/schema"
)

// Database answers which GPUs agents read.
type Database interface {
	// Select scans the rows of a query into a slice of structs.
	Select(ctx context.Context, into any, query string) error
}

// How agents are asked for. A GPU that an agent reads as well is left to the agent: its rows and increments would be
// there twice, and its facts would go back and forth. When the agent is silent, what is pushed counts again. Agents of other
// tenants do not count: one that made up rows of a GPU would keep its owner from pushing, and a source would learn whether
// another tenant has a GPU.
const (
	agentsEvery  = 15 * time.Second
	agentsGap    = time.Second // after a GPU that is new it is asked at once, and not more often than this
	agentSilent  = 3 * time.Minute
	idsOfOneAsk  = 5000 // ClickHouse takes 256 KiB of query
	claimsForget = time.Hour
)

// agents knows which of the GPUs that came agents read. It is safe for use by several goroutines.
type agents struct {
	database Database
	limit    int
	fresh    chan struct{}

	mu     sync.Mutex // guards claims
	claims map[gpuOf]*claim
}

// gpuOf is a GPU as one tenant has it.
type gpuOf struct {
	id     uint64
	tenant string
}

// claim is what is known of one GPU.
type claim struct {
	agent bool
	came  int64 // when it was asked for last, in milliseconds
}

// newAgents knows of so many GPUs, and of as many that they are parts of.
func newAgents(d Database, gpus int) *agents {
	return &agents{database: d, limit: 2 * gpus, fresh: make(chan struct{}, 1), claims: make(map[gpuOf]*claim)}
}

// read tells whether an agent reads a GPU, as far as is known. Of one that is new it is asked soon; ok is false if there
// is no room to, and then it is never known.
func (a *agents) read(gpu gpuOf, now int64) (agent, ok bool) {
	if a.database == nil {
		return false, true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.claims[gpu]; c != nil {
		c.came = now
		return c.agent, true
	}
	if len(a.claims) >= a.limit {
		return false, false
	}
	a.claims[gpu] = &claim{came: now}
	select {
	case a.fresh <- struct{}{}:
	default:
	}
	return false, true
}

// run asks until the context ends. As long as there is no answer what was known counts.
func (a *agents) run(ctx context.Context, d *Door) {
	for ctx.Err() == nil {
		if err := a.ask(ctx, d.cfg.now()); err != nil && ctx.Err() == nil {
			d.cfg.Logger.Warn("not known which GPUs agents read", "error", err)
		}
		if !pause(ctx, agentsGap, nil) || !pause(ctx, agentsEvery-agentsGap, a.fresh) {
			return
		}
	}
}

// pause waits for a time or a sign; it is false if the context has ended.
func pause(ctx context.Context, d time.Duration, sign <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-sign:
	case <-ctx.Done():
		return false
	}
	return true
}

func (a *agents) ask(ctx context.Context, now time.Time) error {
	ids := a.wanted(now.Add(-claimsForget).UnixMilli())
	for len(ids) > 0 {
		n := min(len(ids), idsOfOneAsk)
		var rows []struct {
			ID     uint64 `ch:"gpu_id"`
			Tenant string `ch:"tenant"`
		}
		if err := a.database.Select(ctx, &rows, agentsQuery(ids[:n], now)); err != nil {
			return fmt.Errorf("ask ClickHouse which GPUs agents read: %w", err)
		}
		read := make(map[gpuOf]bool, len(rows))
		for _, r := range rows {
			read[gpuOf{r.ID, r.Tenant}] = true
		}
		a.learn(ids[:n], read)
		ids = ids[n:]
	}
	return nil
}

// wanted are the GPUs that came since; what did not is forgotten.
func (a *agents) wanted(since int64) []gpuOf {
	a.mu.Lock()
	defer a.mu.Unlock()
	ids := make([]gpuOf, 0, len(a.claims))
	for id, c := range a.claims {
		if c.came < since {
			delete(a.claims, id)
			continue
		}
		ids = append(ids, id)
	}
	return ids
}

func (a *agents) learn(ids []gpuOf, read map[gpuOf]bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range ids {
		if c, ok := a.claims[id]; ok {
			c.agent = read[id]
		}
	}
}

// agentsQuery asks by the key of the table: hours, and GPUs in them.
func agentsQuery(ids []gpuOf, now time.Time) string {
	var list strings.Builder
	for i, id := range ids {
		if i > 0 {
			list.WriteByte(',')
		}
		list.WriteString(strconv.FormatUint(id.id, 10))
	}
	since := now.Add(-agentSilent).UTC()
	return fmt.Sprintf("SELECT DISTINCT gpu_id, tenant FROM gpu_samples WHERE toStartOfHour(ts) >= toDateTime(%d, 'UTC') AND ts >= fromUnixTimestamp64Milli(%d, 'UTC') AND gpu_id IN (%s) AND bitAnd(quality, %d) = 0",
		since.Truncate(time.Hour).Unix(), since.UnixMilli(), list.String(), schema.QualityForeign)
}
