// SPDX-License-Identifier: Apache-2.0

// Package up runs the whole pipeline on one machine: the embedded ClickHouse, a collector as a
// process of its own, and agents: of this machine's GPUs, of a simulated fleet, or of a recording. It
// shows what happens, and at the end counts what was sent against what is stored.
package up

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gpufleet/gpufleet/agent/recording"
	"github.com/gpufleet/gpufleet/agent/recording/h100"
	"github.com/gpufleet/gpufleet/internal/clickhouseclient"
	"github.com/gpufleet/gpufleet/internal/embedded"
	"github.com/gpufleet/gpufleet/internal/ops"
	"github.com/gpufleet/gpufleet/internal/terminal"
	"github.com/gpufleet/gpufleet/internal/token"
	"github.com/gpufleet/gpufleet/schema"
)

// Config is what is run. Start from DefaultConfig.
type Config struct {
	DataDir        string                    // kept across runs
	Nodes          int                       // simulated; 0: the GPUs of this machine if it has any, else DefaultNodes
	Seed           uint64                    // of the simulation
	FaultsPerHour  float64                   // that happen to each simulated GPU by chance
	SubsecondNodes int                       // simulated nodes that keep the driver's own samples
	Replay         string                    // a recording to play instead
	For            time.Duration             // then stop; 0: until the context ends
	Flush          time.Duration             // agents send this often
	JSON           bool                      // say nothing but the result, in one line
	ClickHouse     clickhouseclient.Endpoint // to use instead of the embedded one; no Address: the embedded one
	Library        string                    // of the embedded ClickHouse; "": search
	HTTPPort       int                       // of the embedded ClickHouse; 0: the one used last time, or a free one
	TCPPort        int                       // the same, of its native protocol
	RetentionDays  map[string]int            // by table, of those whose own is to be changed

	OTLPListen     string // where the collector takes what other programs push; "": nowhere
	OTLPHTTPListen string
	OTLPOut        string // where it tells how the fleet is; "": nowhere

	Shards           int           // of the embedded ClickHouse; 0: as many as the directory has, else one
	Collectors       int           // that the agents share; 0: one
	KillCollectorAt  time.Duration // SIGKILL to the first of them, to see that nothing is lost; 0: never
	KillClickHouseAt time.Duration

	Out io.Writer
	// TerminalSize is asked for the size of the terminal that Out is, which is then redrawn in place; nil: Out is none.
	TerminalSize terminal.Size
}

// maxCollectors is how many share one machine.
const maxCollectors = 16

// maxShards is how many ClickHouses share one machine, and a collector's memory.
const maxShards = 8

// DefaultNodes is the size of the simulated fleet.
const DefaultNodes = 24

// DefaultConfig shows a small fleet.
func DefaultConfig() Config {
	return Config{DataDir: ".data", Seed: 1, FaultsPerHour: 0.2, SubsecondNodes: 4, Flush: 2 * time.Second, Out: os.Stdout}
}

// Validate tells what cannot be honoured.
func (c Config) Validate() error {
	for table, days := range c.RetentionDays {
		if err := (schema.Retention{Table: table, Days: days}).Validate(); err != nil {
			return err
		}
	}
	switch {
	case c.DataDir == "":
		return errors.New("no data directory is given")
	case c.Nodes < 0 || c.Nodes > 20_000:
		return fmt.Errorf("%d simulated nodes: 0 to 20,000", c.Nodes)
	case c.Replay != "" && c.Nodes > 0:
		return errors.New("a recording and simulated nodes cannot be played together")
	case c.FaultsPerHour < 0 || c.FaultsPerHour > 3600:
		return fmt.Errorf("%v faults an hour: 0 to 3600", c.FaultsPerHour)
	case c.Collectors < 0 || c.Collectors > maxCollectors:
		return fmt.Errorf("%d collectors: 0 to %d", c.Collectors, maxCollectors)
	case c.For < 0:
		return fmt.Errorf("run for %s: not negative", c.For)
	case c.Flush < 100*time.Millisecond:
		return fmt.Errorf("flush every %s: at least 100ms", c.Flush)
	default:
		return c.checkShards()
	}
}

