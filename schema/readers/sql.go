// SPDX-License-Identifier: Apache-2.0

package readers

import (
	"fmt"
	"strings"
	"time"

	"github.com/gpufleet/gpufleet/schema"
)

// prefix sets what is made here apart from what others made.
const prefix = "gpufleet_reader_"

// SQL is the statements that make the reader on a server that keeps its users itself, or change it. Filters restrict: a
// user who gets two such roles sees what both let it see.
func (r Reader) SQL(database string) ([]string, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	role := schema.QuoteName(prefix + r.Name)
	statements := []string{
		"CREATE SETTINGS PROFILE OR REPLACE " + role + " SETTINGS " + r.profileSQL(),
		"CREATE ROLE OR REPLACE " + role + " SETTINGS PROFILE " + sqlText(prefix+r.Name),
	}
	for _, grant := range r.grants(database) {
		statements = append(statements, "GRANT "+grant+" TO "+role)
	}
	filter := r.filter()
	for _, of := range r.databases(database) {
		for _, table := range scopedTables() {
			statements = append(statements, r.policies(of, table, filter)...)
		}
	}
	for _, c := range closed() {
		policy := fmt.Sprintf("%s ON %s.%s", schema.QuoteName(prefix+r.Name+"_only"), schema.QuoteName(c.database), schema.QuoteName(c.table))
		if filter == "" {
			statements = append(statements, "DROP ROW POLICY IF EXISTS "+policy)
			continue
		}
		statements = append(statements, "CREATE ROW POLICY OR REPLACE "+policy+" FOR SELECT USING "+c.filter+" AS RESTRICTIVE TO "+role)
	}
	l := r.Limits
	from := "ANY"
	if len(r.Networks) > 0 {
		from = "IP '" + strings.Join(r.Networks, "', '") + "'"
	}
	return append(statements,
		fmt.Sprintf("CREATE QUOTA OR REPLACE %s KEYED BY user_name FOR INTERVAL 1 minute MAX queries = %d, FOR INTERVAL 1 hour MAX read_rows = %d, execution_time = %d TO %[1]s",
			role, l.QueriesPerMinute, l.ReadRowsPerHour, int64(l.ExecutionTimePerHour/time.Second)),
		fmt.Sprintf("CREATE USER OR REPLACE %s IDENTIFIED WITH sha256_hash BY '%s' HOST %s DEFAULT ROLE %s DEFAULT DATABASE %s SETTINGS PROFILE %s",
			schema.QuoteName(r.Name), r.PasswordSHA256, from, role, schema.QuoteName(database), sqlText(prefix+r.Name)),
		fmt.Sprintf("GRANT %s TO %s", role, schema.QuoteName(r.Name)),
	), nil
}

// policies are the row filters of one table. A restriction alone lets nothing through on a server where who has no policy
// sees no rows.
func (r Reader) policies(database, table, filter string) []string {
	on, role := schema.QuoteName(database)+"."+schema.QuoteName(table), schema.QuoteName(prefix+r.Name)
	may := fmt.Sprintf("CREATE ROW POLICY OR REPLACE %s ON %s FOR SELECT USING 1 AS PERMISSIVE TO %s", schema.QuoteName(prefix+r.Name+"_may"), on, role)
	if filter == "" {
		return []string{may, fmt.Sprintf("DROP ROW POLICY IF EXISTS %s ON %s", schema.QuoteName(prefix+r.Name+"_only"), on)}
	}
	return []string{may, fmt.Sprintf("CREATE ROW POLICY OR REPLACE %s ON %s FOR SELECT USING %s AS RESTRICTIVE TO %s", schema.QuoteName(prefix+r.Name+"_only"), on, filter, role)}
}

func (r Reader) profileSQL() string {
	var parts []string
	for _, s := range r.settings() {
		part := s.name
		if s.value != "" {
			part += " = " + sqlValue(s.value)
		}
		switch {
		case s.max != "":
			part += " MIN " + s.min + " MAX " + s.max + " CHANGEABLE_IN_READONLY"
		case s.free:
			part += " CHANGEABLE_IN_READONLY"
		default:
			part += " CONST"
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ")
}

// sqlValue quotes words.
func sqlValue(text string) string {
	if strings.Trim(text, "0123456789") == "" {
		return text
	}
	return sqlText(text)
}

func sqlText(text string) string { return "'" + text + "'" }
