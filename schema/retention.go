// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Retention is how long a table keeps its rows. Whoever runs a database decides it: Migrate leaves it alone.
// One that held for a part of the rows alone would be another condition of the same TTL.
type Retention struct {
	Table string
	Days  int  // rows older than this are dropped; 0 keeps them
	Cold  Cold // where rows move before that
}

// Cold is a volume of the table's storage policy for rows that are seldom read; zero: there is none.
type Cold struct {
	Volume    string
	AfterDays int
}

// DefaultRetention is what tables are made with, of those that drop rows.
func DefaultRetention() []Retention {
	var all []Retention
	for _, t := range StoredTables() {
		if t.TTLDays > 0 {
			all = append(all, Retention{Table: t.Name, Days: t.TTLDays})
		}
	}
	return all
}

// Validate tells what cannot be honoured.
func (r Retention) Validate() error {
	names := make([]string, 0, 8)
	for _, d := range DefaultRetention() {
		names = append(names, d.Table)
	}
	switch {
	case !slices.Contains(names, r.Table):
		return fmt.Errorf("retention of %q: no such table drops rows; these do: %s", r.Table, strings.Join(names, ", "))
	case r.Days < 0 || r.Days > 36_500:
		return fmt.Errorf("retention of %s of %d days: 1 to 36500, or 0 to keep all", r.Table, r.Days)
	case (r.Cold.Volume == "") != (r.Cold.AfterDays == 0) || r.Cold.AfterDays < 0:
		return fmt.Errorf("cold volume %q of %s after %d days: give both, or neither", r.Cold.Volume, r.Table, r.Cold.AfterDays)
	case r.Days > 0 && r.Cold.AfterDays >= r.Days:
		return fmt.Errorf("%s goes to volume %q after %d days, and is dropped after %d: move it earlier", r.Table, r.Cold.Volume, r.Cold.AfterDays, r.Days)
	default:
		return nil
	}
}

// rules are the expressions of the TTL, as ClickHouse writes them: what drops rows comes first.
func (r Retention) rules(column string) string {
	var rules []string
	if r.Days > 0 {
		rules = append(rules, fmt.Sprintf("toDateTime(%s) + toIntervalDay(%d)", column, r.Days))
	}
	if r.Cold.Volume != "" {
		rules = append(rules, fmt.Sprintf("toDateTime(%s) + toIntervalDay(%d) TO VOLUME %s", column, r.Cold.AfterDays, QuoteText(r.Cold.Volume)))
	}
	return strings.Join(rules, ", ")
}

// KeptDays is SQL over a row of system.tables: after how many days the table's rows go, or 0 if never, or if a rule in other
// words says so. What moves rows, packs or adds them up drops none.
const KeptDays = `toUInt32OrZero(arrayFirst(rule -> rule[2] = '', extractAllGroupsVertical(engine_full, 'toDateTime\\(ts\\) \\+ toIntervalDay\\((\\d+)\\)( TO | RECOMPRESS | GROUP BY )?'))[1])`

// OldestDay is SQL that asks for the first day, in seconds since 1970, of which a table with partitions by day has rows; of
// one that has none it is a given number.
func OldestDay(database, table string, none int64) string {
	return fmt.Sprintf("SELECT if(count() = 0, %d, toInt64(toUnixTimestamp(toDateTime(min(toDate(partition)), 'UTC')))) FROM system.parts WHERE active AND database = %s AND table = %s", none, QuoteText(database), QuoteText(table))
}

type liveRetention struct {
	Name    string   `ch:"name"`
	Engine  string   `ch:"engine_full"`
	Policy  string   `ch:"storage_policy"`
	Volumes []string `ch:"volumes"`
}

// ApplyRetention gives tables the retention that is wanted, those that have another. Nothing is changed if one of them
// cannot be honoured. Rows that are too old by it go when ClickHouse next looks.
func ApplyRetention(ctx context.Context, db Execer, database string, wanted []Retention) error {
	if len(wanted) == 0 {
		return nil
	}
	live := map[string]liveRetention{}
	var tables []liveRetention
	err := db.Select(ctx, &tables, `SELECT name, engine_full, storage_policy, arraySort(groupArray(volume_name)) AS volumes
FROM system.tables LEFT JOIN (SELECT policy_name, volume_name FROM system.storage_policies) AS p ON storage_policy = p.policy_name
WHERE database = `+QuoteText(database)+` GROUP BY name, engine_full, storage_policy`)
	if err != nil {
		return fmt.Errorf("ask for the retention of database %s: %w", database, err)
	}
	for _, t := range tables {
		live[t.Name] = t
	}
	var problems []error
	var statements []string
	for _, r := range wanted {
		t := live[r.Table]
		problems = append(problems, r.Validate(), r.fits(t))
		statements = append(statements, r.statements(database, t)...)
	}
	if err := errors.Join(problems...); err != nil {
		return err
	}
	for _, s := range statements {
		if err := db.Exec(ctx, s); err != nil {
			return fmt.Errorf("change the retention in database %s: %.120s: %w", database, s, err)
		}
	}
	return nil
}

// fits tells whether the table is there, and has the volume.
func (r Retention) fits(live liveRetention) error {
	switch {
	case live.Name == "":
		return fmt.Errorf("retention of %s: the database has no such table", r.Table)
	case r.Cold.Volume != "" && !slices.Contains(live.Volumes, r.Cold.Volume):
		return fmt.Errorf("cold volume %q of %s: its storage policy %q has the volumes %s alone: name one of these, or give the table a policy that has it (docs/operations.md)",
			r.Cold.Volume, r.Table, live.Policy, strings.Join(live.Volumes, ", "))
	default:
		return nil
	}
}

// statements change what is not as wanted. What is there already is not rewritten: ClickHouse computes anew when its
// parts are due.
func (r Retention) statements(database string, live liveRetention) []string {
	i := slices.IndexFunc(StoredTables(), func(t Table) bool { return t.Name == r.Table })
	if i < 0 {
		return nil
	}
	rules := r.rules(StoredTables()[i].timeColumn())
	name := QuoteName(database) + "." + QuoteName(r.Table)
	_, now, has := strings.Cut(live.Engine, " TTL ")
	now, _, _ = strings.Cut(now, " SETTINGS ")
	switch {
	case now == rules:
		return nil
	case rules == "" && has:
		return []string{"ALTER TABLE " + name + " REMOVE TTL"}
	default:
		return []string{
			"ALTER TABLE " + name + " MODIFY SETTING materialize_ttl_recalculate_only = 1",
			"ALTER TABLE " + name + " MODIFY TTL " + rules,
		}
	}
}