func (c Config) checkShards() error {
	switch {
	case c.Shards < 0 || c.Shards > maxShards:
		return fmt.Errorf("%d shards: 0 to %d", c.Shards, maxShards)
	case c.Shards > 0 && c.ClickHouse.Address != "":
		return errors.New("the shards are embedded ClickHouses, and another one is given")
	default:
		return nil
	}
}

// pipeline is what runs.
type pipeline struct {
	cfg        Config
	logger     *slog.Logger
	servers    *embedded.Shards // nil if an address was given
	writer     clickhouseclient.Endpoint
	reader     clickhouseclient.Endpoint
	collectors []*child
	address    string // of the collectors
	key        token.Key
	fleet      fleet
	recording  *recording.Recording
	db         *database
	started    time.Time
	screen     *screen
}

// Run starts the pipeline, runs it, stops it in the order in which nothing is lost, and tells what
// came of it.
func Run(ctx context.Context, cfg Config) (Result, error) {
	if err := cfg.Validate(); err != nil {
		return Result{}, err
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return Result{}, fmt.Errorf("make data directory: %w: choose another with --data", err)
	}
	log, err := os.OpenFile(filepath.Join(cfg.DataDir, "up.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return Result{}, fmt.Errorf("open log: %w: choose another directory with --data", err)
	}
	defer log.Close() //nolint:errcheck // a log that cannot be closed loses nothing that matters here
	logger, err := ops.NewLogger(log, "info", "text")
	if err != nil {
		return Result{}, err
	}
	p := &pipeline{cfg: cfg, logger: logger, screen: newScreen(cfg)}
	if cfg.Replay != "" { // before anything is started
		if p.recording, err = h100.Open(cfg.Replay); err != nil {
			return Result{}, err
		}
	}
	if err := p.start(ctx); err != nil {
		if ctx.Err() != nil { // what failed on the way out is not why
			err = errInterrupted
		}
		return Result{}, errors.Join(err, p.stop())
	}
	result, err := p.run(ctx)
	return result, errors.Join(err, p.stop())
}

var errInterrupted = errors.New("told to stop before it was up: nothing was sampled")

// start brings up ClickHouse, then the collector, then connects to both.
func (p *pipeline) start(ctx context.Context) error {
	if err := p.startClickHouse(ctx); err != nil {
		return err
	}
	conn, err := clickhouseclient.Dial(ctx, p.reader)
	if err != nil {
		return err
	}
	p.db = &database{conn}
	if err := p.startCollectors(ctx); err != nil {
		return err
	}
	p.screen.say("collector on %s", p.address)
	p.sayForeign()
	return nil
}

// queryWait is how long a query that has the directory may take to end.
const queryWait = 10 * time.Second

func (p *pipeline) startClickHouse(ctx context.Context) error {
	if p.cfg.ClickHouse.Address != "" {
		p.writer, p.reader = p.cfg.ClickHouse, p.cfg.ClickHouse
		p.screen.say("using ClickHouse %s", p.reader)
		p.screen.say("this user also writes: for one who only reads, see gpufleet readers --help")
		return nil
	}
	shards, err := p.shards()
	if err != nil {
		return err
	}
	p.screen.say("starting ClickHouse in %s", p.cfg.DataDir)
	servers, err := embedded.StartShards(ctx, embedded.Config{
		Dir: clickhouseclient.EmbeddedDir(p.cfg.DataDir), LockWait: queryWait, HTTPPort: p.cfg.HTTPPort, TCPPort: p.cfg.TCPPort, Library: p.cfg.Library, Logger: p.logger,
	}, shards)
	if err != nil {
		return err
	}
	p.servers = servers
	first := servers.First()
	p.writer, p.reader = clickhouseclient.Embedded(first.Writer()), clickhouseclient.Embedded(first.Reader())
	if shards == 1 {
		p.screen.say("ClickHouse %s on %s", first.Version(), p.reader.Address)
	} else {
		p.screen.say("ClickHouse %s, %d shards, asked on %s", first.Version(), shards, p.reader.Address)
	}
	p.screen.say("user %s may only read, as gpufleet query does; its password: %s", p.reader.User, first.PasswordFile())
	return nil
}

// shards is how many are to be started. A directory keeps those that it has: its rows are theirs.
func (p *pipeline) shards() (int, error) {
	has, err := embedded.ShardsIn(clickhouseclient.EmbeddedDir(p.cfg.DataDir))
	if err != nil {
		return 0, err
	}
	if has > 0 && p.cfg.Shards > 0 && p.cfg.Shards != has {
		return 0, fmt.Errorf("the ClickHouse of %s has %s, and %d are asked for: leave --shards out, or name another directory with --data", p.cfg.DataDir, counted(uint64(has), "shard"), p.cfg.Shards)
	}
	return max(has, p.cfg.Shards, 1), nil
}

// run starts the agents and waits: for the end of the time, or of the context.
func (p *pipeline) run(ctx context.Context) (Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if p.cfg.For > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, p.cfg.For)
		defer stop()
	}
	p.started = time.Now()
	fleet, err := p.newFleet()
	if err != nil {
		return Result{}, err
	}
	p.fleet = fleet
	p.screen.say("%s", fleet.describe())
	p.screen.say("log: %s", filepath.Join(p.cfg.DataDir, "up.log"))
	done := make(chan error, 1)
	go func() { done <- fleet.run(ctx) }()
	var disturbing sync.WaitGroup
	disturbing.Go(func() { p.disturb(ctx) })
	p.watch(ctx)
	disturbing.Wait()
	p.screen.say("stopping: sending what is left; Ctrl-C again stops at once")
	sending := <-done
	asking, stopAsking := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer stopAsking()
	result, err := p.result(asking)
	return result, errors.Join(sending, err)
}

