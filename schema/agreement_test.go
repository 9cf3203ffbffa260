// SPDX-License-Identifier: Apache-2.0

package schema_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gpufleet/gpufleet/schema"
)

// wantColumnsOfSchema compares what ClickHouse says of tables and views with the schema.
func (f fleet) wantColumnsOfSchema(t *testing.T) {
	t.Helper()
	var want strings.Builder
	for _, table := range schema.StoredTables() {
		fmt.Fprintf(&want, "%s: %s\n", table.Name, table.Meaning)
		for _, c := range table.Columns {
			fmt.Fprintf(&want, "%s\t%s\t%s\tCODEC(%s)\n", c.Name, c.ClickHouseType(), c.Comment(), c.Codec())
		}
	}
	for _, view := range schema.Views() {
		fmt.Fprintf(&want, "%s: %s\n", view.Name, view.Meaning)
		for _, c := range view.Columns {
			fmt.Fprintf(&want, "%s\t%s\t%s\t\n", c.Name, c.Type, c.Comment())
		}
	}
	if diff := cmp.Diff(want.String(), f.columns(t)); diff != "" {
		t.Errorf("tables and views (-schema +ClickHouse):\n%s", diff)
	}
}

var deltaWidth = regexp.MustCompile(`Delta\(\d\)`)

// columns are the tables and views of the database, in the schema's order.
func (f fleet) columns(t *testing.T) string {
	t.Helper()
	names := []string{}
	for _, table := range schema.StoredTables() {
		names = append(names, table.Name)
	}
	for _, view := range schema.Views() {
		names = append(names, view.Name)
	}
	var got strings.Builder
	for _, name := range names {
		in := fmt.Sprintf("database = '%s' AND ", f.Name)
		fmt.Fprintf(&got, "%s: %s\n", name, f.query(t, "SELECT comment FROM system.tables WHERE "+in+"name = '"+name+"' FORMAT TSVRaw"))
		fmt.Fprintln(&got, f.query(t, "SELECT name, type, comment, compression_codec FROM system.columns WHERE "+in+"table = '"+name+"' ORDER BY position FORMAT TSVRaw"))
	}
	return deltaWidth.ReplaceAllString(got.String(), "Delta")
}

func TestClickHouseAgreesWithTheSchema(t *testing.T) {
	newFleet(t).wantColumnsOfSchema(t)
}
