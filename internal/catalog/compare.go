// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/gpufleet/gpufleet/schema"
)

// Compare lists what a database has otherwise than this version: none if they agree. Nothing is changed.
// A database may have more than this version knows, and may keep rows for another time. It may be of one server, of a
// shard, or that of a cluster.
func Compare(ctx context.Context, db schema.Execer, database string) ([]string, error) {
	dry := &dryRun{Execer: db}
	layout, err := schema.Find(ctx, dry, database)
	if err == nil {
		err = layout.Migrate(ctx, dry, "")
	}
	if dry.err != nil {
		return nil, dry.err
	}
	var differences []string
	if err != nil { // not of asking, so of what was found
		differences = append(differences, strings.Split(err.Error(), "\n")...)
	}
	for _, s := range dry.statements {
		differences = append(differences, describe(s))
	}
	version, err := Version(ctx, db, database)
	if err != nil {
		return nil, err
	}
	if version > schema.Version {
		differences = append(differences, fmt.Sprintf("the database has version %d, this program %d: use a newer gpufleet", version, schema.Version))
	}
	return differences, nil
}

// Version is the version of the schema that was last applied to the database; 0 if none was.
func Version(ctx context.Context, db schema.Execer, database string) (uint32, error) {
	var tables []struct {
		N uint64 `ch:"n"`
	}
	const table = "schema_versions"
	if err := db.Select(ctx, &tables, fmt.Sprintf("SELECT count() AS n FROM system.tables WHERE database = %s AND name = '%s'", text(database), table)); err != nil {
		return 0, fmt.Errorf("ask for the version of the schema: %w", err)
	}
	if tables[0].N == 0 {
		return 0, nil
	}
	var versions []struct {
		Version uint32 `ch:"v"`
	}
	if err := db.Select(ctx, &versions, fmt.Sprintf("SELECT max(version) AS v FROM `%s`.%s", strings.ReplaceAll(database, "`", ""), table)); err != nil {
		return 0, fmt.Errorf("ask for the version of the schema: %w", err)
	}
	return versions[0].Version, nil
}

func text(s string) string {
	return "'" + strings.NewReplacer("\\", "\\\\", "'", "\\'").Replace(s) + "'"
}

// dryRun notes the statements that a migration would run.
type dryRun struct {
	schema.Execer
	statements []string
	err        error // of asking
}

// Exec implements schema.Execer.
func (d *dryRun) Exec(_ context.Context, query string, _ ...any) error {
	d.statements = append(d.statements, query)
	return nil
}

// Select implements schema.Execer.
func (d *dryRun) Select(ctx context.Context, dest any, query string, args ...any) error {
	err := d.Execer.Select(ctx, dest, query, args...)
	if err != nil && d.err == nil {
		d.err = fmt.Errorf("compare the schema: %w", err)
	}
	return err
}

// statements are the kinds that a migration consists of, and what each says of the database.
var statements = []struct {
	pattern *regexp.Regexp
	says    string
}{
	{regexp.MustCompile("^CREATE DATABASE IF NOT EXISTS `(.+)`"), "database $1 is missing"},
	{regexp.MustCompile("^CREATE TABLE IF NOT EXISTS `.+?`\\.`(.+?)`"), "table $1 is missing"},
	{regexp.MustCompile("^CREATE OR REPLACE TABLE `.+?`\\.`(.+?)`"), "table $1 over the shards is missing or of another version"},
	{regexp.MustCompile("^ALTER TABLE `.+?`\\.`(.+?)` ADD COLUMN IF NOT EXISTS `(.+?)`"), "column $1.$2 is missing"},
	{regexp.MustCompile("^ALTER TABLE `.+?`\\.`(.+?)` (?:COMMENT COLUMN|MODIFY COMMENT)"), "comments of $1 are of another version"},
	{regexp.MustCompile("^CREATE MATERIALIZED VIEW IF NOT EXISTS `.+?`\\.`(.+?)`"), "feed $1 is missing"},
	{regexp.MustCompile("^ALTER TABLE `.+?`\\.`(.+?)` MODIFY QUERY"), "feed $1 is of another version"},
	{regexp.MustCompile("^CREATE OR REPLACE VIEW `.+?`\\.`(.+?)`"), "view $1 is missing or of another version"},
	{regexp.MustCompile("^INSERT INTO `.+?`\\.`schema_versions`"), fmt.Sprintf("version %d is not recorded as applied", schema.Version)},
}

// describe says what a statement would mend.
func describe(statement string) string {
	for _, s := range statements {
		if match := s.pattern.FindStringSubmatchIndex(statement); match != nil {
			return string(s.pattern.ExpandString(nil, s.says, statement, match))
		}
	}
	first, _, _ := strings.Cut(statement, "\n")
	return "to be done: " + first
}