// disturb kills what was asked to be killed.
func (p *pipeline) disturb(ctx context.Context) {
	kill := func(at time.Duration, name string, how func()) {
		if at <= 0 {
			return
		}
		timer := time.NewTimer(time.Until(p.started.Add(at)))
		defer timer.Stop()
		select {
		case <-timer.C:
			p.screen.say("killing %s with SIGKILL", name)
			how()
		case <-ctx.Done():
		}
	}
	first, second := p.killCollector, p.killClickHouse
	at, then := p.cfg.KillCollectorAt, p.cfg.KillClickHouseAt
	names := [2]string{"the collector", "ClickHouse"}
	if then < at {
		first, second, at, then, names = second, first, then, at, [2]string{names[1], names[0]}
	}
	kill(at, names[0], first)
	kill(then, names[1], second)
}

// watch shows the fleet until the context ends.
func (p *pipeline) watch(ctx context.Context) {
	ticker := time.NewTicker(p.screen.interval())
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if p.cfg.JSON {
				continue
			}
			places, err := p.db.view(ctx, p.started, p.cfg.Flush)
			if err != nil {
				if ctx.Err() == nil {
					p.logger.Warn("ask ClickHouse for the view", "error", err)
				}
				continue
			}
			stats, known := p.fleet.stats()
			p.screen.show(view{places: places, stats: stats, known: known, running: time.Since(p.started), readers: p.fleet.readers()})
		}
	}
}

// stop ends what runs, last started first.
func (p *pipeline) stop() error {
	var problems []error
	for _, c := range p.collectors {
		problems = append(problems, c.stop())
	}
	if err := os.Remove(metricsFile(p.cfg.DataDir)); err != nil && !errors.Is(err, os.ErrNotExist) {
		problems = append(problems, err)
	}
	if p.db != nil {
		problems = append(problems, p.db.Close())
	}
	if p.servers != nil {
		problems = append(problems, p.servers.Close())
	}
	return errors.Join(problems...)
}
