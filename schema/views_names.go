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

// scopeKey is one number for whose a row is: to join by it takes a third of the time that it takes to join by the two texts.
const scopeKey = "cityHash64(%[1]stenant, %[1]sresidency)"

// joinNames joins the names of today to a table with the columns gpu_id, node_id, tenant and residency. The names are those
// that the row's own tenant has given: what another one says of the same GPU is no name of it. A row whose GPU or node is
// not known stays, with NULL for its names.
func joinNames(alias string) string {
	names := func(of, key, selected, joined string) string {
		return fmt.Sprintf("\nLEFT ANY JOIN (SELECT %[1]s, "+fmt.Sprintf(scopeKey, "")+" AS scope FROM {%[2]s} ORDER BY %[3]s, tenant, residency, ts DESC LIMIT 1 BY %[3]s, tenant, residency) AS %[4]s ON %[5]s.%[3]s = %[4]s.%[3]s AND "+
			fmt.Sprintf(scopeKey, alias+".")+" = %[4]s.scope", selected, of, key, joined, alias)
	}
	return names("gpu_current", ColumnGPU, nullableList(gpuInventoryTable(), ColumnGPU, gpuNames), "g") +
		names("node_current", ColumnNode, nullableList(nodeInventoryTable(), ColumnNode, nodeNames), "n")
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
