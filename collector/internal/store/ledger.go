// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// entry is a row of the ledger.
type entry struct {
	key    wire.Key
	rows   int64
	state  string
	reason string
	unit   string
}

// record writes entries to the ledger. Writing the same ones twice is harmless.
func (s *Store) record(ctx context.Context, queryID string, entries []entry) error {
	var stream bytes.Buffer
	if err := s.encodeLedger(&stream, entries); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.QueryTimeout)
	defer cancel()
	table := schema.LedgerTable()
	written, err := s.db.insert(ctx, table.InsertStatement(s.db.name), "ArrowStream", queryID, queryID, &stream)
	if err != nil {
		return fmt.Errorf("write %d batches to the ledger: %w", len(entries), err)
	}
	if want := ledgerRows(entries); written != want {
		return fmt.Errorf("write %d batches to the ledger: ClickHouse counted %d rows, want %d", len(entries), written, want)
	}
	return nil
}

// ledgerRows is what ClickHouse counts of entries that are written together: their rows, and one of ingest_sequences, which
// the ledger feeds, for each life: they have one time, and so one hour.
func ledgerRows(entries []entry) int64 {
	lives := make(map[life]bool)
	for _, e := range entries {
		lives[lifeOf(e.key)] = true
	}
	return int64(len(entries) + len(lives))
}

func (s *Store) encodeLedger(into *bytes.Buffer, entries []entry) error {
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema.LedgerTable().InsertSchema())
	defer b.Release()
	now := arrow.Timestamp(time.Now().UnixMilli())
	for _, e := range entries {
		table, _ := schema.TableByID(e.key.Table)
		b.Field(0).(*array.TimestampBuilder).Append(now)
		b.Field(1).(*array.StringBuilder).Append(table.Name)
		b.Field(2).(*array.Uint64Builder).Append(e.key.Node)
		b.Field(3).(*array.Uint64Builder).Append(e.key.Epoch)
		b.Field(4).(*array.Uint64Builder).Append(e.key.Sequence)
		b.Field(5).(*array.Uint32Builder).Append(uint32(e.rows))
		b.Field(6).(*array.StringBuilder).Append(e.state)
		b.Field(7).(*array.StringBuilder).Append(e.reason)
		b.Field(8).(*array.StringBuilder).Append(e.unit)
		b.Field(9).(*array.StringBuilder).Append(s.cfg.Name)
	}
	record := b.NewRecordBatch()
	defer record.Release()
	w := ipc.NewWriter(into, ipc.WithSchema(record.Schema()))
	if err := w.Write(record); err != nil {
		return fmt.Errorf("encode ledger: %w", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("encode ledger: %w", err)
	}
	return nil
}

// Quarantined records that a batch can never be stored.
func (s *Store) Quarantined(ctx context.Context, k wire.Key, rows int64, reason string) error {
	return s.record(ctx, s.queryID("ledger"), []entry{{key: k, rows: rows, state: schema.LedgerQuarantined, reason: reason}})
}

// question is one agent's life that the ledger is asked about.
type question struct {
	life
	from   uint64
	claim  bool // it is to be claimed
	gently bool // unless another collector has it
	answer chan answer
}

type answer struct {
	Grant
	ended []uint64 // sequences that the ledger has in any state
	err   error
}

// maxQuestions is how many agents are asked about in one query.
const maxQuestions = 500

// Ended lists the sequences of one table, node and epoch from one on that the ledger has: stored or quarantined, by whomever.
// Questions that come at the same time are asked in one query: after a restart every agent comes at once.
func (s *Store) Ended(ctx context.Context, table uint8, node, epoch, from uint64) ([]uint64, error) {
	a, err := s.question(ctx, question{life: life{table, node, epoch}, from: from})
	return a.ended, err
}

// Claim makes this process the one that stores the batches of a life, and tells what of them is stored. Whoever had the
// life before stores no more of it when Claim returns. Gently means: unless another collector has it, which is ErrHeld.
func (s *Store) Claim(ctx context.Context, table uint8, node, epoch, from uint64, gently bool) (Grant, error) {
	a, err := s.question(ctx, question{life: life{table, node, epoch}, from: from, claim: true, gently: gently})
	return a.Grant, err
}

