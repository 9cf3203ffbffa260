// SPDX-License-Identifier: Apache-2.0

package top

import (
	"fmt"
	"slices"
	"strings"
)

// From where on something is said to be wrong.
const (
	fullShare    = 0.8 // of a log or a quarantine, as /readyz has it
	heldShare    = 0.9 // of the memory for batches: agents wait
	oldestBatch  = 60.0
	staleLane    = 60.0
	mostLosses   = 3 // reasons of one collector that are named
	ofRows       = "gpu_samples"
	shareOfWhole = 100
)

// wrong is what is wrong, the worst first: what loses readings, then what delays them.
func (s *Snapshot) wrong() []string {
	found := []string{}
	say := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	for _, c := range s.Collectors {
		if c.Error != "" {
			say("collector %s is not reached: %s", c.Address, c.Error)
		}
	}
	if s.StoreError != "" {
		say("%s", s.StoreError)
	}
	for _, c := range s.Collectors {
		if c.Error == "" {
			c.full(say)
		}
	}
	if s.Store != nil {
		s.Store.wrong(say)
	}
	for _, c := range s.Collectors {
		if c.Error == "" {
			c.slow(say)
		}
	}
	return found
}

// full tells of what a collector does not take, or soon will not.
func (c *Collector) full(say func(string, ...any)) {
	if len(c.Silent) > 0 {
		say("collector %s: ClickHouse does not answer, shards %s", c.Address, strings.Join(c.Silent, ", "))
	} else if !c.Answers {
		say("collector %s: ClickHouse does not answer, batches wait in the log", c.Address)
	}
	for _, l := range c.Lanes {
		if share := l.Log.share(); share != nil && *share >= fullShare {
			say("collector %s: the log of %s is filled to %.0f %%", c.Address, l.Table, shareOfWhole**share)
		}
		if share := l.Memory.share(); share != nil && *share >= heldShare {
			say("collector %s: the memory for %s is filled to %.0f %%, agents wait", c.Address, l.Table, shareOfWhole**share)
		}
	}
	if share := c.Quarantine.share(); share != nil && *share >= fullShare {
		say("collector %s: the quarantine is filled to %.0f %%: gpufleet quarantine list", c.Address, shareOfWhole**share)
	}
	named := 0
	for _, l := range c.Losses {
		if perSecond(l.PerSecond) > 0 && !l.usual() && named < mostLosses {
			named++
			say("collector %s: %s", c.Address, l.String())
		}
	}
}

// usual tells that it happens when all is well, too: an agent that is restarted ends its streams.
func (l Loss) usual() bool { return l.What == brokenStreams && l.Reason == "Canceled" }

// String says what is lost and why.
func (l Loss) String() string {
	parts := slices.DeleteFunc([]string{l.What, l.Reason, l.Table}, func(part string) bool { return part == "" })
	return strings.Join(parts, ", ")
}

// slow tells of what is late.
func (c *Collector) slow(say func(string, ...any)) {
	if c.OldestSeconds >= oldestBatch {
		say("collector %s: a batch has waited for %.0f s", c.Address, c.OldestSeconds)
	}
	for _, l := range c.Lanes {
		if l.Table == ofRows && l.FreshnessP99 != nil && *l.FreshnessP99 >= staleLane {
			say("collector %s: rows of %s are up to %.0f s old when they are stored", c.Address, l.Table, *l.FreshnessP99)
		}
	}
}

func (s *Store) wrong(say func(string, ...any)) {
	switch {
	case s.GPUs == 0 && s.Silent == 0:
		say("no GPU gives rows")
	case s.Silent > 0:
		say("%d of %d GPUs give no rows: SELECT * FROM fleet_silent", s.Silent, s.GPUs+s.Silent)
	}
	if s.Quarantined > 0 {
		say("%d batches were put into quarantine within the last hour: gpufleet quarantine list", s.Quarantined)
	}
}
