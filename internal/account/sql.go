// SPDX-License-Identifier: Apache-2.0

package account

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/xid"
)

// What eventsQuery gives besides kinds of gpu_events.
const (
	criticalFault = "critical fault"
	verdict       = "verdict"
)

// scope are the columns that say whose a row is.
const scope = "CAST(tenant, 'String') AS tenant, CAST(residency, 'String') AS residency"

// presenceQuery has of each GPU the last observation before an hour, all within it, and the first one after it.
func (w *work) presenceQuery(of span, s slice) string {
	from := fmt.Sprintf("FROM %s AS o WHERE o.parent_gpu_uuid IS NULL AND %s", w.table("gpu_inventory"), s.where())
	one := func(pick, end, from, to string) string {
		order := "(o.ts, o.epoch, o.seq)"
		return fmt.Sprintf("SELECT o.tenant, o.residency, o.gpu_id, toUnixTimestamp64Milli(%[2]s(o.ts)), %[1]s(o.node_id, %[3]s), tupleElement(%[1]s(tuple(o.model), %[3]s), 1), ifNull(tupleElement(%[1]s(tuple(o.removed), %[3]s), 1), 0)\n%[4]s AND o.ts >= %[5]s AND o.ts < %[6]s GROUP BY o.tenant, o.residency, o.gpu_id",
			pick, end, order, "{}", from, to)
	}
	before := one("argMax", "max", at(of.from-expected.Milliseconds()), at(of.from))
	after := one("argMin", "min", at(of.to), at(of.to+settled.Milliseconds()))
	return fmt.Sprintf(`SELECT CAST(tenant, 'String') AS tenant, CAST(residency, 'String') AS residency, gpu_id AS gpu, at, node, CAST(model, 'Nullable(String)') AS model, gone FROM (
    SELECT o.tenant AS tenant, o.residency AS residency, o.gpu_id AS gpu_id, toUnixTimestamp64Milli(o.ts) AS at, o.node_id AS node, o.model AS model, ifNull(o.removed, 0) AS gone
    %[1]s AND o.ts >= %[2]s AND o.ts < %[3]s
    UNION ALL %[4]s
    UNION ALL %[5]s)`, from, at(of.from), at(of.to), strings.ReplaceAll(before, "{}", from), strings.ReplaceAll(after, "{}", from))
}

// placesQuery has of each node the last observation before an hour, and all within it.
func (w *work) placesQuery(of span) string {
	names := []string{"node_name", "provider", "region", "zone_id", "instance_type", "life_cycle", "cluster"}
	as := []string{"name", "provider", "region", "zone", "instance", "life_cycle", "cluster"}
	var latest, plain []string
	for i, name := range names {
		latest = append(latest, fmt.Sprintf("CAST(tupleElement(argMax(tuple(o.%s), (o.ts, o.epoch, o.seq)), 1), 'Nullable(String)')", name))
		plain = append(plain, fmt.Sprintf("CAST(o.%s, 'Nullable(String)') AS %s", name, as[i]))
	}
	return fmt.Sprintf(`SELECT CAST(o.tenant, 'String') AS tenant, CAST(o.residency, 'String') AS residency, o.node_id AS node, toUnixTimestamp64Milli(o.ts) AS at, %[1]s
FROM %[2]s AS o WHERE o.ts >= %[3]s AND o.ts < %[4]s
UNION ALL SELECT CAST(o.tenant, 'String'), CAST(o.residency, 'String'), o.node_id, toUnixTimestamp64Milli(max(o.ts)), %[5]s
FROM %[2]s AS o WHERE o.ts >= %[6]s AND o.ts < %[3]s GROUP BY o.tenant, o.residency, o.node_id`,
		strings.Join(plain, ", "), w.table("node_inventory"), at(of.from), at(of.to), strings.Join(latest, ", "), at(of.from-expected.Milliseconds()))
}

