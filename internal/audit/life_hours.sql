-- Some lives by the hour, from all that the ledger has of them. A number that is in no hour is lost; it counts in the hour
-- in which a higher one was recorded first. Of the last hour, numbers above the highest one that has settled do not count:
-- those below them may still be on their way. A small set comes as an array in no order.
WITH hours AS (
    SELECT table_name, node_id, epoch, hour, groupBitmapMergeState(ended) AS ended_set, groupBitmapMergeState(stored) AS stored_set, groupBitmapMergeState(stored_by) AS by_set
    FROM ingest_sequences
    WHERE (table_name, node_id, epoch) IN (/*lives*/)
    GROUP BY table_name, node_id, epoch, hour),
settled AS (
    SELECT table_name, node_id, epoch, max(seq) AS highest
    FROM ingest_ledger
    WHERE (table_name, node_id, epoch) IN (/*lives*/)
        AND recorded_at >= toStartOfHour(fromUnixTimestamp64Milli({settled:Int64})) AND recorded_at <= fromUnixTimestamp64Milli({settled:Int64})
    GROUP BY table_name, node_id, epoch),
placed AS (
    SELECT table_name, node_id, epoch, hour,
        groupBitmapMergeState(ended_set) OVER life AS all_ended, groupBitmapMergeState(stored_set) OVER life AS all_stored,
        bitmapAndnot(groupBitmapMergeState(ended_set) OVER until_then, groupBitmapMergeState(ended_set) OVER before) AS fresh,
        groupBitmapMergeState(by_set) OVER until_then AS by_then, groupBitmapMergeState(by_set) OVER before AS by_before,
        max(bitmapMax(ended_set)) OVER before AS highest_before, count() OVER before AS hours_before,
        bitmapMax(ended_set) AS highest_of_hour, bitmapMin(ended_set) AS lowest_of_hour
    FROM hours
    WINDOW life AS (PARTITION BY table_name, node_id, epoch),
        until_then AS (PARTITION BY table_name, node_id, epoch ORDER BY hour ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW),
        before AS (PARTITION BY table_name, node_id, epoch ORDER BY hour ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)),
bounded AS (
    SELECT *,
        multiIf(hours_before > 0, highest_before, epoch >= {since:Int64}, toUInt64(0), toUInt64(lowest_of_hour - 1)) AS low,
        greatest(low, if(hour >= toStartOfHour(fromUnixTimestamp64Milli({settled:Int64})), least(highest_of_hour, s.highest), highest_of_hour)) AS high,
        bitmapSubsetInRange(all_ended, low + 1, high + 1) AS there,
        arrayConcat([low], arraySort(bitmapToArray(there)), [high + 1]) AS numbers,
        arrayFilter(g -> g.1 <= g.2, arrayMap((a, b) -> (toUInt64(a + 1), toUInt64(b - 1)), arrayPopBack(numbers), arrayPopFront(numbers))) AS holes
    FROM placed LEFT ANY JOIN settled AS s USING (table_name, node_id, epoch)
    WHERE hour >= fromUnixTimestamp64Milli({from:Int64}) AND hour <= fromUnixTimestamp64Milli({to:Int64}))
SELECT table_name, node_id, epoch, toUnixTimestamp64Milli(hour) AS of_hour,
    bitmapAndCardinality(fresh, all_stored) AS stored, bitmapAndnotCardinality(fresh, all_stored) AS quarantined,
    toUInt64(high - low - bitmapCardinality(there)) AS lost,
    toUInt64(bitmapCardinality(by_then) - arrayUniq(arrayMap(n -> bitAnd(n, bitShiftLeft(toUInt64(1), 40) - 1), bitmapToArray(by_then)))
        - (bitmapCardinality(by_before) - arrayUniq(arrayMap(n -> bitAnd(n, bitShiftLeft(toUInt64(1), 40) - 1), bitmapToArray(by_before))))) AS duplicated,
    length(holes) AS gaps, arraySlice(holes, 1, {gaps:UInt32}) AS gap_list
FROM bounded
ORDER BY table_name, node_id, epoch, hour
