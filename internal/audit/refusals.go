// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// Refusal is why batches of a table are in quarantine, with what they hold. Numbers in a reason are left out: they are
// those of one batch.
type Refusal struct {
	Table   string `json:"table"   ch:"table_name"`
	Reason  string `json:"reason"  ch:"why"`
	Batches uint64 `json:"batches" ch:"batches"`
	Rows    uint64 `json:"rows"    ch:"refused_rows"`
}

// maxRefusals is how many reasons are listed, those of most rows first; the others are added up under one of no words.
const maxRefusals = 20

// refusals asks the ledger why batches of the audited time are in quarantine. One that was stored later is in none.
func (a *audit) refusals(ctx context.Context) error {
	if a.report.Quarantined == 0 {
		return nil
	}
	// The entries of a batch are on one shard, unless its node has moved: they need not come together elsewhere.
	asking := clickhouse.Context(ctx, clickhouse.WithSettings(allOf(settings, onShards)), clickhouse.WithParameters(clickhouse.Parameters{
		"since": strconv.FormatInt(a.report.Since.UnixMilli(), 10), "until": strconv.FormatInt(a.report.Until.UnixMilli(), 10),
		"most": strconv.Itoa(maxRefusals),
	}))
	err := a.conn.Select(asking, &a.report.Refusals, a.ofNodes(`
SELECT if(place > {most:UInt32}, '', t) AS table_name, if(place > {most:UInt32}, 'other reasons', w) AS why,
    sum(b) AS batches, sum(n) AS refused_rows
FROM (
    SELECT table_name AS t, replaceRegexpAll(left(any_reason, 200), '[0-9a-f]*[0-9][0-9a-f]*', 'N') AS w, count() AS b, sum(toUInt64(batch_rows)) AS n,
        row_number() OVER (ORDER BY n DESC, b DESC, t, w) AS place
    FROM (
        SELECT table_name, argMax(reason, recorded_at) AS any_reason, max(rows) AS batch_rows FROM ingest_ledger
        WHERE recorded_at <= fromUnixTimestamp64Milli({until:Int64}) /*nodes*/
        GROUP BY table_name, node_id, epoch, seq
        HAVING max(state = 'stored') = 0 AND max(recorded_at) >= fromUnixTimestamp64Milli({since:Int64}))
    GROUP BY t, w)
GROUP BY ALL
ORDER BY table_name = '', refused_rows DESC, batches DESC, table_name, why`))
	if err != nil {
		return fmt.Errorf("ask the ledger why batches are in quarantine: %w", err)
	}
	return nil
}

func (r Report) writeRefusals(w io.Writer) error {
	for _, f := range r.Refusals {
		if _, err := fmt.Fprintf(w, "in quarantine: %s (%s) %s: %s\n", count(f.Batches, "batch", "batches"), count(f.Rows, "row", "rows"), f.Table, f.Reason); err != nil {
			return err
		}
	}
	return nil
}
