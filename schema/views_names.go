// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"fmt"
	"slices"
	"strings"
)

// The views of readings and events name the GPU and the node as they are today. A GPU's place in the past
// is in gpu_intervals, to be joined by time.

var (
	nodeNames = []string{"node_name", "provider", "region", "zone_id", "instance_type"}
	gpuNames  = []string{"gpu_uuid", "gpu_index", "model", "parent_gpu_uuid"}
)

// nameColumns are what joinNames makes known, from the aliases n and g.
func nameColumns() []ViewColumn {
	var columns []ViewColumn
	for _, c := range slices.Concat(copiedAll(nodeInventoryTable(), "n", nodeNames...), copiedAll(gpuInventoryTable(), "g", gpuNames...)) {
		columns = append(columns, c.orNull())
	}
	return columns
}

// joinNames joins the names of today to a table with the columns gpu_id and node_id. A row whose GPU or
// node is not known stays, with NULL for its names.
func joinNames(alias string) string {
	return fmt.Sprintf(`
LEFT ANY JOIN (SELECT %s FROM {gpu_current} FINAL) AS g ON %[3]s.gpu_id = g.gpu_id
LEFT ANY JOIN (SELECT %[2]s FROM {node_current} FINAL) AS n ON %[3]s.node_id = n.node_id`,
		nullableList(gpuInventoryTable(), ColumnGPU, gpuNames), nullableList(nodeInventoryTable(), ColumnNode, nodeNames), alias)
}

// nullableList selects a key and columns, all of them but the key as Nullable.
func nullableList(table Table, key string, names []string) string {
	list := []string{key}
	for _, name := range names {
		c := copied(table, name, "")
		if nullable := c.orNull(); nullable.Type != c.Type {
			list = append(list, fmt.Sprintf("CAST(%s, '%s') AS %[1]s", name, nullable.Type))
			continue
		}
		list = append(list, name)
	}
	return strings.Join(list, ", ")
}