// minuteOf is the number of a minute within an hour, and of those after it.
func minuteOf(of span) string {
	return fmt.Sprintf("toUInt32(intDiv(toInt64(toUnixTimestamp(ts)) - %d, 60))", of.from/second)
}

// seenQuery has of each node how much of each minute some GPU gave rows.
func (w *work) seenQuery(of span) string {
	return fmt.Sprintf(`SELECT %[1]s, node, groupArray(m) AS minutes, groupArray(s) AS seen FROM (
    SELECT tenant, residency, node_id AS node, %[2]s AS m, max(toInt64(if(c + 2 * intDiv(c, rows) >= %[3]d, %[3]d, c))) AS s
    FROM (SELECT *, ifNull(covered_milliseconds, 0) AS c FROM %[4]s FINAL WHERE %[5]s)
    GROUP BY tenant, residency, node_id, m)
GROUP BY tenant, residency, node`, scope, minuteOf(of), minute, w.table(schema.Rollups()[0].Name), duringSeconds(of.from, of.to))
}

// readingsQuery has the minutes of each GPU, and those after the hour that may reach back into it.
func (w *work) readingsQuery(of span, s slice) string {
	busy := func(what string) string {
		return fmt.Sprintf("groupArray(toInt64(ifNull(if(gpu_utilization_readings > 0, gpu_utilization%[1]s, graphics_active%[1]s), 0)))", what)
	}
	return fmt.Sprintf(`SELECT %[1]s, gpu_id AS gpu, groupArray(%[2]s) AS minutes, groupArray(toInt64(rows)) AS samples, groupArray(toInt64(ifNull(covered_milliseconds, 0))) AS covered,
    %[3]s AS readings, %[4]s AS permille, groupArray(toInt64(bitAnd(quality_any, %[5]d))) AS others, groupArray(ifNull(toInt64(energy_millijoules_delta_sum), -1)) AS energy
FROM %[6]s FINAL WHERE %[7]s AND %[8]s GROUP BY tenant, residency, gpu_id`,
		scope, minuteOf(of), busy("_readings"), busy("_permille_sum"), schema.QualityForeign, w.table(schema.Rollups()[0].Name),
		duringSeconds(of.from, of.to+reach), s.where())
}

// reach is how far after an hour rows may lie that vouch for the hour: two and a half minutes, in whole ones.
const reach = 3 * minute

// ownersQuery has the intervals of workload_intervals, of what was said until some hours after the hour.
func (w *work) ownersQuery(of span, s slice) string {
	pick := func(column string) string {
		return fmt.Sprintf("tupleElement(argMax(tuple(w.%s), (w.epoch, w.seq, w.ts)), 1)", column)
	}
	return fmt.Sprintf(`SELECT %[1]s, gpu_id AS gpu, toUnixTimestamp64Milli(valid_from) AS from_time, kind, why, team, deployment, account, model,
    multiIf(valid_to IS NOT NULL, toUnixTimestamp64Milli(assumeNotNull(valid_to)),
        last_epoch < newest_epoch, toUnixTimestamp64Milli(if(shared = 1, last_seen, greatest(valid_from, least(last_seen, next_from)))),
        last_seen < least(%[2]s, %[3]s) - INTERVAL 2 HOUR, toUnixTimestamp64Milli(last_seen), %[4]d) AS to_time
FROM (
    SELECT *, max(last_epoch) OVER (PARTITION BY tenant, residency, gpu_id) AS newest_epoch,
        leadInFrame(valid_from, 1, last_seen) OVER (PARTITION BY tenant, residency, gpu_id ORDER BY opened, valid_from ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS next_from
    FROM (
        SELECT w.tenant AS tenant, w.residency AS residency, w.gpu_id AS gpu_id, argMin(w.valid_from, (w.epoch, w.seq, w.ts)) AS valid_from, max(w.ts) AS last_seen, max(w.epoch) AS last_epoch,
            min(tuple(w.epoch, w.seq)) AS opened, %[5]s AS valid_to, %[6]s AS shared, CAST(%[7]s, 'String') AS kind, CAST(%[8]s, 'Nullable(String)') AS why,
            CAST(%[9]s, 'Nullable(String)') AS team, CAST(%[10]s, 'Nullable(String)') AS deployment, CAST(%[11]s, 'Nullable(String)') AS account, CAST(%[12]s, 'Nullable(String)') AS model
        FROM %[13]s AS w WHERE w.ts >= %[14]s AND w.ts < %[3]s AND %[15]s
        GROUP BY w.tenant, w.residency, w.gpu_id, w.assignment_id))`,
		scope, w.clock, at(of.to+settled.Milliseconds()), int64(forever), pick("valid_to"), pick("shared"), pick("owner_kind"), pick("reason"),
		pick("team"), pick("deployment"), pick("account"), pick("workload_model"), w.table("gpu_workload"), at(of.from-settled.Milliseconds()), s.where())
}

