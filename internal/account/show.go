// SPDX-License-Identifier: Apache-2.0

package account

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/shopspring/decimal"

	"github.com/gpufleet/gpufleet/schema"
)

// Groupings are the columns that the account can be shown by, with the words for them.
func Groupings() map[string]string {
	return map[string]string{
		"provider": "provider", "region": "region", "node": "node_name", "team": "team", "model": "workload_model", "deployment": "deployment", "gpu": "gpu_model",
	}
}

// Shown is what the account says of a time, by one column.
type Shown struct {
	From   time.Time `json:"from"`
	To     time.Time `json:"to"`
	By     string    `json:"by"`
	Groups []Group   `json:"groups"`
}

// Group is a value of the column, in one currency and basis.
type Group struct {
	Name     *string           `json:"name"`
	Currency *string           `json:"currency"` // nil: no price is known
	Basis    *string           `json:"basis"`
	Hours    map[string]string `json:"gpu_hours"` // by state, and inventory
	Costs    map[string]string `json:"costs"`     // the same in money; nil without a price
}

// Show adds the account up by one of Groupings, the dearest first. Of a cluster it is asked of the database over the shards.
func Show(ctx context.Context, conn Conn, cfg Config, r Range, by string) (Shown, error) {
	w, err := newWork(conn, cfg)
	if err != nil {
		return Shown{}, err
	}
	column, ok := Groupings()[by]
	if !ok {
		return Shown{}, fmt.Errorf("by %q: want one of provider, region, node, team, model, deployment, gpu", by)
	}
	_, last, err := w.rolled(ctx)
	if err != nil {
		return Shown{}, err
	}
	from, to, err := r.until(last)
	if err != nil {
		return Shown{}, err
	}
	var names, times, costs []string
	for _, s := range schema.AccountStates() {
		names = append(names, s.Name)
		times = append(times, fmt.Sprintf("toString(toDecimal128(sum(toUInt64(%s_milliseconds)), 6) / %d)", s.Name, hour))
		costs = append(costs, fmt.Sprintf("ifNull(toString(sum(%s_undivided_cost) / %d), '')", s.Name, hour))
	}
	times = append(times, fmt.Sprintf("toString(toDecimal128(sum(toUInt64(inventory_milliseconds)), 6) / %d)", hour))
	costs = append(costs, fmt.Sprintf("ifNull(toString(sum(inventory_undivided_cost) / %d), '')", hour))
	names = append(names, "inventory")
	var rows []struct {
		Name     *string  `ch:"name"`
		Currency *string  `ch:"cur"`
		Basis    *string  `ch:"bas"`
		Times    []string `ch:"times"`
		Costs    []string `ch:"costs"`
	}
	err = w.ask(ctx, &rows, fmt.Sprintf(`SELECT CAST(%[1]s, 'Nullable(String)') AS name, CAST(currency, 'Nullable(String)') AS cur, CAST(basis, 'Nullable(String)') AS bas, [%[2]s] AS times, [%[3]s] AS costs
FROM %[4]s.fleet_account WHERE %[5]s GROUP BY name, cur, bas ORDER BY sum(inventory_undivided_cost) DESC NULLS LAST, sum(inventory_milliseconds) DESC, name`,
		column, strings.Join(times, ", "), strings.Join(costs, ", "), schema.QuoteName(cfg.Database), duringSeconds(from, to)))
	if err != nil {
		return Shown{}, fmt.Errorf("ask for the account by %s: %w", by, err)
	}
	shown := Shown{From: timeOf(from), To: timeOf(max(from, to)), By: by, Groups: []Group{}}
	for _, r := range rows {
		g := Group{Name: r.Name, Currency: r.Currency, Basis: r.Basis, Hours: make(map[string]string)}
		if r.Currency != nil {
			g.Costs = make(map[string]string)
		}
		for i, name := range names {
			g.Hours[name] = r.Times[i]
			if r.Currency != nil {
				g.Costs[name] = r.Costs[i]
			}
		}
		shown.Groups = append(shown.Groups, g)
	}
	return shown, nil
}

// WriteJSON writes one line.
func (s Shown) WriteJSON(w io.Writer) error { return json.NewEncoder(w).Encode(s) }

// WriteText writes a table for people: money where a price is known, else GPU-hours.
func (s Shown) WriteText(w io.Writer) error {
	const layout = "2006-01-02 15:04"
	if len(s.Groups) == 0 {
		_, err := fmt.Fprintf(w, "There is no account from %s to %s UTC.\n", s.From.Format(layout), s.To.Format(layout))
		return err
	}
	if _, err := fmt.Fprintf(w, "From %s to %s UTC. Amounts, and GPU-hours where no price is known:\n", s.From.Format(layout), s.To.Format(layout)); err != nil {
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	columns := []string{"inventory"}
	for _, state := range schema.AccountStates() {
		columns = append(columns, state.Name)
	}
	fmt.Fprintf(table, "%s\tin\tgpu hours\t%s\n", s.By, strings.ReplaceAll(strings.Join(columns, "\t"), "_", " "))
	for _, g := range s.Groups {
		in, amounts := "hours", g.Hours
		if g.Costs != nil {
			in, amounts = *g.Currency+" "+pick(g.Basis), g.Costs
		}
		cells := slices.Clone(columns)
		for i, c := range columns {
			cells[i] = rounded(amounts[c])
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", pick(g.Name), in, rounded(g.Hours["inventory"]), strings.Join(cells, "\t"))
	}
	return table.Flush()
}

func pick(p *string) string {
	if p == nil {
		return "-"
	}
	return *p
}

// rounded shows two digits behind the point; all of them are in JSON.
func rounded(amount string) string {
	d, err := decimal.NewFromString(amount)
	if err != nil {
		return amount
	}
	return d.StringFixed(2)
}
