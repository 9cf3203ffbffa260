// SPDX-License-Identifier: Apache-2.0

package account

import (
	"context"
	"fmt"

	"github.com/gpufleet/gpufleet/schema"
)

// make makes the account of an hour.
func (w *work) make(ctx context.Context, of span) (*account, error) {
	a := newAccount(of)
	nodes, happened, err := w.loadNodes(ctx, of)
	if err != nil {
		return nil, err
	}
	all, err := w.slices(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		gpus, err := w.loadGPUs(ctx, of, s, happened)
		if err != nil {
			return nil, err
		}
		for _, g := range gpus {
			a.take(g, nodes)
		}
	}
	a.takeUnlisted(nodes, catalogueGPUs())
	return a, nil
}

// loadNodes gathers where nodes are, what they cost, when they gave rows, and what happened to them.
func (w *work) loadNodes(ctx context.Context, of span) (map[nodeID]*nodeHour, *happenings, error) {
	nodes := make(map[nodeID]*nodeHour)
	offers, err := w.loadPrices(ctx, of)
	if err != nil {
		return nil, nil, err
	}
	if err := w.loadPlaces(ctx, of, offers, nodes); err != nil {
		return nil, nil, err
	}
	if err := w.loadSeen(ctx, of, nodes); err != nil {
		return nil, nil, err
	}
	h, err := w.loadHappenings(ctx, of)
	return nodes, h, err
}

func (w *work) loadPlaces(ctx context.Context, of span, offers priceList, nodes map[nodeID]*nodeHour) error {
	var rows []struct {
		Tenant    string  `ch:"tenant"`
		Residency string  `ch:"residency"`
		Node      uint64  `ch:"node"`
		At        int64   `ch:"at"`
		Name      *string `ch:"name"`
		Provider  *string `ch:"provider"`
		Region    *string `ch:"region"`
		Zone      *string `ch:"zone"`
		Instance  *string `ch:"instance"`
		LifeCycle *string `ch:"life_cycle"`
		Cluster   *string `ch:"cluster"`
	}
	if err := w.ask(ctx, &rows, w.placesQuery(of)); err != nil {
		return fmt.Errorf("ask where the nodes were: %w", err)
	}
	seen := make(map[nodeID][]placing)
	for _, r := range rows {
		id := nodeID{r.Tenant, r.Residency, r.Node}
		p := place{textOf(r.Name), textOf(r.Provider), textOf(r.Region), textOf(r.Zone), textOf(r.Instance), textOf(r.LifeCycle), textOf(r.Cluster)}
		seen[id] = append(seen[id], placing{r.At, p})
	}
	costs := make(map[place][]priced) // thousands of nodes are in the same place but for their names
	for id, all := range seen {
		n := &nodeHour{places: placesOf(all, of)}
		for i, p := range n.places {
			nameless := p.place
			nameless.name = text{}
			if _, ok := costs[nameless]; !ok {
				costs[nameless] = offers.of(nameless, of)
			}
			n.places[i].prices = costs[nameless]
		}
		nodes[id] = n
	}
	return nil
}

func (w *work) loadSeen(ctx context.Context, of span, nodes map[nodeID]*nodeHour) error {
	var rows []struct {
		Tenant    string   `ch:"tenant"`
		Residency string   `ch:"residency"`
		Node      uint64   `ch:"node"`
		Minutes   []uint32 `ch:"minutes"`
		Seen      []int64  `ch:"seen"`
	}
	if err := w.ask(ctx, &rows, w.seenQuery(of)); err != nil {
		return fmt.Errorf("ask when the nodes gave rows: %w", err)
	}
	for _, r := range rows {
		id := nodeID{r.Tenant, r.Residency, r.Node}
		if nodes[id] == nil {
			nodes[id] = &nodeHour{}
		}
		for i, m := range r.Minutes {
			nodes[id].seen[m] = r.Seen[i]
		}
	}
	return nil
}

// loadPrices gathers the prices that hold at some moment of a time.
func (w *work) loadPrices(ctx context.Context, of span) (priceList, error) {
	var rows []struct {
		Provider  string `ch:"provider"`
		Instance  string `ch:"instance"`
		Region    string `ch:"region"`
		Zone      string `ch:"zone"`
		LifeCycle string `ch:"life_cycle"`
		Basis     string `ch:"basis"`
		Currency  string `ch:"currency"`
		From      int64  `ch:"from_time"`
		To        int64  `ch:"to_time"`
		ReadAt    int64  `ch:"read"`
		Price     int64  `ch:"price"`
	}
	err := w.ask(ctx, &rows, fmt.Sprintf(`SELECT CAST(provider, 'String') AS provider, lower(CAST(instance_type, 'String')) AS instance, CAST(region, 'String') AS region, CAST(zone_id, 'String') AS zone,
    CAST(life_cycle, 'String') AS life_cycle, CAST(basis, 'String') AS basis, CAST(currency, 'String') AS currency,
    toUnixTimestamp64Milli(valid_from) AS from_time, ifNull(toUnixTimestamp64Milli(valid_to), %d) AS to_time, toUnixTimestamp64Milli(read_at) AS read, toInt64(toDecimal128(price_per_gpu_hour, 9) * 1000000000) AS price
FROM %s.fleet_prices WHERE valid_from < %s AND (valid_to IS NULL OR valid_to > %s)`, forever, schema.QuoteName(w.cfg.Prices), at(of.to), at(of.from)))
	if err != nil {
		return nil, fmt.Errorf("ask for the prices: %w", err)
	}
	offers := make(priceList)
	for _, r := range rows {
		k := [2]string{r.Provider, r.Instance}
		offers[k] = append(offers[k], offer{
			span: span{r.From, r.To}, region: r.Region, zone: r.Zone,
			price: price{true, r.Price, r.Currency, r.Basis, r.LifeCycle, r.From, r.ReadAt},
		})
	}
	return offers, nil
}
