// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/event"
	"github.com/gpufleet/gpufleet/agent/internal/sender"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

func TestLossesAreToldTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []event.Event
		refuse := 1 // the first telling fails
		l := losses{tell: func(e event.Event) error {
			if refuse > 0 {
				refuse--
				return errors.New("cannot be told")
			}
			told = append(told, e)
			return nil
		}}
		for seq := range uint64(1000) {
			l.add(sender.Loss{Key: wire.Key{Table: schema.SamplesID, Sequence: seq + 1}, Rows: 80, Reason: "send queue is full"})
			l.add(sender.Loss{Key: wire.Key{Table: schema.EventsID, Sequence: seq + 1}, Rows: 1})
		}
		l.add(sender.Loss{Key: wire.Key{Table: schema.HealthID, Sequence: 7}, Rows: 8, Rejected: true, Reason: "rows from 1970"})
		<-time.After(3 * lossInterval)
		synctest.Wait()
		counts := map[string]int64{}
		for _, e := range told {
			counts[e.Kind] += *e.Count
		}
		if len(told) != 2 || counts["batches_dropped"] != 1000 || counts["batches_rejected"] != 1 {
			t.Errorf("%d events, counts %v: want one event of 1000 dropped and one of 1 rejected", len(told), counts)
		}
	})
}
