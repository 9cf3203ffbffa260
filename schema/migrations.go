// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Execer is what Migrate needs of ClickHouse. A connection of clickhouse-go is one.
type Execer interface {
	// Exec runs a statement.
	Exec(ctx context.Context, query string, args ...any) error
	// Select runs a query and appends its rows to the slice that dest points to, a struct each, whose
	// tags ch name the columns.
	Select(ctx context.Context, dest any, query string, args ...any) error
}

// Migrate brings the database to the state of this version: it makes what is missing and adds columns
// and indexes that a table lacks. It never drops or retypes a column, and leaves the retention of a table that
// exists to those who run it. A database that is up to date is only read. Any number of programs may
// run it at the same time.
//
// A database of a newer version is left as it is, if it has all that this version needs. A column of
// another type is an error, and nothing is changed. by names the program and its version.
func Migrate(ctx context.Context, db Execer, database, by string) error {
	return Single(database).Migrate(ctx, db, by)
}

// Migrate does what the function of this name does, with what the layout has in its database.
func (l Layout) Migrate(ctx context.Context, db Execer, by string) error {
	found, err := inspect(ctx, db, l.Database)
	if err != nil {
		return fmt.Errorf("inspect database %s: %w", l.Database, err)
	}
	statements, err := found.plan(l, by)
	if err != nil {
		return fmt.Errorf("database %s: %w", l.Database, err)
	}
	for _, s := range statements {
		if err := db.Exec(ctx, s); err != nil {
			return fmt.Errorf("migrate database %s: %.80s: %w", l.Database, s, err)
		}
	}
	if l.Shard {
		return l.beginRollups(ctx, db)
	}
	return nil
}

// Fingerprint is the SHA-256 over the statements that make tables, feeds and views, in hexadecimal.
func Fingerprint() string { return Single("gpufleet").fingerprint() }

func (l Layout) fingerprint() string {
	l.Database = "gpufleet" // whatever it is called
	hash := sha256.New()
	for _, s := range l.Statements() {
		fmt.Fprintln(hash, s)
	}
	return hex.EncodeToString(hash.Sum(nil))
}

// state is what a database has.
type state struct {
	exists  bool
	tables  map[string]liveTable
	applied appliedVersion // the last one; zero if there is none
}

type liveTable struct {
	engine, comment string
	full            string // engine with its arguments
	columns         map[string]liveColumn
	indexes         []string
}

type liveColumn struct {
	Table   string `ch:"table"`
	Name    string `ch:"name"`
	Type    string `ch:"type"`
	Comment string `ch:"comment"`
	Codec   string `ch:"codec"` // such as CODEC(Delta(8), ZSTD(1)); "" if the column has none of its own
}

type appliedVersion struct {
	Version     uint32 `ch:"version"`
	Fingerprint string `ch:"fingerprint"`
	AppliedAt   string `ch:"applied"`
}

