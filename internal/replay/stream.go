// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/gpufleet/gpufleet/collector/quarantine"
	"github.com/gpufleet/gpufleet/internal/token"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// sender sends the batches of one life.
type sender struct {
	Config
	life     life
	outcomes *outcomes
}

// send sends the batches together. If the stream breaks with some unanswered, one of them may be to
// blame: each then gets a stream of its own.
func (s sender) send(ctx context.Context, batches []batch) {
	left, err := s.stream(ctx, batches)
	if len(left) == 0 {
		return
	}
	if len(batches) == 1 {
		s.outcomes.set(left[0].file, blame(err), reason(err))
		return
	}
	for _, b := range left {
		if concernsAll(err) {
			s.outcomes.set(b.file, Unanswered, reason(err))
		} else {
			s.send(ctx, []batch{b})
		}
	}
}

// errWelcome is an error from before a batch was sent.
var errWelcome = errors.New("open stream")

// concernsAll tells that an error is none of a single batch.
func concernsAll(err error) bool {
	return errors.Is(err, errWelcome) || errors.Is(err, context.Canceled) || status.Code(err) == codes.Unavailable
}

// blame is the state of a batch that was alone in a stream that broke.
func blame(err error) State {
	if errors.Is(err, errWelcome) {
		return Unanswered
	}
	switch status.Code(err) {
	case codes.InvalidArgument, codes.PermissionDenied:
		return Rejected
	default:
		return Unanswered
	}
}

// reason is an error without gRPC's frame.
func reason(err error) string {
	var broken interface{ GRPCStatus() *status.Status }
	if errors.As(err, &broken) {
		return broken.GRPCStatus().Message()
	}
	return err.Error()
}

// stream sends batches until all are answered or the stream breaks, and returns those without an
// answer.
func (s sender) stream(ctx context.Context, batches []batch) (left []batch, err error) {
	x := &exchange{sender: s, waiting: make(map[uint64][]batch), size: make(map[uint64]int)}
	for _, b := range batches {
		if len(x.waiting[b.key.Sequence]) == 0 {
			x.order = append(x.order, b.key.Sequence)
		}
		x.waiting[b.key.Sequence] = append(x.waiting[b.key.Sequence], b)
	}
	err = x.run(ctx)
	for _, sequence := range x.order {
		left = append(left, x.waiting[sequence]...)
	}
	return left, err
}

// exchange is one stream. It belongs to one goroutine.
type exchange struct {
	sender
	order    []uint64           // sequences to be sent
	waiting  map[uint64][]batch // without an answer; the same batch may lie in several files
	next     int                // in order
	size     map[uint64]int     // of what was sent
	flying   int                // bytes that are sent and not answered
	window   int                // bytes that may be
	welcomed bool
}

// run opens the stream and works off what waits; what is answered is taken out of it.
func (x *exchange) run(ctx context.Context) error {
	var receiving sync.WaitGroup
	defer receiving.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := x.dial()
	if err != nil {
		return fmt.Errorf("%w: %w", errWelcome, err)
	}
	defer conn.Close() //nolint:errcheck // every batch has its answer, or is reported without
	impatient := time.AfterFunc(x.AnswerWait, cancel)
	put, err := x.open(ctx, conn)
	if !impatient.Stop() && err != nil {
		err = x.silence()
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errWelcome, err)
	}
	answers := make(chan received)
	receiving.Go(func() { receive(ctx, put, answers) })
	patience := time.NewTimer(x.AnswerWait)
	defer patience.Stop()
	for !x.welcomed || len(x.waiting) > 0 {
		x.fill(put)
		if x.welcomed && len(x.waiting) == 0 {
			break
		}
		select {
		case a := <-answers:
			if err := x.take(a); err != nil {
				return err
			}
			patience.Reset(x.AnswerWait)
		case <-patience.C:
			return x.silence()
		}
	}
	return put.CloseSend()
}

func (x *exchange) silence() error {
	return fmt.Errorf("no answer of the collector %s for %s", x.Collector, x.AnswerWait)
}

