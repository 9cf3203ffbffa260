// SPDX-License-Identifier: Apache-2.0

package loadgen

import (
	"context"
	"fmt"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// fleetNode is one node of a fleet. Its run is the one goroutine that sends; each stream has one that receives.
type fleetNode struct {
	fleet   *Fleet
	name    string
	id      uint64
	gpus    []uint64
	series  [][]*template
	phase   time.Duration // within Flush, by which it sends later than the first node
	conn    *grpc.ClientConn
	cancel  context.CancelFunc // of the streams
	streams map[uint8]*fleetStream
}

// open connects, and is welcomed on a stream for each table. The streams live until close, or until living ends.
func (n *fleetNode) open(ctx, living context.Context) error {
	conn, err := grpc.NewClient("passthrough:///"+n.fleet.cfg.Collector,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUserAgent("gpufleet-bench"),
		grpc.WithReadBufferSize(4<<10)) // answers are small
	if err != nil {
		return fmt.Errorf("connect node %s: %w", n.name, err)
	}
	living = metadata.AppendToOutgoingContext(living, wire.NodeHeader, n.name, "authorization", "Bearer "+n.fleet.cfg.Token(n.name))
	living, n.cancel = context.WithCancel(living)
	n.conn, n.streams = conn, make(map[uint8]*fleetStream)
	client := flight.NewFlightServiceClient(conn)
	for _, id := range []uint8{schema.SamplesID, schema.HealthID} {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		table, _ := schema.TableByID(id)
		s, err := n.openStream(living, client, table)
		if err != nil {
			return fmt.Errorf("connect node %s: stream of %s: %w", n.name, table.Name, err)
		}
		n.streams[id] = s
	}
	return nil
}

func (n *fleetNode) openStream(ctx context.Context, client flight.FlightServiceClient, table schema.Table) (*fleetStream, error) {
	put, err := client.DoPut(ctx)
	if err != nil {
		return nil, err
	}
	hello := wire.Hello{Table: table.ID, Epoch: n.fleet.epoch, Oldest: 1, Name: n.name}
	first := &flight.FlightData{
		FlightDescriptor: &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{table.Name}},
		DataHeader:       table.SchemaMessage(), AppMetadata: hello.Append(nil),
	}
	if err := put.Send(first); err != nil {
		return nil, err
	}
	s := newFleetStream(&n.fleet.counts, put)
	answer, err := s.next()
	if err != nil {
		return nil, err
	}
	if answer.Kind != wire.Welcome {
		return nil, fmt.Errorf("answer %d before the welcome", answer.Kind)
	}
	s.window = int64(answer.Window)
	return s, nil
}

func (n *fleetNode) close() {
	if n.conn != nil {
		n.cancel()
		n.conn.Close() //nolint:errcheck // everything was answered, or the run has failed
		n.conn = nil
	}
}

// run sends a flush whenever one is due, and then waits until all are answered.
func (n *fleetNode) run(ctx context.Context, start time.Time) error {
	flush := n.fleet.cfg.Flush
	for k := range int(n.fleet.cfg.Lasts / flush) {
		began := start.Add(n.phase + time.Duration(k)*flush)
		due := began.Add(flush)
		if !n.waitUntil(ctx, due) {
			break
		}
		n.fleet.counts.late.Add(time.Since(due))
		for _, t := range n.series[k%len(n.series)] {
			if err := n.send(ctx, t, began); err != nil {
				return err
			}
		}
	}
	for _, s := range n.streams {
		if err := s.finish(ctx); err != nil {
			return fmt.Errorf("node %s: %w", n.name, err)
		}
	}
	return nil
}

// waitUntil is false if nothing more is to be sent.
func (n *fleetNode) waitUntil(ctx context.Context, due time.Time) bool {
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-n.fleet.ending:
		return false
	case <-ctx.Done():
		return false
	default:
	}
	select {
	case <-timer.C:
		return true
	case <-n.fleet.ending:
		return false
	case <-ctx.Done():
		return false
	}
}

// send sends the template as the node's next batch of its table.
func (n *fleetNode) send(ctx context.Context, t *template, began time.Time) error {
	s := n.streams[t.table]
	s.sequence++
	b, err := t.batch(wire.Identity{Node: n.id, Epoch: n.fleet.epoch, Sequence: s.sequence}, n.gpus, began)
	if err != nil {
		return err
	}
	sent := &flown{batch: b, due: began.Add(n.fleet.cfg.Flush), template: t}
	if err := s.send(ctx, sent); err != nil {
		return fmt.Errorf("node %s: %w", n.name, err)
	}
	return nil
}