// inspect asks ClickHouse what the database has.
func inspect(ctx context.Context, db Execer, database string) (state, error) {
	s := state{tables: map[string]liveTable{}}
	var names []struct {
		Name string `ch:"name"`
	}
	if err := db.Select(ctx, &names, "SELECT name FROM system.databases WHERE name = "+QuoteText(database)); err != nil {
		return s, err
	}
	s.exists = len(names) > 0
	var tables []struct {
		Name    string `ch:"name"`
		Engine  string `ch:"engine"`
		Full    string `ch:"engine_full"`
		Comment string `ch:"comment"`
		// Who may read a table may not read system.data_skipping_indices.
		Indexes []string `ch:"indexes"`
	}
	if err := db.Select(ctx, &tables, `SELECT name, engine, engine_full, comment, extractAll(create_table_query, '\\bINDEX (\\w+) ') AS indexes FROM system.tables WHERE database = `+QuoteText(database)); err != nil {
		return s, err
	}
	for _, t := range tables {
		s.tables[t.Name] = liveTable{engine: t.Engine, full: t.Full, comment: t.Comment, columns: map[string]liveColumn{}, indexes: t.Indexes}
	}
	var columns []liveColumn
	if err := db.Select(ctx, &columns, "SELECT table, name, type, comment, compression_codec AS codec FROM system.columns WHERE database = "+QuoteText(database)); err != nil {
		return s, err
	}
	for _, c := range columns {
		if t, ok := s.tables[c.Table]; ok { // else made between the two queries
			t.columns[c.Name] = c
		}
	}
	if _, ok := s.tables[versionTable().Name]; !ok {
		return s, nil
	}
	var versions []appliedVersion
	err := db.Select(ctx, &versions, fmt.Sprintf("SELECT version, fingerprint, toString(applied_at) AS applied FROM %s.%s ORDER BY version DESC, applied_at DESC LIMIT 1",
		QuoteName(database), QuoteName(versionTable().Name)))
	if err != nil || len(versions) == 0 {
		return s, err
	}
	s.applied = versions[0]
	return s, nil
}

// plan lists the statements that are still to be run, or tells why the database cannot be used.
func (s state) plan(l Layout, by string) ([]string, error) {
	if err := s.check(l); err != nil {
		return nil, err
	}
	if s.applied.Version > Version {
		return nil, nil
	}
	var statements []string
	if !s.exists {
		statements = append(statements, "CREATE DATABASE IF NOT EXISTS "+QuoteName(l.Database))
	}
	for _, t := range l.Tables() {
		statements = append(statements, s.planTable(t, l)...)
	}
	current := s.applied.Version == Version && s.applied.Fingerprint == l.fingerprint()
	for _, f := range l.feeds() {
		switch _, ok := s.tables[f.Name]; {
		case !ok:
			statements = append(statements, f.CreateFeed(l.Database))
			if _, had := s.tables[f.From.Name]; had && !f.Copies() {
				statements = append(statements, f.Fill(l.Database)) // rows that came meanwhile are in it twice, which changes nothing
			}
		case !current:
			statements = append(statements, f.ModifyFeed(l.Database))
		}
	}
	for _, v := range l.views() {
		if _, ok := s.tables[v.Name]; !ok || !current {
			statements = append(statements, v.create(l))
		}
	}
	if !current {
		statements = append(statements, s.recordVersion(l, by))
	}
	return statements, nil
}

// check finds what cannot be mended: a column of another type, something else under a name of ours,
// and a column that a newer version should have.
func (s state) check(l Layout) error {
	var problems []error
	for _, t := range l.Tables() {
		live, ok := s.tables[t.Name]
		if err := l.checkEngine(t, live); ok && err != nil {
			problems = append(problems, err)
			continue
		}
		if l.isOver(t) {
			continue // it is replaced if it differs: nothing is in it
		}
		for _, c := range t.Columns {
			got, has := live.columns[c.Name]
			switch {
			case has && got.Type != c.ClickHouseType():
				problems = append(problems, fmt.Errorf("column %s.%s is %s, want %s", t.Name, c.Name, got.Type, c.ClickHouseType()))
			case !has && s.applied.Version > Version:
				problems = append(problems, fmt.Errorf("column %s.%s is missing, although the database has version %d and this program %d", t.Name, c.Name, s.applied.Version, Version))
			}
		}
	}
	wrong := func(name, engine string) {
		if live, ok := s.tables[name]; ok && live.engine != engine {
			problems = append(problems, fmt.Errorf("%s is a %s, want a %s: to replace it would lose what is in it", name, live.engine, engine))
		}
	}
	for _, f := range l.feeds() {
		wrong(f.Name, "MaterializedView")
	}
	for _, v := range l.views() {
		wrong(v.Name, "View")
	}
	return errors.Join(problems...)
}

// codecWidth is what ClickHouse adds to a codec that we give without it.
var codecWidth = regexp.MustCompile(`(Delta|GCD)\(\d+\)`)

