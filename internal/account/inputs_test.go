// SPDX-License-Identifier: Apache-2.0

package account

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// theHour is from ten to eleven, in the tests here.
var theHour = span{490_000 * hour, 490_001 * hour} //nolint:gochecknoglobals // a constant

// in is a minute of it; days may be added.
func in(minutes int64) int64 { return theHour.from + minutes*minute }

const day = 24 * 60 // minutes

func equal(t *testing.T, name string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmp.AllowUnexported(span{}, presence{}, text{}, placed{}, place{}, priced{}, price{}, critical{}, event{})); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// TestPresences: from when to when which node has a GPU.
func TestPresences(t *testing.T) {
	model := text{"H100", true}
	saw := func(minutes int64, node uint64) observation { return observation{in(minutes), node, model, false} }
	has := func(from, to int64, node uint64) presence { return presence{span{in(from), in(to)}, node, model} }
	for name, tt := range map[string]struct {
		seen  []observation
		stops map[uint64][]int64
		want  []presence
	}{
		"never seen":                             {},
		"seen before":                            {seen: []observation{saw(-50, 1)}, want: []presence{has(0, 60, 1)}},
		"seen each hour":                         {seen: []observation{saw(10, 1), saw(-50, 1), saw(70, 1)}, want: []presence{has(0, 60, 1)}},
		"seen first in the hour":                 {seen: []observation{saw(10, 1)}, want: []presence{has(10, 60, 1)}},
		"seen after it":                          {seen: []observation{saw(61, 1)}},
		"silent for six days":                    {seen: []observation{saw(-6*day, 1)}, want: []presence{has(0, 60, 1)}},
		"expected no more from the half hour on": {seen: []observation{saw(-7*day+30, 1)}, want: []presence{has(0, 30, 1)}},
		"removed":                                {seen: []observation{saw(-50, 1), {in(20), 1, model, true}}, want: []presence{has(0, 20, 1)}},
		"moved":                                  {seen: []observation{saw(-50, 1), saw(20, 2)}, want: []presence{has(0, 20, 1), has(20, 60, 2)}},
		"stopped, and not back":                  {seen: []observation{saw(-50, 1)}, stops: map[uint64][]int64{1: {in(20)}}, want: []presence{has(0, 20, 1)}},
		"stopped, and another node's agent later": {seen: []observation{saw(-50, 1)}, stops: map[uint64][]int64{2: {in(20)}}, want: []presence{has(0, 60, 1)}},
		"stopped, and back":                       {seen: []observation{saw(-50, 1), saw(150, 1)}, stops: map[uint64][]int64{1: {in(20)}}, want: []presence{has(0, 60, 1)}},
		"stopped, and back four hours later":      {seen: []observation{saw(-50, 1), saw(20+4*60, 1)}, stops: map[uint64][]int64{1: {in(20)}}, want: []presence{has(0, 20, 1)}},
		"stopped, and back in another node":       {seen: []observation{saw(-50, 1), saw(40, 2)}, stops: map[uint64][]int64{1: {in(20)}}, want: []presence{has(0, 20, 1), has(40, 60, 2)}},
		"stopped before it was seen":              {seen: []observation{saw(30, 1)}, stops: map[uint64][]int64{1: {in(20)}}, want: []presence{has(30, 60, 1)}},
	} {
		equal(t, name, tt.want, presences(tt.seen, tt.stops, theHour))
	}
}

// TestPlaces: a node is somewhere all through the hour.
func TestPlaces(t *testing.T) {
	at := func(region string) place { return place{region: text{region, true}} }
	equal(t, "places", []placed{{span: span{in(0), in(30)}, place: at("a")}, {span: span{in(30), in(60)}, place: at("b")}},
		placesOf([]placing{{in(30), at("b")}, {in(-90), at("a")}, {in(10), at("a")}, {in(90), at("c")}}, theHour))
	equal(t, "told in the hour only", []placed{{span: span{in(0), in(60)}, place: at("b")}}, placesOf([]placing{{in(30), at("b")}}, theHour))
}

