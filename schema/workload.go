// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"fmt"
	"slices"
	"strings"
)

// workloadTable says who uses a GPU, as intervals: a row when one opens, one an hour while it stays open,
// one when it closes. Rows of one interval share assignment_id; the last of them is the whole truth.
func workloadTable() Table {
	columns := slices.Concat(
		[]Column{timeColumn("When this was observed."), gpuColumn()},
		stamped(),
		[]Column{
			{Name: "assignment_id", Type: Uint64, Meaning: "Names the interval: rows of one interval share it."},
			{Name: "valid_from", Type: TimeMilliseconds, Meaning: "When the owner began to have the GPU, as far as known."},
			{Name: "valid_to", Type: TimeMilliseconds, Nullable: true, Meaning: "When the owner had it no longer; NULL while it has it."},
			{Name: "owner_kind", Type: Name, Meaning: "How the owner was found: kubernetes, slurm, container, process; none if nobody has the GPU, or nobody was found."},
			name("reason", "Why no owner was found, or what speaks against the one that was: see docs/ownership.md. NULL if nothing does."),
			{Name: "shared", Type: Uint8, Meaning: "1 if others may have the GPU at the same time (time slicing, MPS)."},
			{Name: "namespace", Type: Name, Nullable: true, OTel: "k8s.namespace.name", Meaning: "Kubernetes namespace."},
			{Name: "pod", Type: Text, Nullable: true, OTel: "k8s.pod.name", Meaning: "Pod."},
			{Name: "pod_uid", Type: Text, Nullable: true, OTel: "k8s.pod.uid", Meaning: "UID of the pod."},
			{Name: "container", Type: Text, Nullable: true, OTel: "k8s.container.name", Meaning: "Container: its name in Kubernetes, else its id."},
			text("resource_claim", "Kubernetes resource claim by which the GPU was given."),
			text("job_id", "Slurm job."),
			text("job_step", "Step of the Slurm job."),
			name("user_name", "User: of the job, else of the process."),
			name("account", "Account that the job is charged to."),
			number("process_id", Uint32, "", "The process that holds most of the GPU's memory."),
			text("process_name", "Name of that process."),
			number("process_count", Uint16, "", "Processes of the owner on the GPU."),
			number("memory_used_bytes", Uint64, "By", "Device memory of those processes when the row was written: what it is now is in fleet_now."),
			name("team", "Team, by the label that the agent was told."),
			name("workload_model", "Model that is served or trained, by the label that the agent was told."),
			name("deployment", "Deployment: the GPUs that serve one model or job together; by the label that the agent was told, else by what owns the pod, else the job."),
		})
	return Table{
		ID: WorkloadID, Name: "gpu_workload", Columns: columns,
		Meaning: "Who uses each GPU, from when to when. See workload_intervals and fleet_workload.",
		OrderBy: "(gpu_id, ts)", PartitionBy: "toYYYYMM(ts)", TTLDays: 400, Granularity: 1024,
	}
}

// workloadSilence is the time after which an interval that was not said again counts as over: an agent
// says it once an hour.
const workloadSilence = "2 HOUR"

// latest is the column in the row that was written last; within tells which that is of the rows of one batch. A
// tuple, because argMax alone passes over rows in which the column is NULL.
func latest(alias, column, within string) string {
	return fmt.Sprintf("tupleElement(argMax(tuple(%s.%s), (%[1]s.epoch, %[1]s.seq, %[3]s)), 1) AS %[2]s", alias, column, within)
}

// intervals puts the rows of each interval together, of those rows that the condition holds for. The first row says
// when it began, the last one all else: a later life of the agent knows when an owner began, not when it got the GPU.
// With each interval come the latest life that told of it and of any owner of the GPU, and when the next one began.
func intervals(condition string) string {
	picked := []string{
		"max(w.ts) AS last_seen", "argMin(w.valid_from, (w.epoch, w.seq, w.ts)) AS valid_from",
		"max(w.epoch) AS last_epoch", "min(tuple(w.epoch, w.seq)) AS opened",
	}
	for _, c := range workloadTable().Columns {
		if !slices.Contains([]string{ColumnTime, ColumnGPU, ColumnEpoch, ColumnSequence, "assignment_id", "valid_from"}, c.Name) {
			picked = append(picked, latest("w", c.Name, "w.ts"))
		}
	}
	return "(SELECT *, max(g.last_epoch) OVER (PARTITION BY g.gpu_id) AS newest_epoch, leadInFrame(g.valid_from, 1, g.last_seen) OVER " +
		"(PARTITION BY g.gpu_id ORDER BY g.opened, g.valid_from ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS next_from FROM " +
		"(SELECT w.gpu_id AS gpu_id, w.assignment_id AS assignment_id, " + strings.Join(picked, ", ") +
		" FROM {gpu_workload} AS w WHERE " + condition + " GROUP BY w.gpu_id, w.assignment_id) AS g)"
}

// endExpression is when an interval ended. One that was open when the agent ended, and that its next life does not
// know, was over when it was last said; or when the next one began, if the GPU is not shared.
const endExpression = "multiIf(i.valid_to IS NOT NULL, i.valid_to, " +
	"i.last_epoch < i.newest_epoch, if(i.shared = 1, i.last_seen, greatest(i.valid_from, least(i.last_seen, i.next_from))), " +
	"i.last_seen < now64(3) - INTERVAL " + workloadSilence + ", i.last_seen, NULL)"

