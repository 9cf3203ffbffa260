// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gpufleet/gpufleet/schema/wire"
)

// TestDamagedBatch: nothing in a damaged message is believed. Its stream ends, and a new one brings it whole.
func TestDamagedBatch(t *testing.T) {
	f := serve(t, nil)
	a := f.agent(t, nil)
	damaged := a.batch(2)
	damaged.DataBody[20] ^= 1
	a.send(a.batch(1))
	a.want(wire.Stored, 1)
	a.send(damaged)
	if reason := a.wantEnd(codes.DataLoss); !strings.Contains(reason, "checksum") {
		t.Error(reason)
	}
	f.wantQuarantined(t, damaged, a.key(0))
	b := f.agent(t, nil)
	b.send(b.batch(2))
	b.want(wire.Stored, 2)
	if recorded := f.recorded(); len(recorded) != 0 {
		t.Errorf("the ledger was told %v", recorded)
	}
}

func TestDamagedAnywhere(t *testing.T) {
	f := serve(t, nil)
	conn := f.dial(t)
	open := func() *agent {
		a := f.newAgent(t, conn, wire.NodeHeader, "node-1")
		a.hello()
		a.want(wire.Welcome, 0)
		return a
	}
	sent := open().batch(1)
	for i := 4; i < len(sent.AppMetadata); i++ { // without its first bytes it is not a batch at all
		a := open()
		damaged := a.batch(1)
		damaged.AppMetadata[i] ^= 0x10
		a.send(damaged)
		a.wantNothing(codes.DataLoss)
	}
	for i := 0; i < len(sent.DataBody); i += 1 + len(sent.DataBody)/50 {
		a := open()
		damaged := a.batch(1)
		damaged.DataBody[i] ^= 0x10
		a.send(damaged)
		a.wantNothing(codes.DataLoss)
	}
	if len(f.submitted())+len(f.recorded()) != 0 {
		t.Errorf("submitted %v, recorded %v", f.submitted(), f.recorded())
	}
	a := open()
	a.send(sent)
	a.want(wire.Stored, 1)
}

// wantNothing receives no answer, but the end.
func (a *agent) wantNothing(code codes.Code) {
	a.t.Helper()
	if _, err := a.put.Recv(); status.Code(err) != code {
		a.t.Fatalf("received %v, want %v", err, code)
	}
}

// TestManyDamagedMessages: their bytes are not kept for ever, and the reason says what to look at.
func TestManyDamagedMessages(t *testing.T) {
	f := serve(t, func(cfg *Config) { cfg.limits.maxDamaged = 3 })
	for n := 1; n <= 5; n++ {
		a := f.agent(t, nil)
		damaged := a.batch(uint64(n))
		damaged.DataBody[0] ^= 1
		a.send(damaged)
		if reason := a.wantEnd(codes.DataLoss); strings.Contains(reason, "look at its memory") != (n > 3) {
			t.Errorf("message %d: %v", n, reason)
		}
	}
	if len(f.files(t)) != 3 || len(f.recorded()) != 0 {
		t.Errorf("quarantine holds %v, the ledger %v", f.files(t), f.recorded())
	}
	a := f.agent(t, nil)
	a.send(a.batch(1))
	a.want(wire.Stored, 1)
}

// TestBelowTheOldest: nothing is known of what an agent said it has no more.
func TestBelowTheOldest(t *testing.T) {
	f := serve(t, nil)
	a := f.agent(t, func(a *agent) { a.from = 4 })
	sent := a.batch(3)
	a.send(sent)
	a.wantNothing(codes.InvalidArgument)
	f.wantQuarantined(t, sent, a.key(3))
}
