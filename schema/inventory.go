// SPDX-License-Identifier: Apache-2.0

package schema

import "slices"

// Inventory is kept as observations. An agent writes one at its start, one when something changed,
// and one an hour to say that it still holds. Equal observations in a row make one interval: see the
// views gpu_intervals and node_intervals.

func observation() []Column {
	return []Column{
		{Name: "content_hash", Type: Uint64, Meaning: "Hash over the facts of this row, without its times: equal hashes in a row are one interval."},
	}
}

func name(column, meaning string) Column {
	return Column{Name: column, Type: Name, Nullable: true, Meaning: meaning}
}

func text(column, meaning string) Column {
	return Column{Name: column, Type: Text, Nullable: true, Meaning: meaning}
}

func number(column string, t Type, unit, meaning string) Column {
	return Column{Name: column, Type: t, Nullable: true, Unit: unit, Meaning: meaning}
}

func gpuInventoryTable() Table {
	columns := slices.Concat(
		[]Column{timeColumn("When this was observed."), gpuColumn()},
		stamped(), observation(),
		[]Column{
			{Name: "gpu_uuid", Type: Text, OTel: "hw.id", Meaning: "UUID of the GPU or MIG instance, as NVML gives it."},
			{Name: "parent_gpu_uuid", Type: Text, Nullable: true, OTel: "hw.parent", Meaning: "UUID of the GPU that a MIG instance is part of."},
			number("gpu_index", Uint16, "", "Position in NVML's order. Not stable: never a key."),
			number("gpu_minor", Uint16, "", "Minor number of the device file /dev/nvidiaN."),
			number("module_id", Uint16, "", "Position of the module on the board."),
			name("model", "Product name, as NVML gives it."),
			name("architecture", "Architecture: ampere, hopper, blackwell."),
			name("compute_capability", "CUDA compute capability, such as 9.0."),
			text("serial_number", "Serial number of the board: survives the instance that it is rented in."),
			name("board_part_number", "Part number of the board."),
			text("pci_bus_id", "PCI address, domain:bus:device.function: joins with kernel log lines."),
			name("vbios_version", "VBIOS version."),
			name("inforom_version", "InfoROM image version."),
			name("gsp_firmware_version", "Version of the GPU system processor's firmware."),
			number("memory_total_bytes", Uint64, "By", "Device memory in all."),
			number("memory_reserved_bytes", Uint64, "By", "Device memory that the driver keeps for itself."),
			number("power_limit_milliwatts", Uint32, "mW", "Power limit in force."),
			number("power_limit_default_milliwatts", Uint32, "mW", "Power limit after a reset."),
			number("power_limit_min_milliwatts", Uint32, "mW", "Lowest power limit that can be set."),
			number("power_limit_max_milliwatts", Uint32, "mW", "Highest power limit that can be set."),
			number("sm_clock_max_megahertz", Uint16, "MHz", "Highest clock of the multiprocessors."),
			number("memory_clock_max_megahertz", Uint16, "MHz", "Highest clock of the memory."),
			number("slowdown_celsius", Int16, "Cel", "Hardware slowdown; on Hopper and later a margin below the limit."),
			number("shutdown_celsius", Int16, "Cel", "Shutdown; on Hopper and later a margin below the limit."),
			number("gpu_max_celsius", Int16, "Cel", "Highest operating temperature; on Hopper and later a margin."),
			number("memory_max_celsius", Int16, "Cel", "Highest operating temperature of the memory; on Hopper and later a margin."),
			number("ecc_enabled", Uint8, "", "1 if ECC is on."),
			number("mig_enabled", Uint8, "", "1 if MIG is on."),
			number("persistence_enabled", Uint8, "", "1 if persistence mode is on."),
			number("nvlink_count", Uint8, "", "NVLinks that the GPU has."),
			number("pcie_max_generation", Uint8, "", "Highest PCIe generation."),
			number("pcie_max_width", Uint8, "", "PCIe lanes that the GPU has."),
			text("fabric_cluster_uuid", "NVLink fabric that the GPU belongs to."),
			number("fabric_clique_id", Uint32, "", "Clique within the fabric: GPUs that reach each other by NVLink."),
			text("chassis_serial_number", "Serial number of the chassis (NVL72)."),
			number("slot_number", Uint16, "", "Slot in the chassis."),
			number("tray_index", Uint16, "", "Tray in the chassis."),
			number("host_id", Uint16, "", "Host in the tray."),
			number("gpu_instance_id", Uint32, "", "Number of the MIG GPU instance within its GPU."),
			number("compute_instance_id", Uint32, "", "Number of the MIG compute instance within its GPU instance."),
			name("mig_profile", "Profile of the MIG instance, such as 1g.10gb."),
			number("removed", Uint8, "", "1 if the GPU is no longer in the node: this observation ends the interval of the one before. NULL while it is there."),
		})
	return Table{
		ID: GPUInventoryID, Name: "gpu_inventory", Columns: columns,
		Meaning: "Observations of GPUs: what they are, where they sit, their limits. See gpu_intervals and fleet_gpus.",
		OrderBy: "(gpu_id, ts)", PartitionBy: "toYYYYMM(ts)", Granularity: 1024,
	}
}

