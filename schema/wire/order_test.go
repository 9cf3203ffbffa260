// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gpufleet/gpufleet/schema/wire"
)

func TestOrderComesBack(t *testing.T) {
	for _, want := range []wire.Order{
		{Burst: &wire.Burst{}},
		{Burst: &wire.Burst{GPU: "GPU-5a1c3f0e-0000-4000-8000-000000000001", Seconds: 2.5, Reason: `slow "steps" <&> \ größer`}},
		{Burst: &wire.Burst{GPU: strings.Repeat(`"`, 128), Seconds: 3599.123456789012, Reason: strings.Repeat(`\`, 128)}},
	} {
		answer, err := want.Answer()
		if err != nil {
			t.Fatal(err)
		}
		sent, err := wire.ParseAnswer(answer.Append(nil))
		if err != nil || sent.Kind != wire.Ordered || sent.Sequence != 0 {
			t.Fatalf("sent as %+v, %v", sent, err)
		}
		got, err := wire.ParseOrder(sent.Reason)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
	}
}

func TestOrdersThatCannotBe(t *testing.T) {
	for name, o := range map[string]wire.Order{
		"nothing":         {},
		"for ever":        {Burst: &wire.Burst{Seconds: math.Inf(1)}},
		"no number":       {Burst: &wire.Burst{Seconds: math.NaN()}},
		"backwards":       {Burst: &wire.Burst{Seconds: -1}},
		"a long GPU":      {Burst: &wire.Burst{GPU: strings.Repeat("g", 129)}},
		"a long reason":   {Burst: &wire.Burst{Reason: strings.Repeat("r", 129)}},
		"a reason's line": {Burst: &wire.Burst{Reason: "a\nb"}},
		"not UTF-8":       {Burst: &wire.Burst{Reason: "a\xff"}},
	} {
		if _, err := o.Answer(); err == nil {
			t.Errorf("%s: is sent", name)
		}
	}
	for _, text := range []string{"", "burst", "{}", "[]", "null", `{"burst":null}`, `{"burst":{"seconds":1e9}}`, `{"burst":{"gpu":1}}`, `{"reset":{}}`} {
		wantMalformed(t, second(wire.ParseOrder(text)), text)
	}
	if o, err := wire.ParseOrder(`{"burst":{"seconds":3,"hertz":20},"later":true}`); err != nil || o.Burst.Seconds != 3 {
		t.Errorf("what a newer collector says besides: %+v, %v", o, err)
	}
}

// FuzzParseOrder: what is taken can be sent, and comes back.
func FuzzParseOrder(f *testing.F) {
	for _, text := range []string{`{"burst":{}}`, `{"burst":{"gpu":"GPU-1","seconds":1.5,"reason":"x"}}`, `{`, `{"burst":{"seconds":1e999}}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		o, err := wire.ParseOrder(text)
		if err != nil {
			wantMalformed(t, err, text)
			return
		}
		answer, err := o.Answer()
		if err != nil {
			t.Fatalf("%q is taken, and cannot be sent: %v", text, err)
		}
		again, err := wire.ParseOrder(answer.Reason)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(o, again); diff != "" {
			t.Errorf("%q (-taken +sent):\n%s", text, diff)
		}
	})
}
