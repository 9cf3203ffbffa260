// SPDX-License-Identifier: Apache-2.0

package account

import (
	"context"
	"fmt"
	"strings"

	"github.com/gpufleet/gpufleet/schema"
)

// storedRow is a row of account_hours as it is read back.
type storedRow struct {
	Node       uint64   `ch:"node"`
	Tenant     string   `ch:"of_tenant"`
	Residency  string   `ch:"of_residency"`
	Name       *string  `ch:"name"`
	Provider   *string  `ch:"at_provider"`
	Region     *string  `ch:"at_region"`
	Zone       *string  `ch:"at_zone"`
	Instance   *string  `ch:"instance"`
	LifeCycle  *string  `ch:"rented"`
	Cluster    *string  `ch:"in_cluster"`
	Model      *string  `ch:"of_model"`
	Kind       string   `ch:"kind"`
	Team       *string  `ch:"of_team"`
	Deployment *string  `ch:"of_deployment"`
	Account    *string  `ch:"of_account"`
	Workload   *string  `ch:"workload"`
	Split      string   `ch:"divided"`
	Price      *int64   `ch:"price"`
	Currency   *string  `ch:"cur"`
	Basis      *string  `ch:"bas"`
	PricedAs   *string  `ch:"priced"`
	From       *int64   `ch:"from_time"`
	Read       *int64   `ch:"read"`
	Times      []uint64 `ch:"all_times"`
	Energy     *uint64  `ch:"energy"`
}

// loadRows reads rows of account_hours.
func (w *work) loadRows(ctx context.Context, where string) ([]row, error) {
	nullable := func(column, as string) string {
		return fmt.Sprintf("CAST(%s, 'Nullable(String)') AS %s", column, as)
	}
	var columns []string
	for _, name := range schema.AccountMilliseconds() {
		columns = append(columns, schema.AccountColumn(name))
	}
	var rows []storedRow
	err := w.ask(ctx, &rows, fmt.Sprintf(`SELECT node_id AS node, CAST(tenant, 'String') AS of_tenant, CAST(residency, 'String') AS of_residency, %s,
    CAST(owner_kind, 'String') AS kind, CAST(split, 'String') AS divided, toInt64(toDecimal128(price_per_gpu_hour, 9) * 1000000000) AS price,
    toUnixTimestamp64Milli(price_valid_from) AS from_time, toUnixTimestamp64Milli(price_read_at) AS read, [%s] AS all_times, energy_millijoules AS energy
FROM %s WHERE %s`, strings.Join([]string{
		nullable("node_name", "name"), nullable("provider", "at_provider"), nullable("region", "at_region"), nullable("zone_id", "at_zone"), nullable("instance_type", "instance"),
		nullable("life_cycle", "rented"), nullable("cluster", "in_cluster"), nullable("gpu_model", "of_model"), nullable("team", "of_team"), nullable("deployment", "of_deployment"),
		nullable("account", "of_account"), nullable("workload_model", "workload"), nullable("currency", "cur"), nullable("basis", "bas"), nullable("priced_as", "priced"),
	}, ", "), strings.Join(columns, ", "), w.table(schema.AccountHoursTable().Name), where))
	if err != nil {
		return nil, err
	}
	all := make([]row, len(rows))
	for i, r := range rows {
		all[i] = r.row()
	}
	return all, nil
}

func (s storedRow) row() row {
	r := row{key: key{
		node:  nodeID{s.Tenant, s.Residency, s.Node},
		place: place{textOf(s.Name), textOf(s.Provider), textOf(s.Region), textOf(s.Zone), textOf(s.Instance), textOf(s.LifeCycle), textOf(s.Cluster)},
		model: textOf(s.Model),
		owner: owner{s.Kind, textOf(s.Team), textOf(s.Deployment), textOf(s.Account), textOf(s.Workload)},
		split: s.Split,
	}}
	if s.Price != nil {
		r.price = price{true, *s.Price, textOf(s.Currency).value, textOf(s.Basis).value, textOf(s.PricedAs).value, 0, 0}
		if s.From != nil && s.Read != nil {
			r.price.validFrom, r.price.readAt = *s.From, *s.Read
		}
	}
	for i, n := range s.Times {
		r.of[i] = int64(n)
	}
	if s.Energy != nil {
		r.millijoule, r.energy = int64(*s.Energy), true
	}
	return r
}
