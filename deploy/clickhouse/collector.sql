-- What gpufleet-collector may do in the ClickHouse that it stores into. Run it once as an administrator, after
-- CREATE DATABASE gpufleet and CREATE USER gpufleet_collector (docs/install.md). A test runs a collector with just this.
-- Of another database write the name instead of gpufleet; on a cluster see docs/operations.md.

-- Its own tables and views: it makes them, changes them when it is upgraded, and has days dropped by age.
GRANT SELECT, INSERT, CREATE TABLE, DROP TABLE, ALTER ON gpufleet.* TO gpufleet_collector;

-- Whether an insert that was not answered goes on or has landed; where rows may be moved to.
GRANT SELECT ON system.parts TO gpufleet_collector;
GRANT SELECT ON system.processes TO gpufleet_collector;
GRANT SELECT ON system.storage_policies TO gpufleet_collector;

-- Asked for only where table_engines_require_grant is set.
GRANT TABLE ENGINE ON MergeTree TO gpufleet_collector;
GRANT TABLE ENGINE ON ReplacingMergeTree TO gpufleet_collector;
GRANT TABLE ENGINE ON AggregatingMergeTree TO gpufleet_collector;
