// SPDX-License-Identifier: Apache-2.0

package foreign

import (
	"context"
	"errors"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// fleet answers which GPUs agents read.
type fleet struct {
	alone  context.Context //nolint:containedctx // whoever asks with another one waits in vain; nil: nobody does
	read   map[uint64]bool
	tenant string // of the agents
	err    error
}

func (f *fleet) Select(ctx context.Context, into any, query string) error {
	if f.alone != nil && ctx != f.alone {
		<-ctx.Done()
		return ctx.Err()
	}
	rows := reflect.ValueOf(into).Elem()
	for id := range f.read {
		if strings.Contains(query, strconv.FormatUint(id, 10)) {
			row := reflect.New(rows.Type().Elem()).Elem()
			row.Field(0).SetUint(id)
			row.Field(1).SetString(f.tenant)
			rows.Set(reflect.Append(rows, row))
		}
	}
	return f.err
}

// TestWhatAgentsReadIsLeftToThem: neither rows nor increments are there twice, and when the agent is silent what is pushed
// counts again, without what was gained in between.
func TestWhatAgentsReadIsLeftToThem(t *testing.T) {
	of := &fleet{alone: t.Context()}
	r := start(t, func(c *Config) { c.Database = of })
	ask := func(read ...string) {
		t.Helper()
		of.read = map[uint64]bool{}
		for _, uuid := range read {
			of.read[wire.GPUID(uuid)] = true
		}
		if err := r.agents.ask(t.Context(), noon); err != nil {
			t.Fatal(err)
		}
	}
	e := func(uuid string, second int, value float64, labels ...string) Reading {
		return dcgm("DEV_TOTAL_ENERGY_CONSUMPTION", uuid, second, value, labels...)
	}
	r.must(e("GPU-a", -120, 1000), e("GPU-b", -120, 7))
	ask("GPU-a")
	said, err := r.push(e("GPU-a", -90, 1500), e("GPU-b", -90, 9), e("GPU-a", -90, 20, "GPU_I_ID", "3"))
	if err != nil || said != "2: of GPUs that an agent reads as well, whose rows count" {
		t.Errorf("push: %q, %v", said, err)
	}
	of.err = errors.New("is away")
	if err := r.agents.ask(t.Context(), noon); err == nil {
		t.Error("no answer, and no error")
	}
	if said, _ := r.push(e("GPU-a", -60, 1600)); said == "" {
		t.Error("without an answer what was known is forgotten")
	}
	of.err = nil
	ask()
	r.must(e("GPU-a", -30, 1700), e("GPU-a", 0, 1750))
	r.want(schema.SamplesID, energy, "-120 - 0 -", "-120 - 0 -", "-90 30000 0 2", "-30 - 0 -", "0 30000 0 50")
	r.wantWhole()
}

// TestAgentsOfOtherTenantsDoNotCount: one that makes up rows of a GPU keeps nobody else from pushing.
func TestAgentsOfOtherTenantsDoNotCount(t *testing.T) {
	of := &fleet{alone: t.Context(), read: map[uint64]bool{wire.GPUID("GPU-a"): true}, tenant: "globex"}
	r := start(t, func(c *Config) { c.Database = of })
	for _, tenant := range []string{"acme", "globex"} {
		r.agents.read(gpuOf{wire.GPUID("GPU-a"), tenant}, noon.UnixMilli())
	}
	if err := r.agents.ask(t.Context(), noon); err != nil {
		t.Fatal(err)
	}
	for tenant, want := range map[string]string{"acme": "", "globex": "1: of GPUs that an agent reads as well, whose rows count"} {
		from := ofTenant(tenant)
		from.Name = tenant
		if said, err := r.pushFrom(from, Labels{}, dcgm("DEV_GPU_UTIL", "GPU-a", -30, 1)); err != nil || said != want {
			t.Errorf("%s: %q, %v, want %q", tenant, said, err, want)
		}
	}
}

// TestAgentsAreAskedFor by Run, soon after a GPU that is new, and no more than the door may remember.
func TestAgentsAreAskedFor(t *testing.T) {
	of := &fleet{read: map[uint64]bool{wire.GPUID("GPU-a"): true}}
	r := start(t, func(c *Config) { c.Database, c.MaxGPUs = of, 1 })
	said := ""
	for deadline := time.Now().Add(20 * time.Second); said == "" && time.Now().Before(deadline); {
		var err error
		if said, err = r.push(dcgm("DEV_GPU_UTIL", "GPU-a", 0, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(said, "agent reads") {
		t.Errorf("said %q", said)
	}
	for _, uuid := range []string{"GPU-b", "GPU-c"} { // one more, as it may be part of the other
		r.agents.read(gpuOf{id: wire.GPUID(uuid)}, noon.UnixMilli())
	}
	if n := len(r.agents.claims); n != 2 {
		t.Errorf("%d GPUs are remembered", n)
	}
	if ids := r.agents.wanted(noon.UnixMilli() + 1); len(ids) != 0 || len(r.agents.claims) != 0 {
		t.Errorf("%d GPUs that came no more are remembered", len(ids))
	}
}

// TestMoreThanCanBeAskedFor: what an agent may read as well is not stored, if there is no room to find out.
func TestMoreThanCanBeAskedFor(t *testing.T) {
	read := map[uint64]bool{}
	for _, uuid := range []string{"GPU-a", "GPU-b", "GPU-c"} {
		read[wire.GPUID(uuid)] = true
	}
	r := start(t, func(c *Config) { c.Database, c.MaxGPUs = &fleet{alone: t.Context(), read: read}, 1 })
	for _, uuid := range []string{"GPU-a", "GPU-b"} { // as long as nothing of them is stored they take no room elsewhere
		r.agents.read(gpuOf{id: wire.GPUID(uuid)}, noon.UnixMilli())
	}
	if err := r.agents.ask(t.Context(), noon); err != nil {
		t.Fatal(err)
	}
	for uuid, says := range map[string]string{"GPU-a": "agent reads", "GPU-b": "agent reads", "GPU-c": "more than 1 GPUs: --foreign-gpus"} {
		if said, err := r.push(dcgm("DEV_GPU_UTIL", uuid, 0, 1)); err != nil || !strings.Contains(said, says) {
			t.Errorf("%s: %q, %v, want %q", uuid, said, err, says)
		}
	}
	r.want(schema.SamplesID, []string{"ts"}, "")
}
