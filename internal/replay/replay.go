// SPDX-License-Identifier: Apache-2.0

// Package replay is what a person does with quarantined batches: look at them, delete them, or send them to a collector
// again, each as the agent that it came from: with the identity that it had, so that it is stored once however often it
// is sent. Run waits for the goroutines that it starts.
package replay

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gpufleet/gpufleet/collector/quarantine"
	"github.com/gpufleet/gpufleet/internal/loopback"
	"github.com/gpufleet/gpufleet/internal/token"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// DefaultAnswerWait is longer than a collector takes to insert what it has gathered.
const DefaultAnswerWait = 2 * time.Minute

// Config says where batches are sent.
type Config struct {
	Collector  string        // host:port
	TLS        *tls.Config   // nil: plain text, which only a loopback address may use
	Key        *token.Key    // fleet key under which each agent's token is made; nil sends none
	Node       string        // name of the node of files that name none, and have its id; "" sends no such file
	Delete     bool          // remove the files whose batches are stored
	AnswerWait time.Duration // for the next answer of the collector; then what is left stays unanswered
}

// Validate tells what cannot be honoured.
func (c Config) Validate() error {
	host, _, err := net.SplitHostPort(c.Collector)
	if err != nil {
		return fmt.Errorf("collector address %q: %w", c.Collector, err)
	}
	if c.TLS == nil && !loopback.Is(host) {
		return fmt.Errorf("collector %s is not on this machine: give --tls or --tls-ca, the agents' tokens would travel in plain text", c.Collector)
	}
	if c.AnswerWait <= 0 {
		return errors.New("no time to wait for answers")
	}
	return nil
}

// State is what became of a batch.
type State string

// The states.
const (
	Stored     State = "stored"     // its rows are in ClickHouse, once
	Rejected   State = "rejected"   // it can still not be stored
	Unanswered State = "unanswered" // nobody knows: send it again
)

// Result is what became of a file.
type Result struct {
	File
	State   State
	Reason  string // of Rejected and Unanswered
	Deleted bool
}

// maxStreams is how many agents' lives are sent at once: each waits for its insert.
const maxStreams = 16

// Run sends the files and tells what became of each, in their order. An error means that nothing was
// sent.
func Run(ctx context.Context, cfg Config, files []File) ([]Result, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	outcome := &outcomes{byPath: make(map[string]Result)}
	lives := make(map[life][]batch)
	for _, f := range files {
		if f.Entry.NodeName == "" && wire.NodeID(cfg.Node) == f.Entry.Node {
			f.Entry.NodeName = cfg.Node
		}
		b, err := check(f)
		if err != nil {
			outcome.set(f, Rejected, err.Error())
			continue
		}
		l := life{node: f.Entry.NodeName, table: b.key.Table, epoch: f.Entry.Epoch, scope: wire.Scope{Tenant: f.Entry.Tenant, Residency: f.Entry.Residency}}
		lives[l] = append(lives[l], b)
	}
	var group errgroup.Group
	group.SetLimit(maxStreams)
	for l, batches := range lives {
		slices.SortFunc(batches, func(a, b batch) int { return cmp.Compare(a.key.Sequence, b.key.Sequence) })
		group.Go(func() error {
			sender{Config: cfg, life: l, outcomes: outcome}.send(ctx, batches)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	results := make([]Result, len(files))
	for i, f := range files {
		results[i] = outcome.byPath[f.Path]
		if cfg.Delete && results[i].State == Stored {
			if err := os.Remove(f.Path); err != nil {
				results[i].Reason = fmt.Sprintf("it is stored, and cannot be deleted: %v", err)
				continue
			}
			results[i].Deleted = true
		}
	}
	return results, nil
}

// life is one agent's life in one table: what one stream can carry.
type life struct {
	node  string
	table uint8
	epoch uint64
	scope wire.Scope // that the agent had proved
}

// batch is a file that can be sent.
type batch struct {
	file File
	key  wire.Key
}

// check finds what no collector would take: it was damaged, or it is of another version.
func check(f File) (batch, error) {
	if f.Err != nil {
		return batch{}, f.Err
	}
	table, ok := schema.TableByName(f.Entry.Table)
	if !ok {
		return batch{}, fmt.Errorf("this version has no table %s", f.Entry.Table)
	}
	if f.Entry.NodeName == "" { // the collector's log does not have it
		return batch{}, fmt.Errorf("it was refused after a restart, when only the id of its node was known, %016x: --node-name tells it", f.Entry.Node)
	}
	if err := wire.CheckNodeName(f.Entry.NodeName); err != nil {
		return batch{}, err
	}
	_, data, err := quarantine.Read(f.Path)
	if err != nil {
		return batch{}, err
	}
	identity, err := wire.ParseIdentity(data.Metadata, data.Header, data.Body)
	if err != nil {
		return batch{}, err
	}
	own := wire.Key{Table: table.ID, Node: wire.NodeID(f.Entry.NodeName), Epoch: f.Entry.Epoch, Sequence: f.Entry.Sequence}
	if identity.Key() != own {
		return batch{}, fmt.Errorf("the batch says that it is %v, and it came as %v", identity.Key(), own)
	}
	return batch{file: f, key: own}, nil
}

// outcomes gathers what the streams report.
type outcomes struct {
	mu     sync.Mutex // guards byPath
	byPath map[string]Result
}

func (o *outcomes) set(f File, s State, reason string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.byPath[f.Path] = Result{File: f, State: s, Reason: reason}
}
