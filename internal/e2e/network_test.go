// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/internal/embedded"
)

// port writes files of an InfiniBand port into a sysfs.
func port(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(root, "class/infiniband/mlx5_0/ports/1", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNetwork: what happens to a port of a node is an answer of SQL.
func TestNetwork(t *testing.T) {
	db := clickhousetest.Start(t)
	address, stop := startCollector(t, collectorConfig(t, db.Writer))
	root := t.TempDir()
	port(t, root, map[string]string{
		"link_layer": "InfiniBand", "state": "4: ACTIVE", "phys_state": "5: LinkUp", "rate": "400 Gb/sec (4X NDR)",
		"counters/port_rcv_data": "1000", "counters/link_downed": "0",
	})
	f := startFleet(t, fleetConfig{
		nodes: 1, gpus: 1, seed: 7, collector: address, interval: 200 * time.Millisecond, flush: 500 * time.Millisecond,
		change: func(c *agent.Config) { c.Network.Sysfs = os.DirFS(root) },
	})
	awaitAnswer(t, db.Reader, "SELECT device, port, state, rate_gigabits_per_second, node_name FROM fleet_network ORDER BY ts LIMIT 1", "mlx5_0\t1\tACTIVE\t400\t"+f.names[0])
	port(t, root, map[string]string{"counters/port_rcv_data": "1250"})
	awaitAnswer(t, db.Reader, "SELECT sum(rx_bytes_delta) FROM network_ports", "1000")
	port(t, root, map[string]string{"counters/link_downed": "1"})
	port(t, root, map[string]string{"state": "1: DOWN"}) // alone and last: a look may come between two files
	awaitAnswer(t, db.Reader, "SELECT kind, source, network_device, network_port, message FROM fleet_events WHERE network_device IS NOT NULL",
		"port_down\tnetwork\tmlx5_0\t1\tmlx5_0 port 1: DOWN, LinkUp; link_downed stands at 1 (was ACTIVE, LinkUp)")
	f.wantExactlyOnce(db.Reader)
	stop()
}

// awaitAnswer asks until the answer is this one.
func awaitAnswer(t *testing.T, db embedded.Endpoint, sql, want string) {
	t.Helper()
	timeout := time.NewTimer(limitless)
	defer timeout.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		got := clickhousetest.Query(t, db, sql)
		if got == want {
			return
		}
		select {
		case <-timeout.C:
			t.Fatalf("%s:\n%q, want\n%q", sql, got, want)
		case <-tick.C:
		}
	}
}
