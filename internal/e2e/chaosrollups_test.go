// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strconv"
	"strings"
	"time"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/internal/embedded"
	"github.com/gpufleet/gpufleet/internal/rollups"
)

// rollUp makes the rollups of all samples so far, also of the hour that is not over: those that come from then on are late
// ones. The collector makes them too, and under the same name: neither gives way to the other.
func (c *chaos) rollUp() {
	c.t.Helper()
	for _, db := range c.stores {
		c.rollUpIn(db)
	}
}

func (c *chaos) rollUpIn(db embedded.Endpoint) {
	c.t.Helper()
	cfg := rollups.DefaultConfig()
	cfg.Database, cfg.Collector, cfg.Grace, cfg.Quiet = db.Database, "e2e", -time.Hour, 0
	b, err := rollups.New(clickhousetest.Open(c.t, db), cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	for more := true; more; {
		if more, err = b.Pass(c.t.Context()); err != nil {
			c.t.Fatal(err)
		}
	}
}

// wantRollups makes every row of the rollups anew out of the samples, and compares the two.
func (c *chaos) wantRollups(o *outcome) {
	c.t.Helper()
	c.rollUp()
	for _, db := range c.stores {
		c.wantRollupsIn(db, o)
	}
}

func (c *chaos) wantRollupsIn(db embedded.Endpoint, o *outcome) {
	c.t.Helper()
	span := rollups.Range{From: time.Now().Add(-2 * time.Hour), To: time.Now().Add(2 * time.Hour), Limits: rollups.DefaultLimits()}
	r, err := rollups.Check(c.t.Context(), clickhousetest.Open(c.t, db), db.Database, span)
	if err != nil {
		c.t.Fatal(err)
	}
	all := clickhousetest.Query(c.t, db, "SELECT count() FROM gpu_samples")
	if r.Verdict != rollups.Right || strconv.FormatUint(r.Samples, 10) != all {
		var text strings.Builder
		_ = r.WriteText(&text)
		c.t.Errorf("the rollups are %s of %s samples: %s", r.Verdict, all, text.String())
	}
	for _, t := range r.Tables {
		o.compared, o.different = o.compared+t.Windows, o.different+t.Different
	}
}
