// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gpufleet/gpufleet/schema/wire"
)

func TestHelloComesBack(t *testing.T) {
	for _, want := range []wire.Hello{
		{Table: 1, Epoch: 1, Oldest: 1, Name: "a"},
		{Table: 255, Epoch: ^uint64(0), Oldest: ^uint64(0), Name: strings.Repeat("n", 253)},
		{Table: 6, Epoch: startMilliseconds, Oldest: 42, Name: "gpu-node-17.eu-west-1.example"},
		{Table: 6, Epoch: 1, Oldest: 1, Name: "узел-7"},
	} {
		got, err := wire.ParseHello(want.Append(nil))
		if err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
}

func TestParseHelloRefuses(t *testing.T) {
	good := wire.Hello{Table: 1, Epoch: 1, Oldest: 1, Name: "node"}
	bytes := good.Append(nil)
	for n := range bytes {
		wantMalformed(t, second(wire.ParseHello(bytes[:n])), "cut")
	}
	wantMalformed(t, second(wire.ParseHello(append(good.Append(nil), 'x'))), "one byte more")
	for _, at := range []int{0, 1, 2, 3, 5, 6, 7} {
		b := good.Append(nil)
		b[at] ^= 1
		wantMalformed(t, second(wire.ParseHello(b)), "magic or reserved byte")
	}
	for _, h := range []wire.Hello{
		{Table: 1, Epoch: 0, Oldest: 1, Name: "node"},
		{Table: 1, Epoch: 1, Oldest: 0, Name: "node"},
		{Table: 1, Epoch: 1, Oldest: 1, Name: ""},
		{Table: 1, Epoch: 1, Oldest: 1, Name: strings.Repeat("n", 254)},
		{Table: 1, Epoch: 1, Oldest: 1, Name: strings.Repeat("n", 70_000)},
	} {
		wantMalformed(t, second(wire.ParseHello(h.Append(nil))), h.Name[:min(10, len(h.Name))])
	}
}

func TestCheckNodeName(t *testing.T) {
	for _, name := range []string{"a", "node-1", "ip-10-0-0-1.ec2.internal", "..."} {
		if err := wire.CheckNodeName(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{
		"", ".", "..", "a b", "a/b", `a\b`, "a\x00b", "a\nb", "a\x7f", "a\u0085", "a\u00a0b", "a\u200bb", "a\u202eb",
		"a\u2028b", "\ufeffa", "a\xffb", strings.Repeat("a", 254),
	} {
		if err := wire.CheckNodeName(name); err == nil {
			t.Errorf("node name %q is accepted", name)
		}
	}
}

func TestAnswerComesBack(t *testing.T) {
	for _, want := range []wire.Answer{
		{Kind: wire.Welcome, Window: 1 << 20},
		{Kind: wire.Stored, Sequence: 1, Window: 0},
		{Kind: wire.Accepted, Sequence: ^uint64(0), Window: ^uint32(0)},
		{Kind: wire.Retry, Sequence: 3, Reason: "checksum does not match"},
		{Kind: wire.Rejected, Sequence: 3, Reason: strings.Repeat("r", 1024)},
	} {
		got, err := wire.ParseAnswer(want.Append(nil))
		if err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
}

func TestAnswerMendsItsReason(t *testing.T) {
	for _, reason := range []string{strings.Repeat("ü", 1000), "x" + strings.Repeat("ü", 1000), strings.Repeat("\xff", 5000), "a\xffb"} {
		got, err := wire.ParseAnswer(wire.Answer{Kind: wire.Rejected, Sequence: 1, Reason: reason}.Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		if !utf8.ValidString(got.Reason) || got.Reason == "" || len(got.Reason) > 1024 {
			t.Errorf("reason of %d bytes came back as %d: %.20q", len(reason), len(got.Reason), got.Reason)
		}
	}
}

func TestParseAnswerRefuses(t *testing.T) {
	good := wire.Answer{Kind: wire.Retry, Sequence: 1, Reason: "why"}
	bytes := good.Append(nil)
	for n := range bytes {
		wantMalformed(t, second(wire.ParseAnswer(bytes[:n])), "cut")
	}
	for _, at := range []int{0, 1, 2, 3, 5, 6, 7, 20} {
		b := good.Append(nil)
		b[at] ^= 1
		wantMalformed(t, second(wire.ParseAnswer(b)), "magic, reserved byte or length")
	}
	for _, kind := range []byte{0, byte(wire.Ordered) + 1, 255} {
		b := good.Append(nil)
		b[4] = kind
		wantMalformed(t, second(wire.ParseAnswer(b)), "kind")
	}
	b := good.Append(nil)
	b[len(b)-1] = 0xff
	wantMalformed(t, second(wire.ParseAnswer(b)), "reason that is not UTF-8")
	long := append(good.Append(nil), strings.Repeat("r", 1022)...)
	long[20], long[21] = 0x01, 0x04 // 1025
	wantMalformed(t, second(wire.ParseAnswer(long)), "long reason")
}

func TestIDsAreFixed(t *testing.T) {
	// Made with sha256sum: ids are stored and must never change.
	if got := wire.NodeID("node-1"); got != 0x4a02bbe9e61b9735 {
		t.Errorf("NodeID is %016x", got)
	}
	if got := wire.GPUID("GPU-5a1c3f0e-0000-4000-8000-000000000001"); got != 0xd353a2b682207a3a {
		t.Errorf("GPUID is %016x", got)
	}
}

func second[T any](_ T, err error) error { return err }

func wantMalformed(t *testing.T, err error, what string) {
	t.Helper()
	if !errors.Is(err, wire.ErrMalformed) {
		t.Errorf("%s: %v, want %v", what, err, wire.ErrMalformed)
	}
}
