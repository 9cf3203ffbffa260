// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"fmt"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

func (w *Watcher) write(rows []row) error {
	for i := range rows {
		if err := w.cfg.Rows.Append(schema.WorkloadID, rows[i].cells()); err != nil {
			return fmt.Errorf("write who uses %s: %w", rows[i].uuid, err)
		}
	}
	return nil
}

// cells lays the interval out as the wire columns of gpu_workload.
func (r *row) cells() []batch.Cell {
	o, u := &r.owner, &r.owner.use
	processes := u.count > 0
	return []batch.Cell{
		batch.Milliseconds(r.at), batch.ID(wire.GPUID(r.uuid)),
		batch.ID(r.id), batch.Milliseconds(r.from), batch.MillisecondsOrNull(r.to), batch.Text(o.Kind), batch.TextOrNull(o.Reason), flag(o.Shared),
		batch.TextOrNull(o.Namespace), batch.TextOrNull(o.Pod), batch.TextOrNull(o.PodUID), batch.TextOrNull(o.Container), batch.TextOrNull(o.Claim),
		batch.TextOrNull(o.Job), batch.TextOrNull(o.Step), batch.TextOrNull(o.User), batch.TextOrNull(o.Account),
		{Int: int64(u.pid), OK: u.pid > 0},
		batch.TextOrNull(u.name),
		{Int: int64(u.count), OK: u.counted},
		{Int: int64(u.memoryBytes), OK: processes && u.memoryKnown},
		batch.TextOrNull(o.Team), batch.TextOrNull(o.Model), batch.TextOrNull(o.Deployment),
	}
}

func flag(on bool) batch.Cell {
	if on {
		return batch.Number(1)
	}
	return batch.Number(0)
}