func nodeInventoryTable() Table {
	columns := slices.Concat(
		[]Column{timeColumn("When this was observed.")},
		stamped(), observation(),
		[]Column{
			{Name: "node_name", Type: Text, OTel: "host.name", Meaning: "Name of the node, unique in the fleet."},
			{Name: "reading_source", Type: Name, Meaning: "Where the readings come from: nvml, simulator, recording; otlp or prometheus if another program pushes them."},
			{Name: "provider", Type: Name, Nullable: true, OTel: "cloud.provider", Meaning: "Cloud: aws, azure, gcp, oci, …; NULL if unknown."},
			{Name: "region", Type: Name, Nullable: true, OTel: "cloud.region", Meaning: "Region of the cloud."},
			{Name: "zone_id", Type: Name, Nullable: true, OTel: "cloud.availability_zone", Meaning: "Zone id: the same for all accounts, unlike a zone name."},
			{Name: "instance_type", Type: Name, Nullable: true, OTel: "host.type", Meaning: "Instance type or shape."},
			{Name: "instance_id", Type: Text, Nullable: true, OTel: "host.id", Meaning: "Instance id at the provider."},
			name("life_cycle", "How it is rented: on_demand, spot, reserved, capacity_block, owned."),
			{Name: "cluster", Type: Name, Nullable: true, OTel: "k8s.cluster.name", Meaning: "Cluster that schedules onto the node."},
			name("rack", "Rack or placement group."),
			name("operating_system", "Operating system."),
			name("kernel_version", "Kernel version."),
			text("boot_id", "Changes with each boot."),
			name("agent_version", "Version of the agent."),
			name("driver_version", "Version of the GPU driver."),
			name("nvml_version", "Version of NVML."),
			name("cuda_version", "CUDA version of the driver."),
			number("gpu_count", Uint16, "", "GPUs that the driver lists."),
			{Name: "platform", Type: Name, Nullable: true, OTel: "cloud.platform", Meaning: "Service of the cloud that the node is rented from, such as aws_ec2, azure.vm or gcp_compute_engine."},
			{Name: "account_id", Type: Text, Nullable: true, OTel: "cloud.account.id", Meaning: "Account, subscription, project or compartment that pays for the node."},
			name("zone_name", "Zone as this account names it. Names differ between accounts: join by zone_id."),
			{Name: "image_id", Type: Text, Nullable: true, OTel: "host.image.id", Meaning: "Image that the node was started from."},
			text("capacity_reservation_id", "Reservation or capacity block that the node is taken from."),
			name("placement_group", "Placement group."),
			name("fault_domain", "Fault domain, or partition of a placement group."),
			text("physical_host", "Physical host, as far as the cloud tells; hashed per account by some."),
			text("topology_tier_0", "Switch or block next to the node: nodes that share it are closest."),
			text("topology_tier_1", "Next wider switch or block."),
			text("topology_tier_2", "Next wider switch or block."),
			text("topology_tier_3", "Widest switch or block that is told."),
			text("accelerator_domain", "NVLink domain that spans nodes."),
			{Name: "kubernetes_node", Type: Text, Nullable: true, OTel: "k8s.node.name", Meaning: "Name of the node in Kubernetes."},
			name("place_source", "Who told where the node is: configuration, or the services that answered, with commas between them."),
		})
	return Table{
		ID: NodeInventoryID, Name: "node_inventory", Columns: columns,
		Meaning: "Observations of nodes: cloud, region, instance type, driver. See node_intervals and fleet_nodes.",
		OrderBy: "(node_id, ts)", PartitionBy: "toYYYYMM(ts)", Granularity: 1024,
	}
}