// TestPrices: at each moment the price that fleet_rates would choose.
func TestPrices(t *testing.T) {
	key := [2]string{"aws", "p5"}
	of := func(from, to int64, region, zone, lifeCycle, basis, currency string, billionths int64) offer {
		return offer{span{from, to}, region, zone, price{true, billionths, currency, basis, lifeCycle, 0, 0}}
	}
	always := func(region, zone, lifeCycle, basis, currency string, billionths int64) offer {
		return of(0, forever, region, zone, lifeCycle, basis, currency, billionths)
	}
	known := func(s string) text { return text{s, s != ""} }
	where := func(lifeCycle string) place {
		return place{provider: known("aws"), region: known("us"), zone: known("us-1"), instance: known("P5"), lifeCycle: known(lifeCycle)}
	}
	for name, tt := range map[string]struct {
		offers []offer
		at     place
		want   []int64 // billionths and the minute until which they hold
	}{
		"none":                           {nil, where(""), []int64{0, 60}},
		"of another region":              {[]offer{always("eu", "", onDemand, "list", "USD", 7)}, where(""), []int64{0, 60}},
		"the nearest place":              {[]offer{always("", "", onDemand, "list", "USD", 7), always("us", "us-1", onDemand, "list", "USD", 8), always("us", "", onDemand, "list", "USD", 9)}, where(""), []int64{8, 60}},
		"the basis before the place":     {[]offer{always("", "", onDemand, "contracted", "USD", 7), always("us", "us-1", onDemand, "list", "USD", 8)}, where(onDemand), []int64{7, 60}},
		"the life cycle before all":      {[]offer{always("", "", onDemand, "billed", "USD", 7), always("", "", "reserved", "list", "USD", 8)}, where("reserved"), []int64{8, 60}},
		"reserved as on demand":          {[]offer{always("", "", onDemand, "list", "USD", 7)}, where("reserved"), []int64{7, 60}},
		"spot never as on demand":        {[]offer{always("", "", onDemand, "list", "USD", 7)}, where("spot"), []int64{0, 60}},
		"two currencies":                 {[]offer{always("", "", onDemand, "list", "USD", 7), always("", "", onDemand, "list", "EUR", 9)}, where(""), []int64{9, 60}},
		"begins in the hour":             {[]offer{of(in(20), forever, "", "", onDemand, "list", "USD", 7)}, where(""), []int64{0, 20, 7, 60}},
		"ends in the hour":               {[]offer{of(0, in(20), "", "", onDemand, "list", "USD", 7)}, where(""), []int64{7, 20, 0, 60}},
		"a better one for some minutes":  {[]offer{always("", "", onDemand, "list", "USD", 7), of(in(10), in(20), "", "", onDemand, "contracted", "USD", 5)}, where(""), []int64{7, 10, 5, 20, 7, 60}},
		"the same price twice in a row":  {[]offer{of(0, in(20), "", "", onDemand, "list", "USD", 7), of(in(20), forever, "", "", onDemand, "list", "USD", 7)}, where(""), []int64{7, 60}},
		"a machine whose type is secret": {[]offer{always("", "", onDemand, "list", "USD", 7)}, place{provider: known("aws")}, []int64{0, 60}},
	} {
		var got []int64
		for _, p := range (priceList{key: tt.offers}).of(tt.at, theHour) {
			got = append(got, p.price.billionths, (p.to-theHour.from)/minute)
		}
		equal(t, name, tt.want, got)
	}
}

