// SPDX-License-Identifier: Apache-2.0

package readers

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gpufleet/gpufleet/schema"
)

// TestScopedTables: each table is either one whose rows say whose they are, or known not to be for readers of some rows.
func TestScopedTables(t *testing.T) {
	closed := []string{"prices", "price_quarantine", "price_reads", "bills", "bill_imports", "bill_quarantine", "ingest_ledger", "schema_versions", "collectors", "collector_claims", "ingest_sequences", "rollup_progress", "account_builds"}
	for _, table := range schema.StoredTables() {
		if scoped := slices.Contains(scopedTables(), table.Name); scoped == slices.Contains(closed, table.Name) {
			t.Errorf("table %s: has tenant and residency: %t. A table of agents' rows needs both; another one belongs in the list here, and in docs/security.md", table.Name, scoped)
		}
	}
	for _, view := range []string{"fleet_prices", "price_feeds", "fleet_rates", "fleet_cost_now", "fleet_bills", "bill_machines", "bill_drift", "ingest_audit", "ingest_hours", "rollup_status", "account_versions"} {
		if slices.Contains(scopedViews(), view) {
			t.Errorf("view %s is open", view)
		}
	}
	for _, view := range []string{"fleet_now", "fleet_gpus", "fleet_minutes", "fleet_hours", "fleet_account", "fleet_capacity", "fleet_cost_by_team"} {
		if !slices.Contains(scopedViews(), view) {
			t.Errorf("view %s is closed", view)
		}
	}
}

// TestServerTakesTheStatements: ClickHouse runs each up to where it would be written: it knows all settings, rights and roles
// that are named. Its library, which we test with, keeps no users that SQL makes. That these rules hold is tried with those of
// the XML, which are made of the same lists.
func TestServerTakesTheStatements(t *testing.T) {
	rs := []Reader{reader("acme", []string{"acme", "globex"}, []string{"eu"}), reader("all_rows", nil, nil)}
	w := newWorld(t, rs...)
	notKept := func(sql string) bool {
		_, err := w.as("everything").Ask(t.Context(), sql)
		says := said(err)
		return strings.HasPrefix(sql, "DROP ROW POLICY IF EXISTS ") && err == nil || // there is none
			strings.Contains(says, "(ACCESS_STORAGE_FOR_INSERTION_NOT_FOUND)") || strings.Contains(says, "(ACCESS_STORAGE_READONLY)")
	}
	for _, r := range rs {
		sql, err := r.SQL("gpufleet")
		if err != nil {
			t.Fatal(err)
		}
		for _, statement := range sql {
			if !notKept(statement) {
				_, err := w.as("everything").Ask(t.Context(), statement)
				t.Errorf("%.200s: %.500v", statement, err)
			}
		}
	}
	for _, wrong := range []string{
		"CREATE SETTINGS PROFILE wrong SETTINGS max_rows_to_red = 1 CONST", "CREATE SETTINGS PROFILE wrong SETTINGS max_execution_time = 'long'",
		"GRANT SELECTS ON gpufleet.* TO gpufleet_reader_acme", "CREATE ROW POLICY wrong ON gpufleet.gpu_events USING 1 TO nobody",
	} {
		if notKept(wrong) {
			t.Errorf("%s: is taken, so this test proves nothing", wrong)
		}
	}
}

func TestImpossibleReaders(t *testing.T) {
	for want, change := range map[string]func(*Reader){
		"letters, digits":   func(r *Reader) { r.Name = "a`; DROP USER b" },
		"64 hexadecimal":    func(r *Reader) { r.PasswordSHA256 = "secret" },
		"tenant or zone":    func(r *Reader) { r.Tenants = []string{"a' OR 1 --"} },
		"at both ends":      func(r *Reader) { r.Residencies = []string{""} },
		"10.0.0.0/8":        func(r *Reader) { r.Networks = []string{"all'"} },
		"memory: at least":  func(r *Reader) { r.Limits.MemoryBytes = 0 },
		"less than what it": func(r *Reader) { r.Limits.MostResultRows = 1 },
	} {
		r := reader("acme", []string{"acme"}, nil)
		change(&r)
		if _, err := r.SQL("gpufleet"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("SQL: %v, want %q", err, want)
		}
		if _, err := XML("gpufleet", r); err == nil || strings.Contains(err.Error(), "DROP USER") && want != "letters, digits" {
			t.Errorf("XML: %v", err)
		}
	}
}

func TestHashStaysOutOfMessages(t *testing.T) {
	r := reader("acme", []string{"acme"}, nil)
	if text := fmt.Sprintf("%v %s %+v %#v", r, r, r, r); strings.Contains(text, r.PasswordSHA256) {
		t.Errorf("printed as %s", text)
	}
}

// TestClusterSettings: on a cluster readers have what questions over the shards need, whatever the server's own profile says.
func TestClusterSettings(t *testing.T) {
	r := reader("acme", []string{"acme"}, nil)
	for _, r.Cluster = range []bool{true, false} {
		statements, err := r.SQL("gpufleet")
		if err != nil {
			t.Fatal(err)
		}
		profile := strings.Join(statements, "\n")
		for _, s := range []string{"optimize_skip_unused_shards = 1 CONST", "distributed_product_mode = 'global' CONST"} {
			if strings.Contains(profile, s) != r.Cluster {
				t.Errorf("cluster %t: %s: there is %t", r.Cluster, s, !r.Cluster)
			}
		}
	}
}
