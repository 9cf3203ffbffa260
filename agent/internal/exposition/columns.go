// SPDX-License-Identifier: Apache-2.0

package exposition

import (
	"fmt"
	"sync"

	"github.com/gpufleet/gpufleet/schema"
)

// columns are the places of a table's wire columns.
type columns struct {
	places   map[string]int
	gpu      int    // of gpu_id; -1 if it has none
	interval int    // of interval_milliseconds; -1 if it has none
	slow     []bool // by place: read each schema.SlowSeconds
	count    int
}

func (c *columns) place(name string) int {
	i, ok := c.places[name]
	if !ok {
		panic(fmt.Sprintf("exposition: no column %s", name))
	}
	return i
}

func placesOf(table uint8) *columns {
	t, _ := schema.TableByID(table)
	c := &columns{places: map[string]int{}, gpu: -1, interval: -1}
	for i, column := range t.WireColumns() {
		c.places[column.Name] = i
		switch column.Name {
		case schema.ColumnGPU:
			c.gpu = i
		case schema.ColumnInterval:
			c.interval = i
		}
		c.count++
	}
	c.slow = make([]bool, c.count)
	for _, m := range schema.Metrics() {
		column, ok := m.SamplesColumn()
		if place, there := c.places[column.Name]; ok && there && m.Slow {
			c.slow[place] = true
		}
	}
	return c
}

// period is how often a value comes at the least, ms; 0: with every row.
func (c *columns) period(place int) int64 {
	if c.slow[place] {
		return schema.SlowSeconds * 1000
	}
	return 0
}

var allColumns = sync.OnceValue(func() map[uint8]*columns {
	all := map[uint8]*columns{}
	for _, t := range schema.Tables() {
		all[t.ID] = placesOf(t.ID)
	}
	return all
})

func columnsOf(table uint8) *columns { return allColumns()[table] }

func samples() *columns   { return columnsOf(schema.SamplesID) }
func health() *columns    { return columnsOf(schema.HealthID) }
func inventory() *columns { return columnsOf(schema.GPUInventoryID) }

// pair is a counter whose increments are in gpu_samples and whose total is in gpu_health.
type pair struct{ increment, total int }

var pairs = sync.OnceValue(func() []pair {
	var all []pair
	for _, m := range schema.Metrics() {
		if r := readingOf(m); r.sample >= 0 && r.total >= 0 {
			all = append(all, pair{r.sample, r.total})
		}
	}
	return all
})
