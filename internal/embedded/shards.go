// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"sync"
)

// ClusterName is what the cluster of StartShards is called in ClickHouse.
const ClusterName = "gpufleet"

// maxShards is more than one machine has use for.
const maxShards = 16

// cluster is what one of several embedded ClickHouses knows of the others.
type cluster struct {
	Name   string
	Secret string
	Number int        // of this shard, from 1 on
	Shards []Endpoint // of all, in their order
}

// Shards are several embedded ClickHouses that are the shards of one cluster.
type Shards struct{ servers []*Server }

// StartShards runs so many ClickHouses as the shards of one cluster: the first in cfg.Dir, the others in folders beside
// it. They share the memory limit, the users and their passwords; free ports are chosen for all, and those of cfg are the
// first one's. With one shard it is Start.
func StartShards(ctx context.Context, cfg Config, shards int) (*Shards, error) {
	if shards < 1 || shards > maxShards {
		return nil, fmt.Errorf("%d shards of the embedded ClickHouse: 1 to %d", shards, maxShards)
	}
	if shards == 1 {
		server, err := Start(ctx, cfg)
		if err != nil {
			return nil, err
		}
		return &Shards{[]*Server{server}}, nil
	}
	if cfg.MemoryLimitBytes == 0 {
		cfg.MemoryLimitBytes = max(defaultMemoryBytes(machineMemoryBytes())/int64(shards), minMemoryBytes)
	}
	for attempt := 1; ; attempt++ {
		s, taken, err := startShards(ctx, cfg, shards)
		if err == nil || !taken || attempt == portAttempts {
			return s, err
		}
	}
}

// startShards makes one attempt. taken says that it failed because somebody took a port that was free.
func startShards(ctx context.Context, cfg Config, shards int) (_ *Shards, taken bool, err error) {
	s, err := prepareShards(ctx, cfg, shards)
	if err != nil {
		return nil, false, err
	}
	started := make([]error, shards)
	var group sync.WaitGroup
	for i, server := range s.servers {
		group.Go(func() { started[i] = server.start(ctx) })
	}
	group.Wait()
	if err := errors.Join(started...); err != nil {
		for i, server := range s.servers {
			if started[i] == nil {
				err = errors.Join(err, server.Close())
			}
		}
		return nil, portTaken(err), err
	}
	return s, false, nil
}

// prepareShards takes all directories and settles all ports: each shard is told where the others are.
func prepareShards(ctx context.Context, cfg Config, shards int) (_ *Shards, err error) {
	s := &Shards{}
	defer func() {
		if err != nil {
			for _, server := range s.servers {
				err = errors.Join(err, server.lock.Close())
			}
		}
	}()
	for n := range shards {
		own := cfg
		own.Dir = ShardDir(cfg.Dir, n+1)
		if n > 0 {
			own.HTTPPort, own.TCPPort = 0, 0
		}
		server, err := prepare(ctx, own)
		if err != nil {
			return nil, fmt.Errorf("shard %d: %w", n+1, err)
		}
		s.servers = append(s.servers, server)
	}
	return s, s.introduce(ctx)
}

// introduce settles ports and passwords, and tells each shard of all.
func (s *Shards) introduce(ctx context.Context) error {
	first := &s.servers[0].state
	first.Shards = len(s.servers)
	if first.ClusterSecret == "" {
		first.ClusterSecret = rand.Text()
	}
	used := make(map[int]bool)
	all := make([]Endpoint, len(s.servers))
	for i, server := range s.servers {
		st := &server.state
		st.WriterPassword, st.ReaderPassword, st.DictionaryPassword = first.WriterPassword, first.ReaderPassword, first.DictionaryPassword
		if used[st.HTTPPort] || used[st.TCPPort] {
			st.HTTPPort, st.TCPPort = 0, 0
		}
		for {
			http, tcp, err := choosePorts(ctx, server.cfg, *st)
			if err != nil {
				return err
			}
			if used[http] || used[tcp] {
				continue // drawn twice
			}
			used[http], used[tcp] = true, true
			server.cfg.HTTPPort, server.cfg.TCPPort, st.HTTPPort, st.TCPPort = http, tcp, http, tcp
			break
		}
		all[i] = server.state.writer()
	}
	for i, server := range s.servers {
		server.cfg.cluster = cluster{Name: ClusterName, Secret: first.ClusterSecret, Number: i + 1, Shards: all}
	}
	return nil
}

// ShardDir is the directory of a shard; the first one's is that of a ClickHouse that stands alone.
func ShardDir(dir string, number int) string {
	if number <= 1 {
		return dir
	}
	return dir + "-shard-" + strconv.Itoa(number)
}

// ShardsIn is how many shards the cluster in a directory has; 1 if what is there stands alone, 0 if nothing is.
func ShardsIn(dir string) (int, error) {
	s, err := readState(layout(dir))
	switch {
	case err != nil:
		return 0, err
	case s.HTTPPort == 0:
		return 0, nil
	default:
		return max(s.Shards, 1), nil
	}
}

// Servers are the shards in their order.
func (s *Shards) Servers() []*Server { return s.servers }

// First is the shard that is asked for all of them.
func (s *Shards) First() *Server { return s.servers[0] }

// Close stops all of them at the same time.
func (s *Shards) Close() error {
	stopped := make([]error, len(s.servers))
	var group sync.WaitGroup
	for i, server := range s.servers {
		group.Go(func() { stopped[i] = server.Close() })
	}
	group.Wait()
	return errors.Join(stopped...)
}
