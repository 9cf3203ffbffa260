// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	startLimit     = 2 * time.Minute        // for one child to answer: it loads all tables first
	readyInterval  = 20 * time.Millisecond  // between two questions whether it does
	firstBackoff   = 100 * time.Millisecond // before the first restart
	longestBackoff = 10 * time.Second       // between restarts of a child that keeps dying
	stableAfter    = 30 * time.Second       // a child that lived this long starts the back-off anew
	portAttempts   = 5                      // draws of free ports that somebody else may take before the child does
)

// Server is a running embedded ClickHouse. Its methods may be called from any goroutine.
type Server struct {
	cfg     Config
	layout  layout
	program program
	state   state
	lock    *os.File

	version  string
	child    *process // the goroutine in supervise owns it once Start returned
	pid      atomic.Int64
	restarts atomic.Int64

	stopping context.CancelFunc // tells supervise to stop the child and return
	stopOnce sync.Once
	stopped  chan struct{} // closed when supervise has returned
	stopErr  error         // set before stopped is closed
}

// Start runs a ClickHouse in cfg.Dir and returns when it answers SQL and the database gpufleet exists. ctx bounds the
// start alone; the server runs until Close, and is started again should it die before.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	s, err := prepare(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// prepare finds a ClickHouse and takes the directory. A server that is not started must be given up.
func prepare(ctx context.Context, cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if getenv(ChildEnv) != "" {
		return nil, errors.New("start ClickHouse: this process is its child, but its main does not call embedded.RunIfChild first")
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	find, err := newFinder()
	if err != nil {
		return nil, err
	}
	found, notes, err := find.find(ctx, cfg.Library)
	for _, note := range notes {
		cfg.Logger.WarnContext(ctx, "clickhouse passed over", "reason", note)
	}
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, layout: layout(cfg.Dir), program: found, stopped: make(chan struct{})}
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// start runs what was prepared; on an error it gives the directory up.
func (s *Server) start(ctx context.Context) error {
	if err := s.firstStart(ctx); err != nil {
		return errors.Join(err, s.lock.Close())
	}
	// The server outlives the context of its start: Close ends it.
	var background context.Context
	background, s.stopping = context.WithCancel(context.WithoutCancel(ctx)) //nolint:gosec // Close calls it
	go s.supervise(background)
	return nil
}

// open makes the directory ours and reads what it remembers.
func (s *Server) open(ctx context.Context) error {
	if err := s.layout.create(s.cfg.MinFreeBytes); err != nil {
		return err
	}
	lock, err := acquire(ctx, s.layout.lock(), s.cfg.LockWait)
	if err != nil {
		return err
	}
	if s.state, err = readState(s.layout); err != nil {
		return errors.Join(err, lock.Close())
	}
	s.lock, s.state.Private = lock, s.cfg.Private
	if s.program.Library != "" {
		s.program.Arguments = libraryArguments(s.layout)
	} else {
		s.program.Arguments = append(s.program.Arguments, "--config-file="+s.layout.config())
	}
	return nil
}

// firstStart settles the ports and starts the first child. Between finding a port free and ClickHouse listening on
// it somebody may take it; ports that nobody asked for are then drawn again.
func (s *Server) firstStart(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		var err error
		if s.state.HTTPPort, s.state.TCPPort, err = choosePorts(ctx, s.cfg, s.state); err != nil {
			return err
		}
		if err = s.state.write(s.layout); err != nil {
			return err
		}
		if err = s.startChild(ctx); err == nil {
			return nil
		}
		if attempt == portAttempts || !portTaken(err) {
			return err
		}
	}
}

// portTaken tells that somebody has taken a port that was free.
func portTaken(err error) bool { return strings.Contains(err.Error(), "Address already in use") }

// startChild starts a child and waits until it answers. On an error no child is left.
func (s *Server) startChild(ctx context.Context) error {
	if err := writeConfig(s.layout, newSettings(s.cfg, s.layout, s.state, s.program.Library != "")); err != nil {
		return err
	}
	began := time.Now()
	child, err := spawn(s.program, s.layout, s.lock)
	if err != nil {
		return err
	}
	if err := s.awaitReady(ctx, child); err != nil {
		return errors.Join(err, child.kill())
	}
	s.child = child
	s.pid.Store(int64(child.cmd.Process.Pid))
	s.cfg.Logger.InfoContext(ctx, "clickhouse started", "version", s.version, "pid", child.cmd.Process.Pid, "directory", s.cfg.Dir,
		"http", s.Writer().HTTPAddress(), "took", time.Since(began))
	return nil
}

