// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gpufleet/gpufleet/internal/clickhouseclient"
	"github.com/gpufleet/gpufleet/internal/query"
	"github.com/gpufleet/gpufleet/schema"
)

// seen is a collector's newest process.
type seen struct {
	Collector string `ch:"collector"`
	Host      string `ch:"host"`
	Age       int64  `ch:"age"` // seconds since it was seen
	Ended     uint8  `ch:"ended"`
}

// running lists the collectors that write into the database, and those that have gone without a word within the last day.
func running(ctx context.Context, conn driver.Conn, e clickhouseclient.Endpoint, check string) Finding {
	var all []seen
	err := conn.Select(ctx, &all, `SELECT collector, argMax(host, seen_at) AS host, dateDiff('second', max(seen_at), now64(3)) AS age, argMax(ended, seen_at) AS ended
FROM collectors WHERE seen_at > now64(3) - INTERVAL 1 DAY GROUP BY collector ORDER BY collector`)
	if err != nil {
		return fail(check, says(query.Explain(e.Explain(err), "")), fmt.Sprintf("GRANT SELECT ON %s.*", e.Database))
	}
	var run, gone []string
	for _, c := range all {
		switch {
		case c.Ended == 0 && time.Duration(c.Age)*time.Second < schema.CollectorLease:
			run = append(run, c.Collector)
		case c.Ended == 0:
			gone = append(gone, fmt.Sprintf("%s (%s, %d s ago)", c.Collector, c.Host, c.Age))
		}
	}
	switch {
	case len(gone) > 0:
		return warn(check, "gone without a word: "+strings.Join(gone, ", "), "look whether they run, and whether they reach this ClickHouse; their agents go on with others, if they know any")
	case len(run) == 0:
		return warn(check, "none runs", "start gpufleet-collector")
	default:
		return ok(check, "%d run: %s", len(run), strings.Join(run, ", "))
	}
}
