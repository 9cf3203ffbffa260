-- One table, every agent's life that was written since: what the ledger says, held against the rows.
-- A life agrees if its sequences have no gap and if the rows that are there are those that the ledger
-- counts: as many, and with the same sum of hashes of their sequences. Nothing is grouped by sequence
-- but the ledger, in the order in which it lies on disk. Lives that agree come back added up by node
-- (epoch 0), the others one by one.
WITH ledger AS (
    SELECT node_id, epoch, min(seq) AS low, max(seq) AS high, count() AS batches, countIf(stored) AS stored_batches,
        sum(expected) AS stored_rows, sum(expected * cityHash64(seq)) AS stored_hash
    FROM (
        SELECT node_id, epoch, seq, max(state = 'stored') AS stored, maxIf(toUInt64(rows), state = 'stored') AS expected
        FROM ingest_ledger
        WHERE table_name = {table:String}
          AND recorded_at >= fromUnixTimestamp64Milli({since:Int64}) AND recorded_at <= fromUnixTimestamp64Milli({settled:Int64}) /*nodes*/
        GROUP BY node_id, epoch, seq)
    GROUP BY node_id, epoch),
lives AS (
    SELECT node_id, epoch, any(low) AS low, any(high) AS high, any(batches) AS batches, any(stored_batches) AS stored_batches,
        any(stored_rows) AS stored_rows, any(stored_hash) AS stored_hash, toUInt64(0) AS rows, toUInt64(0) AS hash, toUInt64(0) AS beyond
    FROM ledger GROUP BY node_id, epoch
    UNION ALL
    SELECT node_id, epoch, 0, max(seq), 0, 0, 0, 0, countIf(known AND seq >= low AND seq <= high), sumIf(cityHash64(seq), known AND seq >= low AND seq <= high),
        -- Rows that have been there for a while, after the last batch that the ledger has of the life.
        countIf(seq > high AND (known OR ts >= fromUnixTimestamp64Milli({since:Int64})) AND _part IN (
            SELECT name FROM system.parts
            WHERE database = currentDatabase() AND table = {table:String} AND active AND modification_time <= toDateTime({old:Int64})))
    FROM (
        SELECT r.node_id AS node_id, r.epoch AS epoch, r.seq AS seq, r.ts AS ts, r._part AS _part, l.low AS low, l.high AS high, l.high > 0 AS known
        FROM {table:Identifier} AS r LEFT JOIN ledger AS l ON r.node_id = l.node_id AND r.epoch = l.epoch
        -- What was inserted since lies in partitions that have a part that was written since.
        WHERE r._partition_id IN (
            SELECT partition_id FROM system.parts
            WHERE database = currentDatabase() AND table = {table:String} AND active AND modification_time >= toDateTime(intDiv({since:Int64}, 1000))) /*nodes*/)
    GROUP BY node_id, epoch)
SELECT node_id, if(suspect, epoch, 0) AS life, sum(weight) AS weight, sum(b) AS batches, sum(s) AS stored, sum(r) AS stored_rows
FROM (
    SELECT node_id, epoch, max(high) AS weight, sum(batches) AS b, sum(stored_batches) AS s, sum(stored_rows) AS r,
        b > 0 AND b != if(epoch >= {since:Int64}, maxIf(high, batches > 0), maxIf(high, batches > 0) + 1 - maxIf(low, batches > 0))
            OR r != sum(rows) OR sum(stored_hash) != sum(hash) OR sum(beyond) > 0 AS suspect
    FROM lives GROUP BY node_id, epoch)
WHERE b > 0 OR suspect
GROUP BY node_id, life
