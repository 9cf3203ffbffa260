// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/internal/embedded"
	"github.com/gpufleet/gpufleet/schema"
)

// named gives a collector another name.
func (p *process) named(name string) *process {
	p.args[slices.Index(p.args, "--name")+1] = name
	return p
}

func (p *process) name() string { return p.args[slices.Index(p.args, "--name")+1] }

// signal is for a process that runs.
func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// place is one of several collectors that agents move between, and the way to it.
type place struct {
	collector *process
	gate      *gate
	frozen    bool
}

func (p *place) freeze() {
	p.collector.signal(syscall.SIGSTOP)
	p.frozen = true
}

func (p *place) thaw() {
	if p.frozen {
		p.collector.signal(syscall.SIGCONT)
		p.frozen = false
	}
}

// toTwo has agents know two collectors.
func toTwo(c *chaos) (address string) {
	other := newProcess(c.t, c.program, c.server.Writer()).named("other")
	other.start()
	c.places = []*place{{collector: c.collector, gate: c.near}, {collector: other, gate: newGate(c.t, other.address)}}
	return c.near.address + "," + c.places[1].gate.address
}

// move has the agents go from one collector to the other, again and again. Each is frozen with an insert of its under way when its
// agents leave, and goes on at some later moment: while the other one stores what was in that insert, or only when they
// are about to come back. At last both go on, have their say, and end.
func (c *chaos) move(times int) {
	c.t.Helper()
	resent := c.fleet.sum().BatchesResent
	// an insert takes long enough to be met amid its work
	clickhousetest.Exec(c.t, c.server.Writer(), "ALTER TABLE gpu_samples ADD CONSTRAINT slow CHECK sleep(0.8) = 0")
	c.places[1].gate.close() // all are at the first one, to begin with
	for move := range times {
		from, to := c.places[move%2], c.places[1-move%2]
		awaitInserts(c.t, c.server.Writer(), from.collector.name())
		c.letPass(200*time.Millisecond, 500*time.Millisecond) // meanwhile more comes, which waits for these
		from.freeze()
		from.gate.close()
		to.thaw()
		to.gate.open()
		if c.random.IntN(2) == 0 {
			c.letPass(0, 600*time.Millisecond)
			from.thaw()
		}
		c.fleet.awaitStored(30)
	}
	for _, p := range c.places {
		p.thaw()
	}
	clickhousetest.Exec(c.t, c.server.Writer(), "ALTER TABLE gpu_samples DROP CONSTRAINT slow")
	if c.fleet.sum().BatchesResent == resent {
		c.t.Error("no batch was sent twice: no collector was left amid its work")
	}
	awaitAnswer(c.t, c.server.Writer(), "SELECT uniqExact(collector) FROM ingest_ledger WHERE unit != '"+schema.ReconciledUnit+"'", "2")
}

// awaitInserts waits until a collector has as many inserts of samples under way as it makes at the same time.
func awaitInserts(t *testing.T, db embedded.Endpoint, name string) {
	t.Helper()
	running := "SELECT count() > 1 FROM system.processes WHERE match(query_id, '^gpufleet/" + name + "/[0-9a-f]+/gpu_samples/')"
	for deadline := time.Now().Add(limitless); clickhousetest.Query(t, db, running) != "1"; {
		if time.Now().After(deadline) {
			t.Fatalf("the collector %s does not insert samples twice at the same time", name)
		}
	}
}
