-- Some lives of one table, batch by batch. A batch is good unless the ledger counts rows of it that are
-- not there; the gaps are the holes between good batches, from where the life begins to the highest
-- batch that has settled. Batches that are still on their way are left out.
WITH batches AS (
    SELECT node_id, epoch, seq, max(in_ledger) AS recorded, max(is_stored) AS stored, max(expected_rows) AS expected,
        max(first_at) AS first_recorded, max(seen_at) AS seen,
        max(present_rows) AS present, max(newest_row) AS newest, max(oldest_row) AS oldest, max(is_old) AS old
    FROM (
        SELECT node_id, epoch, seq, 1 AS in_ledger, max(state = 'stored') AS is_stored, maxIf(toUInt64(rows), state = 'stored') AS expected_rows,
            toUnixTimestamp64Milli(min(recorded_at)) AS first_at,
            minIf(toUnixTimestamp64Milli(recorded_at), toUnixTimestamp64Milli(recorded_at) >= {since:Int64}) AS seen_at,
            toUInt64(0) AS present_rows, toInt64(0) AS newest_row, toInt64(0) AS oldest_row, 0 AS is_old
        FROM ingest_ledger
        WHERE table_name = {table:String} AND /*lives*/
        GROUP BY node_id, epoch, seq
        UNION ALL
        SELECT node_id, epoch, seq, 0, 0, 0, 0, 0, count(), toUnixTimestamp64Milli(max(ts)), toUnixTimestamp64Milli(min(ts)),
            max(/*old*/)
        FROM {table:Identifier}
        WHERE /*lives*/
        GROUP BY node_id, epoch, seq)
    GROUP BY node_id, epoch, seq),
placed AS (
    SELECT *,
        maxIf(seq, recorded AND first_recorded <= {settled:Int64} OR old) OVER life AS high,
        if(epoch >= {since:Int64}, toUInt64(1), argMinIf(seq, (if(recorded, seen, newest), seq),
            if(recorded, seen, newest) >= {since:Int64}) OVER life) AS low,
        toUInt64(low - 1) AS before,
        -- When the next batch that is there was sampled: rows go by age, so what lies before it may have gone by age too.
        minIf(oldest, present > 0) OVER (PARTITION BY node_id, epoch ORDER BY seq DESC ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS next
    FROM batches
    WINDOW life AS (PARTITION BY node_id, epoch)),
judged AS (
    SELECT *,
        seen > 0 AS counted,
        counted AND stored AND present < expected AND NOT (next > 0 AND next <= {expired:Int64}) AS missing,
        counted AND stored AND present > expected AS doubled,
        NOT stored AND old AND newest >= {since:Int64} AS unrecorded
    FROM placed
    WHERE seq <= high AND low > 0 AND low <= high),
spaced AS (
    SELECT *, lagInFrame(seq, 1, before) OVER (
        PARTITION BY node_id, epoch, missing OR seq < low ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS previous,
        NOT missing AND seq >= low AS good
    FROM judged)
SELECT node_id, epoch, sent, stored_batches, quarantined, stored_rows, lost, lost_rows, duplicated, duplicated_rows, unrecorded_batches, gaps, gap_list
FROM (
    SELECT node_id, epoch, toUInt64(max(high) - max(before)) AS sent, greatest(maxIf(seq, good), max(before)) AS last_good,
        countIf(counted AND stored) AS stored_batches, countIf(counted AND NOT stored) AS quarantined, sumIf(expected, counted) AS stored_rows,
        toUInt64(countIf(missing AND seq < low) + sumIf(seq - previous - 1, good) + max(high) - last_good) AS lost,
        toUInt64(sumIf(expected - present, missing)) AS lost_rows,
        countIf(doubled) AS duplicated, toUInt64(sumIf(present - expected, doubled)) AS duplicated_rows,
        countIf(unrecorded) AS unrecorded_batches,
        toUInt64(countIf(missing AND seq < low) + countIf(good AND seq > previous + 1) + (max(high) > last_good)) AS gaps,
        arraySort(arrayFilter(gap -> gap.1 <= gap.2, arrayConcat(
            groupArrayIf({gaps:UInt32})((seq, seq), missing AND seq < low),
            groupArrayIf({gaps:UInt32})((toUInt64(previous + 1), toUInt64(seq - 1)), good AND seq > previous + 1),
            [(toUInt64(last_good + 1), max(high))]))) AS gap_list
    FROM spaced
    GROUP BY node_id, epoch)