// eventsQuery has what happened to GPUs and nodes: losses and returns, stops of agents, boots, critical faults, and the
// readings at which the driver asked for a reset.
func (w *work) eventsQuery(of span) string {
	kinds := slices.Sorted(maps.Keys(effects))
	kinds = slices.DeleteFunc(kinds, func(kind string) bool { return kind == booted })
	for i, kind := range kinds {
		kinds[i] = schema.QuoteText(kind)
	}
	var asks []string
	for _, r := range xid.Recoveries() {
		if r.Severity == xid.Critical {
			asks = append(asks, strconv.FormatUint(uint64(r.Number), 10))
		}
	}
	row := "SELECT CAST(e.tenant, 'String') AS tenant, CAST(e.residency, 'String') AS residency, e.node_id AS node, "
	since := at(of.from - expected.Milliseconds())
	return fmt.Sprintf(`%[1]se.gpu_id AS gpu, toUnixTimestamp64Milli(e.ts) AS at, at AS last, CAST(e.kind, 'String') AS kind
FROM %[2]s AS e WHERE e.ts >= %[3]s AND e.ts < %[4]s AND e.kind IN (%[5]s)
UNION ALL %[1]se.gpu_id, toUnixTimestamp64Milli(e.ts), toUnixTimestamp64Milli(max(ifNull(e.last_seen, e.ts))) AS last, '%[6]s'
FROM %[2]s AS e WHERE e.fault_id IS NOT NULL AND e.ts >= %[3]s AND e.ts < %[7]s
GROUP BY e.tenant, e.residency, e.node_id, e.fault_id, e.ts, e.gpu_id
HAVING tupleElement(argMax(tuple(e.severity, e.class), (e.epoch, e.seq, length(ifNull(e.evidence, '')))), 1) = '%[8]s' AND tupleElement(argMax(tuple(e.severity, e.class), (e.epoch, e.seq, length(ifNull(e.evidence, '')))), 2) != '%[9]s'
    AND last > %[10]d
UNION ALL %[1]sCAST(e.gpu_id, 'Nullable(UInt64)'), toUnixTimestamp64Milli(e.ts), toInt64(0), '%[11]s'
FROM %[12]s AS e WHERE e.recovery_action IN (%[13]s) AND e.ts >= %[14]s AND e.ts < %[7]s
UNION ALL %[1]sCAST(NULL, 'Nullable(UInt64)'), toUnixTimestamp64Milli(min(e.ts)), toInt64(0), '%[15]s'
FROM %[16]s AS e WHERE e.boot_id IS NOT NULL AND e.ts >= %[3]s AND e.ts < %[7]s GROUP BY e.tenant, e.residency, e.node_id, e.boot_id`,
		row, w.table("gpu_events"), since, at(of.to+settled.Milliseconds()), strings.Join(kinds, ", "), criticalFault, at(of.to), xid.Critical, xid.ApplicationFault,
		of.from-faultHolds.Milliseconds(), verdict, w.table("gpu_health"), strings.Join(asks, ", "), at(of.from-verdictHolds.Milliseconds()), booted, w.table("node_inventory"))
}
