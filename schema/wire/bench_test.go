// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"fmt"
	"testing"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/internal/synthetic"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// What an agent of eight GPUs sends: one tick, and ten.
func eachBatch(b *testing.B, run func(b *testing.B, l link, batch *wire.Batch, encode func() (*wire.Batch, error))) {
	for _, ticks := range []int{1, 10} {
		b.Run(fmt.Sprintf("rows=%d", 8*ticks), func(b *testing.B) {
			l := newLink(b, schema.SamplesID)
			fleet := synthetic.NewFleet(1, 8, startMilliseconds)
			record := fleet.Record(l.table.WireColumns(), ticks, 1)
			defer record.Release()
			encode := func() (*wire.Batch, error) { return l.encoder.Encode(record, l.identity()) }
			batch, err := encode()
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			run(b, l, batch, encode)
			rows := float64(record.NumRows())
			b.ReportMetric(float64(batch.Bytes())/rows, "bytes/row")
			b.ReportMetric(float64(b.N)*rows/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	eachBatch(b, func(b *testing.B, _ link, _ *wire.Batch, encode func() (*wire.Batch, error)) {
		for b.Loop() {
			if _, err := encode(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	eachBatch(b, func(b *testing.B, l link, batch *wire.Batch, _ func() (*wire.Batch, error)) {
		for b.Loop() {
			record, err := l.receive(batch.Metadata, batch.Header, batch.Body)
			if err != nil {
				b.Fatal(err)
			}
			record.Release()
		}
	})
}

func BenchmarkColumns(b *testing.B) {
	eachBatch(b, func(b *testing.B, l link, batch *wire.Batch, _ func() (*wire.Batch, error)) {
		for b.Loop() {
			identity, err := wire.ParseIdentity(batch.Metadata, batch.Header, batch.Body)
			if err != nil {
				b.Fatal(err)
			}
			columns, err := l.decoder.Columns(identity, batch.Header, batch.Body)
			if err != nil {
				b.Fatal(err)
			}
			columns.Release()
		}
	})
}
