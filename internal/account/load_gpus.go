// SPDX-License-Identifier: Apache-2.0

package account

import (
	"context"
	"fmt"
)

// loadGPUs gathers the GPUs of a slice that the inventory has at some moment of an hour.
func (w *work) loadGPUs(ctx context.Context, of span, s slice, h *happenings) (map[gpuID]*gpuHour, error) {
	gpus, err := w.loadPresence(ctx, of, s, h.stops)
	if err != nil {
		return nil, err
	}
	if err := w.loadReadings(ctx, of, s, gpus); err != nil {
		return nil, err
	}
	if err := w.loadOwners(ctx, of, s, gpus); err != nil {
		return nil, err
	}
	for id, g := range gpus {
		for _, p := range g.present {
			ill, away := h.of[nodeID{id.tenant, id.residency, p.node}].of(id.gpu, &g.readings, of)
			g.unhealthy, g.away = append(g.unhealthy, clipped(ill, p.span)...), append(g.away, clipped(away, p.span)...)
		}
	}
	return gpus, nil
}

func (w *work) loadPresence(ctx context.Context, of span, s slice, stops map[nodeID][]int64) (map[gpuID]*gpuHour, error) {
	var rows []struct {
		Tenant    string  `ch:"tenant"`
		Residency string  `ch:"residency"`
		GPU       uint64  `ch:"gpu"`
		At        int64   `ch:"at"`
		Node      uint64  `ch:"node"`
		Model     *string `ch:"model"`
		Removed   uint8   `ch:"gone"`
	}
	if err := w.ask(ctx, &rows, w.presenceQuery(of, s)); err != nil {
		return nil, fmt.Errorf("ask which GPUs there were: %w", err)
	}
	seen := make(map[gpuID][]observation)
	for _, r := range rows {
		id := gpuID{r.Tenant, r.Residency, r.GPU}
		seen[id] = append(seen[id], observation{r.At, r.Node, textOf(r.Model), r.Removed == 1})
	}
	gpus := make(map[gpuID]*gpuHour, len(seen))
	for id, all := range seen {
		own := make(map[uint64][]int64)
		for _, o := range all {
			own[o.node] = stops[nodeID{id.tenant, id.residency, o.node}]
		}
		if present := presences(all, own, of); len(present) > 0 {
			gpus[id] = &gpuHour{id: id, present: present}
		}
	}
	return gpus, nil
}

func (w *work) loadReadings(ctx context.Context, of span, s slice, gpus map[gpuID]*gpuHour) error {
	var rows []struct {
		Tenant    string   `ch:"tenant"`
		Residency string   `ch:"residency"`
		GPU       uint64   `ch:"gpu"`
		Minutes   []uint32 `ch:"minutes"`
		Rows      []int64  `ch:"samples"`
		Covered   []int64  `ch:"covered"`
		Readings  []int64  `ch:"readings"`
		Permille  []int64  `ch:"permille"`
		Foreign   []int64  `ch:"others"`
		Energy    []int64  `ch:"energy"`
	}
	if err := w.ask(ctx, &rows, w.readingsQuery(of, s)); err != nil {
		return fmt.Errorf("ask what the GPUs did: %w", err)
	}
	var minutes []rolled
	for _, r := range rows {
		g := gpus[gpuID{r.Tenant, r.Residency, r.GPU}]
		if g == nil { // a MIG instance, or one that the inventory does not have
			continue
		}
		minutes = minutes[:0]
		for i, m := range r.Minutes {
			minutes = append(minutes, rolled{m, r.Rows[i], r.Covered[i], r.Readings[i], r.Permille[i], r.Foreign[i] != 0, r.Energy[i]})
		}
		g.readings = readingsOf(minutes)
	}
	return nil
}

func (w *work) loadOwners(ctx context.Context, of span, s slice, gpus map[gpuID]*gpuHour) error {
	var rows []struct {
		Tenant     string  `ch:"tenant"`
		Residency  string  `ch:"residency"`
		GPU        uint64  `ch:"gpu"`
		From       int64   `ch:"from_time"`
		To         int64   `ch:"to_time"`
		Kind       string  `ch:"kind"`
		Reason     *string `ch:"why"`
		Team       *string `ch:"team"`
		Deployment *string `ch:"deployment"`
		Account    *string `ch:"account"`
		Model      *string `ch:"model"`
	}
	if err := w.ask(ctx, &rows, w.ownersQuery(of, s)); err != nil {
		return fmt.Errorf("ask who had the GPUs: %w", err)
	}
	for _, r := range rows {
		g := gpus[gpuID{r.Tenant, r.Residency, r.GPU}]
		at, ok := span{r.From, r.To}.within(of)
		if g == nil || !ok {
			continue
		}
		free := r.Reason != nil && (*r.Reason == "free" || *r.Reason == "not_allocated")
		g.owners = append(g.owners, ownership{at, owner{r.Kind, textOf(r.Team), textOf(r.Deployment), textOf(r.Account), textOf(r.Model)}, r.Kind == nobody.kind && !free})
	}
	return nil
}

// happenings are the troubles of all nodes, and when their agents were stopped in order.
type happenings struct {
	of    map[nodeID]*troubles
	stops map[nodeID][]int64
}

func (h *happenings) node(id nodeID) *troubles {
	if h.of[id] == nil {
		h.of[id] = &troubles{verdicts: make(map[uint64][]int64)}
	}
	return h.of[id]
}

func (w *work) loadHappenings(ctx context.Context, of span) (*happenings, error) {
	var events []struct {
		Tenant    string  `ch:"tenant"`
		Residency string  `ch:"residency"`
		Node      uint64  `ch:"node"`
		GPU       *uint64 `ch:"gpu"`
		At        int64   `ch:"at"`
		Last      int64   `ch:"last"`
		Kind      string  `ch:"kind"`
	}
	if err := w.ask(ctx, &events, w.eventsQuery(of)); err != nil {
		return nil, fmt.Errorf("ask what happened to the GPUs: %w", err)
	}
	h := &happenings{make(map[nodeID]*troubles), make(map[nodeID][]int64)}
	for _, e := range events {
		id := nodeID{e.Tenant, e.Residency, e.Node}
		gpu := uint64(0)
		if e.GPU != nil {
			gpu = *e.GPU
		}
		switch e.Kind {
		case stopped:
			h.stops[id] = append(h.stops[id], e.At)
		case criticalFault:
			n := h.node(id)
			n.faults = append(n.faults, critical{e.At, e.Last, gpu, e.GPU == nil})
		case verdict:
			n := h.node(id)
			n.verdicts[gpu] = append(n.verdicts[gpu], e.At)
		default:
			n := h.node(id)
			n.events = append(n.events, event{e.At, gpu, e.GPU == nil, e.Kind})
		}
	}
	for _, t := range h.of {
		t.sort()
	}
	return h, nil
}
