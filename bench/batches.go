// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/loadgen"
	"github.com/gpufleet/gpufleet/agent/sim"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// flush gives batches of 80 rows: eight GPUs for ten seconds.
const flush = 10 * time.Second

// makeLoads simulates the nodes. Their readings end a minute ago, so that a collector takes them.
func makeLoads(nodes, seconds int) ([]loadgen.Load, error) {
	start := time.Now().Add(-time.Duration(seconds)*time.Second - time.Minute).Truncate(flush)
	if day := start.Truncate(24 * time.Hour); !day.Equal(time.Now().Truncate(24 * time.Hour)) {
		start = start.Add(-time.Duration(seconds) * time.Second) // all of one day: units are full
	}
	clock := loadgen.NewClock(start)
	fleet, err := sim.NewFleet(sim.FleetConfig{Nodes: nodes, Seed: 1, Clock: clock.Now})
	if err != nil {
		return nil, err
	}
	drivers := make(map[string]gpu.Driver)
	for _, n := range fleet.Nodes() {
		drivers[n.Name()] = n.Driver()
	}
	return loadgen.Make(drivers, clock, seconds, flush, true)
}

// measureBatches takes one batch of gpu_samples from the middle of a load, and the sizes of all.
func measureBatches(loads []loadgen.Load, figures map[string]float64) error {
	var rows, bytes, healthRows, healthBytes int
	for _, l := range loads {
		for _, b := range l.Batches {
			switch b.Identity.Table {
			case schema.SamplesID:
				rows += int(b.Identity.Rows)
				bytes += b.Bytes()
			case schema.HealthID:
				healthRows += int(b.Identity.Rows)
				healthBytes += b.Bytes()
			}
		}
	}
	if rows == 0 || healthRows == 0 {
		return errNothing
	}
	figures["rows"] = float64(rows)
	figures["wire_bytes_per_row"] = float64(bytes) / float64(rows)
	figures["wire_health_bytes_per_row"] = float64(healthBytes) / float64(healthRows)
	sample := middle(loads[0].Batches)
	if sample == nil {
		return errNothing
	}
	return measureCodec(sample, figures)
}

func middle(batches []*wire.Batch) *wire.Batch {
	for _, b := range batches[len(batches)/2:] {
		if b.Identity.Table == schema.SamplesID && b.Identity.Rows == 80 {
			return b
		}
	}
	return nil
}

func measureCodec(sample *wire.Batch, figures map[string]float64) error {
	z, err := wire.NewDecompressor()
	if err != nil {
		return err
	}
	defer z.Close()
	table, _ := schema.TableByID(schema.SamplesID)
	decoder := wire.NewDecoder(table.WireSchema(), z)
	record, err := decoder.Decode(sample.Identity, sample.Header, sample.Body)
	if err != nil {
		return fmt.Errorf("decode a batch: %w", err)
	}
	defer record.Release()
	encoder, err := wire.NewEncoder()
	if err != nil {
		return err
	}
	report(figures, "encode", encodeBenchmark(encoder, record, sample.Identity))
	report(figures, "decode", testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			identity, err := wire.ParseIdentity(sample.Metadata, sample.Header, sample.Body)
			if err != nil {
				b.Fatal(err)
			}
			decoded, err := decoder.Decode(identity, sample.Header, sample.Body)
			if err != nil {
				b.Fatal(err)
			}
			decoded.Release()
		}
	}))
	return nil
}

func encodeBenchmark(encoder *wire.Encoder, record arrow.RecordBatch, identity wire.Identity) testing.BenchmarkResult {
	return testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			if _, err := encoder.Encode(record, identity); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func report(figures map[string]float64, name string, r testing.BenchmarkResult) {
	figures[name+"_microseconds_per_batch"] = float64(r.NsPerOp()) / 1000
	figures[name+"_allocated_bytes_per_batch"] = float64(r.AllocedBytesPerOp())
	figures[name+"_allocations_per_batch"] = float64(r.AllocsPerOp())
}