// TestTroubles: when a GPU is unhealthy, and when it was taken on purpose.
func TestTroubles(t *testing.T) {
	on := func(minutes int64, gpu uint64, kind string) event { return event{in(minutes), gpu, gpu == 0, kind} }
	fault := func(minutes, last int64, gpu uint64) critical { return critical{in(minutes), in(last), gpu, gpu == 0} }
	from := func(minutes ...int64) (all []span) {
		for i := 0; i < len(minutes); i += 2 {
			all = append(all, span{in(minutes[i]), in(minutes[i+1])})
		}
		return all
	}
	for name, tt := range map[string]struct {
		troubles  troubles
		rows      []int // minutes in which there are some
		ill, away []span
	}{
		"none":                         {},
		"lost":                         {troubles: troubles{events: []event{on(20, 1, "gpu_lost")}}, ill: from(20, 60)},
		"lost yesterday":               {troubles: troubles{events: []event{on(-day, 1, "gpu_lost")}}, ill: from(0, 60)},
		"lost and found":               {troubles: troubles{events: []event{on(20, 1, "gpu_lost"), on(40, 1, "gpu_recovered")}}, ill: from(20, 40)},
		"another one":                  {troubles: troubles{events: []event{on(20, 2, "gpu_lost")}}},
		"rows again, and nobody tells": {troubles: troubles{events: []event{on(-30, 1, "gpu_lost")}}, rows: []int{25}, ill: from(0, 25)},
		"the node has no driver":       {troubles: troubles{events: []event{on(20, 0, "driver_missing"), on(30, 0, "driver_recovered")}}, ill: from(20, 30)},
		"taken":                        {troubles: troubles{events: []event{on(20, 0, "driver_released"), on(30, 0, "driver_resumed")}}, away: from(20, 30)},
		"a fault":                      {troubles: troubles{faults: []critical{fault(20, 20, 1)}}, rows: []int{30}, ill: from(20, 60)},
		"a fault, and a reset":         {troubles: troubles{faults: []critical{fault(20, 20, 1)}, events: []event{on(10, 1, "counters_reset"), on(35, 1, "counters_reset")}}, ill: from(20, 35)},
		"a fault, and a boot":          {troubles: troubles{faults: []critical{fault(20, 20, 0)}, events: []event{on(35, 0, booted)}}, ill: from(20, 35)},
		"a fault of yesterday":         {troubles: troubles{faults: []critical{fault(-day+10, -day+30, 1)}}, ill: from(0, 30)},
		"a fault of the day before":    {troubles: troubles{faults: []critical{fault(-2*day, -2*day, 1)}}},
		"two that overlap":             {troubles: troubles{faults: []critical{fault(20, 20, 1)}, events: []event{on(10, 1, "gpu_stuck"), on(30, 1, "gpu_recovered"), on(40, 1, "gpu_lost")}}, ill: from(10, 30, 40, 60)},
		"what the driver asks for":     {troubles: troubles{verdicts: map[uint64][]int64{1: {in(10), in(11)}}}, ill: []span{{in(10), in(12) + 30*second}}},
	} {
		var readings [minutesOfHour]reading
		for _, m := range tt.rows {
			readings[m].seen = minute
		}
		tt.troubles.sort()
		ill, away := tt.troubles.of(1, &readings, theHour)
		equal(t, name+": unhealthy", tt.ill, ill)
		equal(t, name+": taken", tt.away, away)
	}
	ill, away := (*troubles)(nil).of(1, nil, theHour)
	equal(t, "of a node of which nothing is told", [2][]span{}, [2][]span{ill, away})
}

// TestUnlisted: a machine that is to have eight GPUs, has one from the beginning and another one from the half hour on.
func TestUnlisted(t *testing.T) {
	at := place{provider: text{"aws", true}, instance: text{"P5.48xlarge", true}}
	a := newAccount(theHour)
	id := nodeID{node: 1}
	a.had[id] = []span{theHour, {in(30), in(60)}}
	a.had[nodeID{node: 2}] = []span{theHour}
	a.takeUnlisted(map[nodeID]*nodeHour{id: {places: []placed{{span: theHour, place: at}}}}, map[[2]string]int64{{"aws", "p5.48xlarge"}: 8})
	if len(a.rows) != 1 {
		t.Fatalf("%+v", a.rows)
	}
	for k, of := range a.rows {
		if want := 7*30*minute + 6*30*minute; k.node != id || of.of[inventory] != want || of.of[undelivered] != want || of.of[unlisted] != want {
			t.Errorf("%+v: %+v, want %d", k, of, want)
		}
	}
}
