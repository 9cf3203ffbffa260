// SPDX-License-Identifier: Apache-2.0

package sender

import (
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// TestRetryWaitsLonger with each round in which all batches are refused, and anew once one is taken.
func TestRetryWaitsLonger(t *testing.T) {
	for name, kind := range map[string]wire.AnswerKind{"accepted": wire.Accepted, "stored": wire.Stored} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				from := newSpool(t, nil)
				for seq := range uint64(3) {
					from.Push(newBatch(schema.SamplesID, seq+1, 100))
				}
				way := newFlying(from.Queue(schema.SamplesID), 5, &resent{}, patience{first: time.Second, most: 5 * time.Second})
				way.window.Store(1 << 20)
				round := func(refused ...uint64) time.Duration {
					started := time.Now()
					for range refused {
						if item, ok := way.next(t.Context()); !ok || !slices.Contains(refused, item.Sequence) {
							t.Fatalf("sent %d (%t), want one of %v", item.Sequence, ok, refused)
						}
					}
					took := time.Since(started)
					for _, sequence := range refused {
						<-time.After(time.Millisecond) // answers come one after the other
						way.answer(wire.Answer{Kind: wire.Retry, Sequence: sequence})
					}
					return took.Round(100 * time.Millisecond)
				}
				var waits []time.Duration
				for range 6 {
					waits = append(waits, round(1, 2, 3))
				}
				way.answer(wire.Answer{Kind: kind, Sequence: 3})
				left := []uint64{1, 2}
				if kind == wire.Accepted { // it may still be asked for
					left = append(left, 3)
				}
				waits = append(waits, round(left...), round(left...))
				seconds := []time.Duration{0, 1, 2, 4, 5, 5, 5, 1}
				for i, w := range waits {
					if w != seconds[i]*time.Second {
						t.Fatalf("waits %v, want %d seconds", waits, seconds)
					}
				}
			})
		})
	}
}

// TestAskedWait: a collector that says when to come again is heeded, within bounds.
func TestAskedWait(t *testing.T) {
	says := func(wait time.Duration) error {
		s, err := status.New(codes.ResourceExhausted, "too much").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Errorf("open stream: %w", s.Err())
	}
	for _, c := range []struct {
		err  error
		want time.Duration
	}{
		{says(42 * time.Second), 42 * time.Second},
		{says(24 * time.Hour), longestAsked},
		{says(-time.Hour), -time.Hour}, // less than any wait
		{status.Error(codes.Unavailable, "away"), 0},
		{io.EOF, 0},
	} {
		if got := askedWait(c.err); got != c.want {
			t.Errorf("%v: wait %s, want %s", c.err, got, c.want)
		}
	}
}