func (s *Store) question(ctx context.Context, q question) (answer, error) {
	q.answer = make(chan answer, 1)
	select {
	case s.questions <- q:
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
	select {
	case a := <-q.answer:
		return a, a.err
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
}

// answerQuestions asks the ledger for all that wait, until the context ends. Those that wait for inserts of others to end
// keep nobody waiting.
func (s *Store) answerQuestions(ctx context.Context) error {
	var waiting sync.WaitGroup
	defer waiting.Wait()
	for {
		var asked []question
		select {
		case q := <-s.questions:
			asked = append(asked, q)
		case <-ctx.Done():
			return nil
		}
	gather:
		for len(asked) < maxQuestions {
			select {
			case q := <-s.questions:
				asked = append(asked, q)
			default:
				break gather
			}
		}
		now, later, outcomes := s.claimAsked(ctx, asked)
		if len(later) > 0 {
			waiting.Go(func() {
				if err := s.drain(ctx, outcomes); err != nil {
					refuseAll(later, err)
					return
				}
				s.answerAll(ctx, later, outcomes)
			})
		}
		s.answerAll(ctx, now, outcomes)
	}
}

// claimAsked claims what is to be claimed. What it returns is to be answered now, or later: once no insert of those who had
// the lives before runs.
func (s *Store) claimAsked(ctx context.Context, asked []question) (now, later []question, outcomes map[life]*outcome) {
	lives := make(map[life]bool)
	for _, q := range asked {
		if gently, known := lives[q.life]; q.claim {
			lives[q.life] = q.gently && (gently || !known)
		}
	}
	if len(lives) == 0 {
		return asked, nil, nil
	}
	outcomes, err := s.take(ctx, lives)
	if err == nil {
		err = s.checkMap(ctx)
	}
	for _, q := range asked {
		switch o := outcomes[q.life]; {
		case !q.claim:
			now = append(now, q)
		case err != nil:
			q.answer <- answer{err: err}
		case o.err != nil:
			q.answer <- answer{err: o.err}
		case s.toDrain(q.life, o):
			later = append(later, q)
		default:
			now = append(now, q)
		}
	}
	return now, later, outcomes
}

func refuseAll(asked []question, err error) {
	for _, q := range asked {
		q.answer <- answer{err: err}
	}
}

// answerAll asks the ledger.
func (s *Store) answerAll(ctx context.Context, asked []question, outcomes map[life]*outcome) {
	if len(asked) == 0 {
		return
	}
	found, err := s.ask(ctx, asked)
	if err != nil {
		refuseAll(asked, err)
		return
	}
	for _, q := range asked {
		var a answer
		if o := outcomes[q.life]; q.claim {
			a.Grant = o.Grant
		}
		a.Stored, a.ended = found[q.life].stored, found[q.life].ended
		q.answer <- a
	}
}

type life struct {
	table       uint8
	node, epoch uint64
}

func lifeOf(k wire.Key) life { return life{k.Table, k.Node, k.Epoch} }

// recorded is what the ledger has of a life: sequences.
type recorded struct{ stored, ended []uint64 }

func (s *Store) ask(ctx context.Context, asked []question) (map[life]recorded, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.QueryTimeout)
	defer cancel()
	var where strings.Builder
	for i, q := range asked {
		table, _ := schema.TableByID(q.table)
		if i > 0 {
			where.WriteString(" OR ")
		}
		fmt.Fprintf(&where, "(table_name = '%s' AND node_id = %d AND epoch = %d AND seq >= %d)", table.Name, q.node, q.epoch, q.from)
	}
	query := fmt.Sprintf("SELECT DISTINCT table_name, node_id, epoch, seq, state = '%s' FROM `%s`.ingest_ledger WHERE %s", schema.LedgerStored, s.db.name, where.String())
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"max_query_size": 64 << 20, "max_ast_elements": 1 << 20, "max_expanded_ast_elements": 1 << 20}))
	rows, err := s.db.Query(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("ask ledger: %w", err)
	}
	defer rows.Close() //nolint:errcheck // what counts is rows.Err below
	found := make(map[life]recorded)
	for rows.Next() {
		var name string
		var node, epoch, sequence uint64
		var stored bool
		if err := rows.Scan(&name, &node, &epoch, &sequence, &stored); err != nil {
			return nil, fmt.Errorf("ask ledger: %w", err)
		}
		table, _ := schema.TableByName(name)
		of := life{table.ID, node, epoch}
		r := found[of]
		r.ended = append(r.ended, sequence)
		if stored {
			r.stored = append(r.stored, sequence)
		}
		found[of] = r
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("ask ledger: %w", err)
	}
	return found, nil
}
