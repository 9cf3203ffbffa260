// SPDX-License-Identifier: Apache-2.0

package golden

import (
	"fmt"
	"strings"

	"github.com/gpufleet/gpufleet/schema"
)

// database is the name that statements in the golden files use.
const database = "gpufleet"

// VersionFile is the path of the statements of this version, which never change once they are committed.
func VersionFile() string { return fmt.Sprintf("%s%d.sql", frozenFolder, schema.Version) }

// sqlFiles are the statements that Migrate runs on an empty server, for review.
func sqlFiles() map[string][]byte {
	var stored, views []string
	for _, t := range schema.StoredTables() {
		stored = append(stored, t.CreateTable(database))
	}
	for _, f := range schema.Feeds() {
		stored = append(stored, f.CreateFeed(database))
	}
	for _, v := range schema.Views() {
		views = append(views, v.CreateView(database))
	}
	return map[string][]byte{
		VersionFile():                 script(stored),
		"schema/testdata/views.sql":   script(views),
		"schema/testdata/cluster.sql": script(schema.ClusterStatements(database, database)),
	}
}

func script(statements []string) []byte {
	return []byte(strings.Join(statements, ";\n\n") + ";\n")
}
