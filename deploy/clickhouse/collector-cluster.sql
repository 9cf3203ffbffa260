-- Beside collector.sql, on each server of a cluster: the rows of its own nodes are in gpufleet_local, and gpufleet is over
-- all shards. Both databases are made beforehand.
GRANT SELECT, INSERT, CREATE TABLE, DROP TABLE, ALTER ON gpufleet_local.* TO gpufleet_collector;
GRANT SELECT ON system.clusters TO gpufleet_collector;

-- Asked for only where table_engines_require_grant is set.
GRANT TABLE ENGINE ON Distributed TO gpufleet_collector;
