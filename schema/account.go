// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"slices"
	"strings"
)

// The account says of each hour what every GPU-millisecond of the inventory was spent on, and what it cost. The rows of an
// hour are made together and carry one version; a later version has all rows of the hour again, and stands beside the
// earlier one. A version counts once account_builds has it. See docs/account.md and docs/adr/013-account.md.

// AccountState is what a GPU-millisecond was spent on: each is in exactly one.
type AccountState struct {
	Name    string // the column is Name_milliseconds
	Meaning string
	Parts   []AccountPart
}

// AccountPart is a part of a state that is worth a name.
type AccountPart struct{ Name, Meaning string }

// AccountStates lists the states in the order in which a waterfall adds them up.
func AccountStates() []AccountState {
	return []AccountState{
		{"productive", "A kernel ran: the share of time that gpu_utilization_permille tells, or graphics_active_permille where that is not known.", []AccountPart{
			{"unattributed", "and nobody is known to have had the GPU."},
		}},
		{"allocated_idle", "Somebody had the GPU, and no kernel ran.", []AccountPart{
			{"unmeasured", "or it is not known whether one ran: the GPU does not tell, as one that is split into MIG instances."},
		}},
		{"busy_lost", "A kernel ran for work that was lost or done twice, as a job itself says: 0 as long as none does.", nil},
		{"unhealthy", "A critical fault was open, the driver asked for a reset, or the GPU was lost, stuck, or without a driver.", []AccountPart{
			{"lost", "and the GPU gave no rows."},
		}},
		{"unallocated", "The GPU gave rows, nobody had it, and no kernel ran.", []AccountPart{
			{"owner_unknown", "as far as is known: who had it could not be found out, see reason of gpu_workload."},
		}},
		{"undelivered", "The GPU belongs to a node that is paid for, and nothing shows that it was there.", []AccountPart{
			{"unseen", "as nothing of the whole node was: its agent was silent, or the GPU was taken from the driver on purpose. It may have worked."},
			{"missing", "while other GPUs of its node gave rows."},
			{"unlisted", "as no driver ever listed it: the machine has more GPUs by the catalogue."},
		}},
	}
}

// AccountColumn is the column of account_hours for a state, a part or the inventory.
func AccountColumn(name string) string { return name + "_milliseconds" }

// AccountOwner are the columns that say who had the GPUs.
var AccountOwner = []string{"owner_kind", "team", "deployment", "account", "workload_model"}

// AccountPlace are the columns that say where they were.
var AccountPlace = []string{"node_name", "provider", "region", "zone_id", "instance_type", "life_cycle", "cluster"}

// AccountHoursTable has the rows of all versions.
func AccountHoursTable() Table {
	samples, nodes, work, prices := samplesTable(), nodeInventoryTable(), workloadTable(), PricesTable()
	columns := []Column{
		{Name: ColumnTime, Type: TimeSeconds, Meaning: "Beginning of the hour, UTC."},
		{Name: ColumnVersion, Type: Uint64, Meaning: "Names the rows of the hour that were made together: those count whose version is the highest of the hour in account_builds."},
		{Name: ColumnNode, Type: Uint64, Meaning: "Node; key of node_inventory."},
		copiedColumn(samples, ColumnTenant), copiedColumn(samples, ColumnResidency),
	}
	for _, name := range AccountPlace {
		c := copied(nodes, name, "")
		t := Name
		if name == "node_name" {
			t = Text
		}
		columns = append(columns, Column{Name: name, Type: t, Nullable: true, Meaning: c.Meaning})
	}
	columns = append(columns, Column{Name: "gpu_model", Type: Name, Nullable: true, Meaning: "Product name of the GPUs, as NVML gives it; of GPUs that no driver listed NULL."})
	for _, name := range AccountOwner {
		c := copied(work, name, "")
		columns = append(columns, Column{Name: name, Type: Name, Nullable: name != "owner_kind", Meaning: c.Meaning})
	}
	columns = append(columns, Column{Name: "split", Type: Name, Meaning: "How time was divided among owners: whole (one at a time), equal (several had the GPU, each is charged as much as the others)."})
	for _, name := range []string{"price_per_gpu_hour", "currency", "basis"} {
		c := copied(prices, name, "")
		t := Name
		if name == "price_per_gpu_hour" {
			t = Decimal
		}
		columns = append(columns, Column{Name: name, Type: t, Nullable: true, Meaning: c.Meaning + " NULL: no price is known."})
	}
	columns = append(columns,
		Column{Name: "priced_as", Type: Name, Nullable: true, Meaning: "Life cycle that the price is for: see fleet_rates."},
		Column{Name: "price_valid_from", Type: TimeMilliseconds, Nullable: true, Meaning: "When the price began to hold."},
		Column{Name: "price_read_at", Type: TimeMilliseconds, Nullable: true, Meaning: "When the price was read: which of several that were told for one time it is."},
		accountTime("inventory", "Time of the GPUs that the node has, as far as its agent, or the catalogue, knows: the sum of the six states."))
	for _, s := range AccountStates() {
		columns = append(columns, accountTime(s.Name, s.Meaning))
	}
	for _, s := range AccountStates() {
		for _, p := range s.Parts {
			columns = append(columns, accountTime(p.Name, "Part of "+AccountColumn(s.Name)+": "+p.Meaning))
		}
	}
	columns = append(columns, Column{Name: "energy_millijoules", Type: Uint64, Nullable: true, Unit: "mJ", Meaning: "Energy that the GPUs took in the time of this row; NULL if none of them told any."})
	return Table{
		Name: "account_hours", Columns: columns,
		Meaning: "What the time of all GPUs was spent on and at which price, by hour, node, owner and price, in all versions that were made. Use fleet_account, which has the version that counts.",
		OrderBy: "(ts, version, node_id)", PartitionBy: "toYYYYMM(ts)", TTLDays: 5 * 365, Granularity: 8192,
	}
}

