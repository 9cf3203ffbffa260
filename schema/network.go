// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"fmt"
	"slices"
	"strings"
)

// networkPortsTable has a row for each RDMA port and minute, in the manner of gpu_health: every counter
// with its total and its increment.
func networkPortsTable() Table {
	columns := slices.Concat(
		[]Column{
			timeColumn("When the port was read."),
			{Name: "device", Type: Name, Meaning: "RDMA device, as the kernel calls it: mlx5_0, rdmap16s27."},
			{Name: "port", Type: Uint16, Meaning: "Number of the port on the device, from 1 on."},
		},
		stamped(),
		[]Column{
			{Name: ColumnInterval, Type: Uint32, Nullable: true, Unit: "ms", Meaning: "Time that the increments of this row cover: since the port's counters were last read, which is longer than a minute after rows in which they could not be. NULL if the row has no increments."},
			{Name: ColumnCounterEpoch, Type: Uint32, Meaning: "Counts the resets of the port's counters that the agent saw, from 1 on."},
			name("link_layer", "InfiniBand or Ethernet (RoCE); EFA calls itself Unspecified."),
			name("driver", "Kernel driver: mlx5_core, efa, bnxt_en, ice."),
			name("firmware_version", "Firmware of the device."),
			name("board_id", "Kind of board, as the vendor names it."),
			text("pci_bus_id", "PCI address, domain:bus:device.function, as in gpu_inventory."),
			number("numa_node", Uint16, "", "NUMA node that the device hangs on: GPUs of the same node are near."),
			name("net_device", "Network device of the port; its addresses are RoCE's, or IPoIB's."),
			name("net_state", "State of the network device: up, down, dormant."),
			name("state", "Logical state: ACTIVE, or DOWN, INIT, ARMED, in which no data passes. MISSING if the port was there and is gone."),
			name("physical_state", "Physical state: LinkUp, Polling, Disabled, LinkErrorRecovery."),
			number("rate_gigabits_per_second", Float64, "Gbit/s", "Rate of the link; NULL while it is not up."),
			number("flapping", Uint8, "", "1 if the port lost its link often of late: see port_flapping of the event kinds."),
			number("degraded", Uint8, "", "1 if it runs slower than it has run, or than the configuration expects."),
		})
	for _, c := range NetworkCounters() {
		columns = append(columns, c.columns()...)
	}
	return Table{
		ID: NetworkPortsID, Name: "network_ports", Columns: columns,
		Meaning: "One row per RDMA port (InfiniBand, RoCE, EFA) and minute: state, rate, and what its counters gained. What a port does not tell is NULL.",
		OrderBy: "(node_id, device, port, ts)", PartitionBy: "toDate(ts)", TTLDays: 90, Granularity: 1024,
	}
}

// columns are the columns of network_ports that hold the counter.
func (c NetworkCounter) columns() []Column {
	return []Column{
		{Name: c.Name + "_total", Type: Uint64, Nullable: true, Counter: true, Unit: c.Unit, Meaning: c.Meaning},
		{Name: c.Name + "_delta", Type: Uint64, Nullable: true, Unit: c.Unit, Meaning: "Increment within interval_milliseconds, resets taken care of; NULL while the counter stands at its end, and where it would cover more than that: in the row after one that lacks this counter. " + c.Meaning},
	}
}

// fleetNetworkView leaves out the totals: they say when a counter was reset, and nothing else.
func fleetNetworkView() View {
	table := networkPortsTable()
	columns := copiedAll(table, "p", ColumnTime, ColumnNode)
	for _, c := range copiedAll(nodeInventoryTable(), "n", nodeNames...) {
		columns = append(columns, c.orNull())
	}
	columns = append(columns, copiedAll(table, "p", "device", "port")...)
	for _, c := range readings(table, "p") {
		if c.Name != "device" && c.Name != "port" && !strings.HasSuffix(c.Name, "_total") {
			columns = append(columns, c)
		}
	}
	return View{
		Name: "fleet_network", Columns: columns,
		Meaning: "Rows of network_ports with names. Columns that end in _delta are increments within interval_seconds. Give node_id or a range of ts. Names are those of today.",
		From: fmt.Sprintf("{network_ports} AS p\nLEFT ANY JOIN (SELECT %s FROM {node_current} FINAL) AS n ON p.node_id = n.node_id",
			nullableList(nodeInventoryTable(), ColumnNode, nodeNames)),
	}
}