// planTable makes the table, or adds what it lacks and mends its comments. The codecs are those of this version when it
// is applied first: what is there is packed anew as it is merged. One that an operator has changed since stays.
func (s state) planTable(t Table, l Layout) []string {
	live, ok := s.tables[t.Name]
	switch {
	case l.isOver(t) && !(ok && l.agrees(t, live)):
		return []string{l.createOver(t)}
	case l.isOver(t):
		return nil
	case !ok:
		return []string{t.create(l)}
	}
	return s.alterTable(t, l.Database, live)
}

// alterTable lists what a table that is there lacks.
func (s state) alterTable(t Table, database string, live liveTable) []string {
	var statements, changes []string
	if grown, ok := t.growKey(database, live); ok {
		statements = append(statements, grown)
	}
	for i, c := range t.Columns {
		got, has := live.columns[c.Name]
		switch {
		case !has && t.keyHas(c): // growKey adds it
			continue
		case !has:
			statements = append(statements, t.AddColumn(database, i))
			continue
		case got.Comment != c.Comment():
			changes = append(changes, fmt.Sprintf("COMMENT COLUMN %s %s", QuoteName(c.Name), QuoteText(c.Comment())))
		}
		if s.applied.Version < Version && codecWidth.ReplaceAllString(got.Codec, "$1") != "CODEC("+c.Codec()+")" {
			changes = append(changes, fmt.Sprintf("MODIFY COLUMN %s CODEC(%s)", QuoteName(c.Name), c.Codec()))
		}
	}
	for _, x := range t.Indexes {
		if !slices.Contains(live.indexes, x.Name) {
			statements = append(statements, t.AddIndex(database, x))
		}
	}
	if live.comment != t.Meaning {
		changes = append(changes, "MODIFY COMMENT "+QuoteText(t.Meaning))
	}
	if len(changes) > 0 {
		statements = append(statements, fmt.Sprintf("ALTER TABLE %s.%s %s", QuoteName(database), QuoteName(t.Name), strings.Join(changes, ", ")))
	}
	return statements
}

// keyHas tells whether the column is in the sorting key.
func (t Table) keyHas(c Column) bool {
	return slices.Contains(strings.Split(strings.Trim(t.OrderBy, "()"), ", "), c.Name)
}

// growKey adds the columns that the key of a table lacks, at its end. ClickHouse takes a column into the key in the statement
// that adds it, and never after that.
func (t Table) growKey(database string, live liveTable) (statement string, ok bool) {
	var parts []string
	for i, c := range t.Columns {
		if _, has := live.columns[c.Name]; !has && t.keyHas(c) {
			_, add, _ := strings.Cut(t.AddColumn(database, i), " ADD COLUMN ")
			parts = append(parts, "ADD COLUMN "+add)
		}
	}
	if len(parts) == 0 {
		return "", false
	}
	return fmt.Sprintf("ALTER TABLE %s.%s %s, MODIFY ORDER BY %s", QuoteName(database), QuoteName(t.Name), strings.Join(parts, ", "), t.OrderBy), true
}

// recordVersion adds a row to schema_versions. Programs that found the same state add it once: the
// token makes ClickHouse drop the others'.
func (s state) recordVersion(l Layout, by string) string {
	t, fingerprint := versionTable(), l.fingerprint()
	token := fmt.Sprintf("%d %s after %s", Version, fingerprint, cmp.Or(s.applied.AppliedAt, "nothing"))
	return fmt.Sprintf("INSERT INTO %s.%s (%s) SETTINGS async_insert = 0, insert_deduplication_token = %s VALUES (%d, now64(3), %s, %s)",
		QuoteName(l.Database), QuoteName(t.Name), strings.Join(t.quotedNames(), ", "), QuoteText(token), Version, QuoteText(by), QuoteText(fingerprint))
}