// awaitReady asks until the child answers, or is gone, or the time is up.
func (s *Server) awaitReady(ctx context.Context, child *process) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	tick := time.NewTicker(readyInterval)
	defer tick.Stop()
	for {
		err := s.greet(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-child.exited:
			return fmt.Errorf("start ClickHouse: %w; it said:\n%s", child.err, lastWords(s.layout, child.logStart))
		case <-ctx.Done():
			return fmt.Errorf("wait for ClickHouse to answer: %w (last: %w)", ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// greet makes sure that the database is there and, by a flush, system.query_log, and learns the version.
func (s *Server) greet(ctx context.Context) error {
	writer := s.Writer()
	writer.Database = "" // not there yet
	if _, err := writer.Ask(ctx, "CREATE DATABASE IF NOT EXISTS "+Database); err != nil {
		return err
	}
	if _, err := writer.Ask(ctx, "SYSTEM FLUSH LOGS"); err != nil {
		return err
	}
	version, err := writer.Ask(ctx, "SELECT version()")
	if err != nil {
		return err
	}
	if s.version == "" {
		s.version = strings.TrimSpace(version) // written once, before Start returns
	}
	return nil
}

// supervise keeps a child alive until it is told to stop, and then stops it.
func (s *Server) supervise(ctx context.Context) {
	defer close(s.stopped)
	backoff := firstBackoff
	for {
		alive := time.Now()
		select {
		case <-ctx.Done():
			s.stopErr = errors.Join(s.child.stop(stopGrace), s.lock.Close())
			return
		case <-s.child.exited:
		}
		s.pid.Store(0)
		s.cfg.Logger.ErrorContext(ctx, "clickhouse ended by itself", "reason", s.child.err, "log", lastWords(s.layout, s.child.logStart))
		if time.Since(alive) > stableAfter {
			backoff = firstBackoff
		}
		if !s.restart(ctx, &backoff) {
			s.stopErr = errors.Join(s.child.kill(), s.lock.Close())
			return
		}
		s.restarts.Add(1)
	}
}

// restart tries until a child answers, waiting longer each time. It is false if it was told to stop.
func (s *Server) restart(ctx context.Context, backoff *time.Duration) bool {
	for {
		timer := time.NewTimer(*backoff)
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-timer.C:
		}
		*backoff = min(2**backoff, longestBackoff)
		err := s.startChild(ctx)
		if err == nil {
			return true
		}
		if ctx.Err() == nil {
			s.cfg.Logger.ErrorContext(ctx, "clickhouse not restarted", "reason", err, "again_in", *backoff)
		}
	}
}

// Close stops the server: cleanly, or by force after a grace of 20 seconds, which it reports. It waits until the
// process is gone. Later calls return what the first did.
func (s *Server) Close() error {
	s.stopOnce.Do(s.stopping)
	<-s.stopped
	return s.stopErr
}

// Writer returns the way in for the user with all rights on databases named gpufleet*.
func (s *Server) Writer() Endpoint { return s.state.writer() }

// Reader returns the way in for the user who may only read databases named gpufleet*, within limits.
func (s *Server) Reader() Endpoint { return s.state.reader() }

// PasswordFile returns the path of the file that keeps the passwords of both, which its owner alone may read.
func (s *Server) PasswordFile() string { return s.layout.state() }

// PID returns the process id of the child, or 0 while it is being restarted.
func (s *Server) PID() int { return int(s.pid.Load()) }

// Restarts returns how often the child died by itself and was started again.
func (s *Server) Restarts() int { return int(s.restarts.Load()) }

// Version returns the version of ClickHouse, such as 26.7.2.1.
func (s *Server) Version() string { return s.version }

// Source returns the path of what runs: libchdb.so or a clickhouse program.
func (s *Server) Source() string { return s.program.Library + s.program.Executable }
