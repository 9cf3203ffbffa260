-- The ledger by the hour, every agent's life of which something was recorded in the time. A life agrees if each of its
-- batches was recorded once, by one collector, and none is missing between them. Lives that agree come back added
-- up, by hour or by node (epoch 0); the others one by one, to be looked at with what was recorded of them before. Rows of
-- one hour that are not merged yet are not merged here: that takes ten times as long, and only makes a life be looked at
-- that may then agree.
WITH lives AS (
    SELECT table_name, node_id, epoch, sum(bitmapCardinality(ended)) AS batches, sum(bitmapCardinality(stored)) AS stored_batches,
        groupBitmapMergeState(ended) AS ended_set, bitmapMin(ended_set) AS low, bitmapMax(ended_set) AS high, groupBitmapMergeState(stored_by) AS by_set,
        epoch >= {since:Int64} AND low != 1 OR batches != high - low + 1 OR bitmapCardinality(ended_set) != batches
            OR bitmapCardinality(by_set) > 0 AND bitShiftRight(bitmapMin(by_set), 40) != bitShiftRight(bitmapMax(by_set), 40) AS suspect,
        groupArrayIf((toUnixTimestamp64Milli(hour), bitmapCardinality(ended), bitmapCardinality(stored)), {by:String} = 'hour') AS by_hour,
        if({by:String} = 'hour' AND NOT suspect, by_hour, [(toInt64(0), batches, stored_batches)]) AS hours
    FROM ingest_sequences
    WHERE hour >= fromUnixTimestamp64Milli({from:Int64}) AND hour <= fromUnixTimestamp64Milli({to:Int64}) /*nodes*/
    GROUP BY table_name, node_id, epoch)
SELECT if(suspect, table_name, '') AS life_table, if(suspect OR {by:String} = 'node', node_id, 0) AS life_node, if(suspect, epoch, 0) AS life_epoch,
    h.1 AS of_hour, sum(h.2) AS batches, sum(h.3) AS stored
FROM lives ARRAY JOIN hours AS h
GROUP BY life_table, life_node, life_epoch, of_hour