func accountTime(name, meaning string) Column {
	return Column{Name: AccountColumn(name), Type: Uint64, Unit: "ms", Meaning: meaning}
}

// AccountBuildsTable says which version of an hour counts. It tells of all tenants at once, so that of its columns only ts
// and version are for readers of some rows.
func AccountBuildsTable() Table {
	return Table{
		Name: "account_builds",
		Columns: []Column{
			{Name: ColumnTime, Type: TimeSeconds, Meaning: "Hour, UTC."},
			{Name: ColumnVersion, Type: Uint64, Meaning: "Version whose rows are complete: milliseconds since 1970 when it was begun, and 20 random bits. The highest of the hour counts."},
			{Name: "sources", Type: Uint64, Meaning: "Hash over what the hour was made of, as far as it is cheap to ask: if it is another now, the hour is looked at again."},
			{Name: "content", Type: Uint64, Meaning: "Hash over the rows of the version. An hour that is made again and comes to the same gets a row here, and no new version."},
			{Name: "rows", Type: Uint32, Unit: "{row}", Meaning: "Rows of the version in account_hours."},
			{Name: "reason", Type: Name, Meaning: "Why it was made: new, changed (something came late, or was corrected), rebuild (by hand)."},
			{Name: "recorded_at", Type: TimeMilliseconds, Meaning: "When it was recorded, by the clock of ClickHouse."},
			{Name: "built_by", Type: Name, Meaning: "Who made it."},
		},
		Meaning: "Versions of the hours of account_hours that are complete. Use account_versions.",
		OrderBy: "(ts, version, recorded_at)", PartitionBy: "toYYYYMM(ts)", TTLDays: 5 * 365, Granularity: 1024,
	}
}

// AccountVersions are the hours with the version that counts; of a cluster, those of every shard, which has its own.
const AccountVersions = "(SELECT ts, max(version) FROM {account_builds} GROUP BY ts, shardNum())"

// AccountMilliseconds are the columns of time: the inventory, the states, their parts.
func AccountMilliseconds() []string {
	names := []string{"inventory"}
	for _, s := range AccountStates() {
		names = append(names, s.Name)
	}
	for _, s := range AccountStates() {
		for _, p := range s.Parts {
			names = append(names, p.Name)
		}
	}
	return names
}

// accountList makes a list of SQL of a text with one %-verb for each name, which stands for {}.
func accountList(format string, names ...string) string {
	list := make([]string, len(names))
	for i, name := range names {
		list[i] = strings.ReplaceAll(format, "{}", name)
	}
	return strings.Join(list, ", ")
}

// accountCosted are the columns of which an amount is made: the inventory and the states.
func accountCosted() []string { return slices.Clone(AccountMilliseconds()[:1+len(AccountStates())]) }