// fill sends what the window allows: one batch always.
func (x *exchange) fill(put flight.FlightService_DoPutClient) {
	for x.welcomed && x.next < len(x.order) && (x.flying == 0 || x.flying < x.window) {
		sequence := x.order[x.next]
		x.next++
		_, d, err := quarantine.Read(x.waiting[sequence][0].file.Path)
		if err != nil { // it was there when it was listed
			x.settle(sequence, Unanswered, err.Error())
			continue
		}
		x.size[sequence] = len(d.Metadata) + len(d.Header) + len(d.Body)
		x.flying += x.size[sequence]
		if put.Send(&flight.FlightData{AppMetadata: d.Metadata, DataHeader: d.Header, DataBody: d.Body}) != nil {
			return // the reason comes with the answers
		}
	}
}

// take deals with an answer. An error ends the stream.
func (x *exchange) take(a received) error {
	switch {
	case a.err != nil && !x.welcomed:
		return fmt.Errorf("%w: %w", errWelcome, a.err)
	case a.err != nil:
		return a.err
	}
	x.window = int(a.Window)
	switch a.Kind {
	case wire.Welcome:
		x.welcomed = true
	case wire.Stored:
		x.settle(a.Sequence, Stored, "")
	case wire.Rejected, wire.Retry: // the file's bytes are what they are: sending them again changes nothing
		x.settle(a.Sequence, Rejected, a.Reason)
	case wire.Accepted:
	}
	return nil
}

// settle takes a batch out of what waits.
func (x *exchange) settle(sequence uint64, state State, reason string) {
	for _, b := range x.waiting[sequence] {
		x.outcomes.set(b.file, state, reason)
	}
	if len(x.waiting[sequence]) > 0 {
		x.flying -= x.size[sequence]
	}
	delete(x.waiting, sequence)
}

// received is an answer, or why there are no more.
type received struct {
	wire.Answer
	err error
}

// receive hands answers on until the stream ends or the context does.
func receive(ctx context.Context, put flight.FlightService_DoPutClient, answers chan<- received) {
	for {
		var r received
		result, err := put.Recv()
		if err == nil {
			r.Answer, err = wire.ParseAnswer(result.GetAppMetadata())
		}
		r.err = err
		select {
		case answers <- r:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

func (s sender) dial() (*grpc.ClientConn, error) {
	transport := insecure.NewCredentials()
	if s.TLS != nil {
		transport = credentials.NewTLS(s.TLS)
	}
	conn, err := grpc.NewClient("passthrough:///"+s.Collector, grpc.WithTransportCredentials(transport), grpc.WithUserAgent("gpufleet-replay"))
	if err != nil {
		return nil, fmt.Errorf("connect to collector %s: %w", s.Collector, err)
	}
	return conn, nil
}

// tokenLife is far longer than a replay takes.
const tokenLife = 24 * time.Hour

// open says who is sending, as the agent would. Whose the batches were is said, too, so that a collector that is shown no
// proof of it refuses them, and does not store them as nobody's.
func (x *exchange) open(ctx context.Context, conn *grpc.ClientConn) (flight.FlightService_DoPutClient, error) {
	ctx = metadata.AppendToOutgoingContext(ctx, wire.NodeHeader, x.life.node)
	if x.life.scope.Tenant != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, wire.TenantHeader, x.life.scope.Tenant)
	}
	if x.life.scope.Residency != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, wire.ResidencyHeader, x.life.scope.Residency)
	}
	if x.Key != nil {
		bearer, err := x.Key.Token(x.life.node, token.Claims{Scope: x.life.scope, Expires: time.Now().Add(tokenLife)}) // and so none that may be revoked
		if err != nil {
			return nil, err
		}
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+bearer)
	}
	put, err := flight.NewFlightServiceClient(conn).DoPut(ctx)
	if err != nil {
		return nil, err
	}
	table, _ := schema.TableByID(x.life.table)
	hello := wire.Hello{Table: x.life.table, Epoch: x.life.epoch, Oldest: x.order[0], Name: x.life.node}
	err = put.Send(&flight.FlightData{
		FlightDescriptor: &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{table.Name}},
		DataHeader:       table.SchemaMessage(),
		AppMetadata:      hello.Append(nil),
	})
	if err != nil { // the reason comes to the receiver
		if _, received := put.Recv(); received != nil {
			err = received
		}
		return nil, err
	}
	return put, nil
}