// workloadIntervalsView has one row for each interval. Facts that became known later (a label, a name)
// replace those before.
func workloadIntervalsView() View {
	table := workloadTable()
	utc := TimeMilliseconds.ClickHouseType()
	columns := []ViewColumn{
		copied(table, ColumnGPU, "i"), copied(table, "assignment_id", "i"), copied(table, "valid_from", "i"),
		{
			Name: "valid_to", Type: "Nullable(" + utc + ")",
			Meaning:    "When the owner had the GPU no longer; NULL while it has it. If the agent fell silent, or started anew and did not find the owner, the last time that it said so.",
			Expression: endExpression,
		},
		{Name: "last_seen", Type: utc, Meaning: "Last observation of the interval.", Expression: "i.last_seen"},
	}
	known := []string{ColumnTime, ColumnGPU, ColumnEpoch, ColumnSequence, "assignment_id", "valid_from", "valid_to"}
	for _, c := range table.Columns {
		if !slices.Contains(known, c.Name) {
			columns = append(columns, copied(table, c.Name, "i"))
		}
	}
	return View{
		Name: "workload_intervals", Columns: columns,
		Meaning: "Who had each GPU, from when to when: one row for each owner and stretch of time. Join with readings by gpu_id and time.",
		From:    intervals("true") + " AS i",
	}
}

// fleetWorkloadView is who has each GPU now. What is older than the silence that ends an interval is not read.
func fleetWorkloadView() View {
	table := workloadTable()
	columns := append(copiedAll(table, "w", ColumnGPU, ColumnNode), nameColumns()...)
	for _, c := range workloadIntervalsView().Columns {
		if c.Name != ColumnGPU && c.Name != ColumnNode && c.Name != "valid_to" {
			c.Expression = "w." + c.Name
			columns = append(columns, c)
		}
	}
	return View{
		Name: "fleet_workload", Columns: columns, From: "(SELECT * FROM " + intervals("w.ts >= now64(3) - INTERVAL "+workloadSilence) + " WHERE valid_to IS NULL AND last_epoch = newest_epoch) AS w" + joinNames("w"),
		Meaning: "Who has each GPU now, with names. Several rows for a GPU that is shared. A row whose owner_kind is none says why nobody was found. Of a node that fell silent the owners stay for two hours: join fleet_now to leave them out.",
	}
}

// fleetFaultsView has one row for each fault. Its rows are put together by what they have in common, so that a
// condition on any of it is one on the table: ts and gpu_id are the same in all of them.
func fleetFaultsView() View {
	table := eventsTable()
	common := []string{ColumnFault, ColumnTime, ColumnNode, ColumnGPU}
	apart := append(slices.Clone(common), ColumnEpoch, ColumnSequence, "notice_id", "not_before", "network_device", "network_port", "count", "occurrences", "last_seen")
	columns := []ViewColumn{
		{Name: ColumnFault, Type: "UInt64", Meaning: "Names the fault.", Expression: "assumeNotNull(e.fault_id)"},
		copied(table, ColumnTime, "e"),
		{Name: "last_seen", Type: TimeMilliseconds.ClickHouseType(), Meaning: "When it was last reported.", Expression: "e.last_seen"},
		{Name: "occurrences", Type: "UInt32", Meaning: "How often it happened: equal reports of a storm are one fault.", Expression: "e.occurrences"},
	}
	picked := []string{"max(ifNull(f.last_seen, f.ts)) AS last_seen", "max(ifNull(f.occurrences, 1)) AS occurrences"}
	for _, c := range table.Columns {
		if slices.Contains(apart, c.Name) {
			continue
		}
		column := copied(table, c.Name, "e")
		if c.Name == "evidence" { // so that JSON functions, which make arrays, take it
			column.Type, column.Expression = "String", "ifNull(e.evidence, '[]')"
		}
		columns = append(columns, column)
		picked = append(picked, latest("f", c.Name, "length(ifNull(f.evidence, ''))")) // the last row has the evidence of those before
	}
	columns = append(columns, copiedAll(table, "e", ColumnNode, ColumnGPU)...)
	columns = append(columns, nameColumns()...)
	var keys []string
	for _, name := range common {
		keys = append(keys, "f."+name)
	}
	return View{
		Name: "fleet_faults", Columns: columns,
		From: fmt.Sprintf("(SELECT %s, %s FROM {gpu_events} AS f WHERE f.fault_id IS NOT NULL GROUP BY %s) AS e",
			named(common, "f"), strings.Join(picked, ", "), strings.Join(keys, ", ")) + joinNames("e"),
		Meaning: "Every fault, once, with all the evidence that is known of it, how often it happened, what to do about it, and names as of today. Give a range of ts, gpu_id or node_id.",
	}
}

// named selects columns under their own names.
func named(columns []string, alias string) string {
	list := make([]string, len(columns))
	for i, name := range columns {
		list[i] = fmt.Sprintf("%s.%s AS %[2]s", alias, name)
	}
	return strings.Join(list, ", ")
}
