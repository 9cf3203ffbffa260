// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/gpufleet/gpufleet/schema"
)

// A name belongs to one process at a time: it is how people and the ledger call a collector. A process says that it runs,
// in a row of the table collectors, three times in a lease. Nothing that is stored depends on it: what two processes of one
// name store they store under claims of their own. Its clock is ClickHouse's.

// process is a collector's row.
type process struct {
	Instance uint64 `ch:"instance"`
	Started  int64  `ch:"started"` // milliseconds since 1970
	Seen     int64  `ch:"seen"`
	Age      int64  `ch:"age"` // milliseconds since it was seen
	Host     string `ch:"host"`
	Ended    uint8  `ch:"ended"`
}

func (p process) running(lease time.Duration) bool {
	return p.Ended == 0 && p.Age < lease.Milliseconds()
}

// before tells which of two came first.
func (p process) before(o process) bool {
	return p.Started < o.Started || p.Started == o.Started && p.Instance < o.Instance
}

// NameTaken is the error of a collector whose name another process has.
type NameTaken struct {
	Name, Host string
	Age        time.Duration
}

// Error implements error.
func (e NameTaken) Error() string {
	return fmt.Sprintf("the collector %q runs already: process %s wrote into this database %s ago: give each collector a --name of its own, or stop that one",
		e.Name, e.Host, e.Age.Round(100*time.Millisecond))
}

func (s *Store) taken(p process) error {
	return NameTaken{Name: s.cfg.Name, Host: p.Host, Age: time.Duration(p.Age) * time.Millisecond}
}

// register takes the name, and has it kept until leave: what a start does next may take longer than a lease. A process that was seen a moment ago may be dead: then it is waited for its lease to end. It
// is known to be if its number is in Config.Former.
func (s *Store) register(ctx context.Context) error {
	seen := make(map[uint64]int64)
	for {
		others, _, err := s.namesakes(ctx)
		if err != nil {
			return err
		}
		if len(others) == 0 {
			break
		}
		for _, p := range others {
			if before, ok := seen[p.Instance]; ok && before != p.Seen {
				return s.taken(p)
			}
			seen[p.Instance] = p.Seen
		}
		s.cfg.Logger.Info("a process of this name was there a moment ago; waiting to see whether it runs", "name", s.cfg.Name, "process", others[0].Host)
		if !sleep(ctx, s.cfg.Lease/10) {
			return ctx.Err()
		}
	}
	if err := s.sayRunning(ctx, false); err != nil {
		return err
	}
	s.startNaming(ctx)
	others, own, err := s.namesakes(ctx) // one that was started at the same moment has seen nobody either
	for _, p := range others {
		if p.before(own) {
			return s.taken(p)
		}
	}
	return err
}

// startNaming has the name and the claims kept until leave.
func (s *Store) startNaming(ctx context.Context) {
	ctx, s.leave = context.WithCancel(context.WithoutCancel(ctx))
	s.naming.Go(func() error {
		err := s.keepName(ctx)
		if err != nil {
			close(s.nameTaken)
		}
		return err
	})
	s.naming.Go(func() error {
		s.keepClaims(ctx)
		return nil
	})
	s.naming.Go(func() error { return s.watchMap(ctx) })
}

// farewellWait is how long a ClickHouse that hangs may hold up the end of a process. The next one of its name knows which ones
// have ended, or waits for a lease.
const farewellWait = 2 * time.Second

// keepName says that this process runs until the context ends, and then that it has ended. It is an error if another
// process has the name: this one was taken for dead, or both were started at once.
func (s *Store) keepName(ctx context.Context) error {
	for sleep(ctx, s.cfg.Lease/3) {
		others, own, err := s.namesakes(ctx)
		for _, p := range others {
			if !own.running(s.cfg.Lease) || p.before(own) {
				return s.taken(p)
			}
		}
		if err == nil {
			err = s.sayRunning(ctx, false)
		}
		if err != nil && ctx.Err() == nil {
			s.cfg.Logger.Debug("the name is not renewed", "name", s.cfg.Name, "error", err)
		}
	}
	saying, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewellWait)
	defer cancel()
	if err := s.sayRunning(saying, true); err != nil {
		s.cfg.Logger.Info("ClickHouse was not told that this collector has ended: the next one of its name may wait a moment", "error", err)
	}
	return nil
}

// namesakes lists the other processes of this name that run, or seem to, and this one.
func (s *Store) namesakes(ctx context.Context) (others []process, own process, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.QueryTimeout)
	defer cancel()
	var all []process
	ctx = clickhouse.Context(ctx, clickhouse.WithParameters(clickhouse.Parameters{"name": s.cfg.Name}))
	err = s.db.Select(ctx, &all, fmt.Sprintf(`SELECT instance, toUnixTimestamp64Milli(min(started_at)) AS started, toUnixTimestamp64Milli(max(seen_at)) AS seen,
    toUnixTimestamp64Milli(now64(3)) - toUnixTimestamp64Milli(max(seen_at)) AS age, argMax(host, seen_at) AS host, max(ended) AS ended
FROM %s.collectors WHERE collector = {name:String} GROUP BY instance`, "`"+s.db.name+"`"))
	if err != nil {
		return nil, own, fmt.Errorf("ask which collectors run: %w", err)
	}
	for _, p := range all {
		switch {
		case p.Instance == s.instance:
			own = p
		case p.running(s.cfg.Lease) && !slices.Contains(s.cfg.Former, p.Instance):
			others = append(others, p)
		}
	}
	return others, own, nil
}

// sayRunning renews this process's row.
func (s *Store) sayRunning(ctx context.Context, ended bool) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.QueryTimeout)
	defer cancel()
	host, err := os.Hostname()
	if err != nil {
		host = "?"
	}
	flag := "0"
	if ended {
		flag = "1"
	}
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(asWritten), clickhouse.WithParameters(clickhouse.Parameters{
		"name": s.cfg.Name, "host": fmt.Sprintf("%s, pid %d", host, os.Getpid()), "ended": flag,
	}))
	table := "`" + s.db.name + "`.collectors"
	err = s.db.Exec(ctx, fmt.Sprintf(`%[1]s
SELECT now64(3), {name:String}, %[2]d, ifNull((SELECT minOrNull(started_at) FROM %[3]s WHERE collector = {name:String} AND instance = %[2]d), now64(3)), {host:String}, {ended:UInt8}`,
		schema.CollectorsTable().InsertStatement(s.db.name), s.instance, table))
	if err != nil {
		return fmt.Errorf("say that collector %s runs: %w", s.cfg.Name, err)
	}
	return nil
}
