// SPDX-License-Identifier: Apache-2.0

package network

import (
	"maps"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gpufleet/gpufleet/schema"
)

// shown is a row as text: what is not a counter, and the counters that are not NULL.
func shown(r row) map[string]string {
	table, _ := schema.TableByID(schema.NetworkPortsID)
	text := map[string]string{}
	for _, c := range table.WireColumns() {
		cell, ok := r[c.Name]
		switch {
		case !ok || c.Name == schema.ColumnTime:
		case c.Type == schema.Name || c.Type == schema.Text:
			text[c.Name] = cell.Text
		case c.Type == schema.Float64:
			text[c.Name] = rate{gigabits: math.Float64frombits(uint64(cell.Int))}.String()
		default:
			text[c.Name] = time.Duration(cell.Int).String()
		}
	}
	return text
}

// number writes a count as shown does.
func number(n int64) string { return time.Duration(n).String() }

func with(parts ...map[string]string) map[string]string {
	all := map[string]string{}
	for _, m := range parts {
		maps.Copy(all, m)
	}
	return all
}

// infiniBand is a ConnectX-7 at NDR.
func infiniBand(s sysfs) {
	s.add("mlx5_0", pciFirst, "mlx5_core", "0", with(ndrPort(), map[string]string{
		"ports/1/counters/link_downed": "2", "ports/1/counters/symbol_error": "0", "ports/1/counters/excessive_buffer_overrun_errors": "15",
		"ports/1/counters/port_rcv_data": "230539874932483", "ports/1/counters/port_xmit_data": "230442669431839",
		"ports/1/counters/port_rcv_packets": "317548853677", "ports/1/counters/port_xmit_wait": "2489603687",
		"ports/1/counters/port_rcv_errors": "N/A (no PMA)", "ports/1/hw_counters/out_of_sequence": "7", "ports/1/hw_counters/lifespan": "12",
		"ports/1/hw_counters/roce_adp_retrans": "3",
	}))
	s.addNet("ibp24s0", pciFirst, map[string]string{"operstate": "up", "carrier_changes": "4", "dev_port": "0"})
}

// roce is two functions of a ConnectX-6 Dx in one bond.
func roce(s sysfs) {
	s.add("mlx5_bond_0", "0000:0c:00.0", "mlx5_core", "1", with(rocePort(), map[string]string{
		"ports/1/rate": "200 Gb/sec (2X NDR)", "ports/1/gid_attrs/ndevs/0": "bond0",
		"ports/1/hw_counters/np_cnp_sent": "11", "ports/1/hw_counters/rp_cnp_handled": "12", "ports/1/hw_counters/np_ecn_marked_roce_packets": "13",
		"ports/1/hw_counters/packet_seq_err": "14", "ports/1/hw_counters/local_ack_timeout_err": "15", "ports/1/hw_counters/rnr_nak_retry_err": "16",
		"ports/1/hw_counters/rx_icrc_encapsulated": "17",
	}))
	s.addNet("ens1f0np0", "0000:0c:00.0", map[string]string{"operstate": "up", "carrier_changes": "2"})
	s.addNet("bond0", "", map[string]string{"operstate": "up", "carrier_changes": "9", "carrier_down_count": "4", "speed": "200000"})
}

// elasticFabric is an EFA of a p5 instance: no counters folder, no network device.
func elasticFabric(s sysfs) {
	s.add("rdmap79s0", "0000:4f:00.0", "efa", "-1", map[string]string{
		"ports/1/link_layer": "Unspecified", "ports/1/state": active, "ports/1/phys_state": linkUp, "ports/1/rate": "100 Gb/sec (4X EDR)",
		"ports/1/hw_counters/tx_bytes": "1000", "ports/1/hw_counters/rx_bytes": "2000", "ports/1/hw_counters/tx_pkts": "10", "ports/1/hw_counters/rx_pkts": "20",
		"ports/1/hw_counters/rx_drops": "1", "ports/1/hw_counters/send_bytes": "300", "ports/1/hw_counters/recv_bytes": "400",
		"ports/1/hw_counters/rdma_read_bytes": "500", "ports/1/hw_counters/rdma_read_resp_bytes": "600", "ports/1/hw_counters/rdma_read_wr_err": "2",
		"ports/1/hw_counters/rdma_write_bytes": "700", "ports/1/hw_counters/rdma_write_recv_bytes": "800", "ports/1/hw_counters/rdma_write_wr_err": "3",
		"ports/1/hw_counters/retrans_bytes": "900", "ports/1/hw_counters/retrans_pkts": "4", "ports/1/hw_counters/retrans_timeout_events": "5",
		"ports/1/hw_counters/impaired_remote_conn_events": "6", "ports/1/hw_counters/unresponsive_remote_events": "7",
	})
}

func TestRowsOfRealPorts(t *testing.T) {
	s := newSysfs(t)
	infiniBand(s)
	roce(s)
	elasticFabric(s)
	facts := map[string]string{
		"port": number(1), "counter_epoch": number(1), "firmware_version": "28.41.1000", "board_id": "MT_0000000838",
		"state": "ACTIVE", "physical_state": "LinkUp", "flapping": number(0), "degraded": number(0),
	}
	tests := []struct {
		device string
		want   map[string]string
	}{
		{"mlx5_0", map[string]string{
			"device": "mlx5_0", "link_layer": "InfiniBand", "driver": "mlx5_core", "pci_bus_id": pciFirst, "numa_node": number(0),
			"net_device": "ibp24s0", "net_state": "up", "rate_gigabits_per_second": "400 Gb/s",
			"link_downed_total": number(2), "symbol_errors_total": number(0), "buffer_overruns_total": number(15), "carrier_changes_total": number(4),
			"rx_bytes_total": number(230539874932483 * 4), "tx_bytes_total": number(230442669431839 * 4), "rx_packets_total": number(317548853677),
			"tx_wait_total": number(2489603687), "out_of_sequence_total": number(7), "adaptive_retransmissions_total": number(3),
		}},
		{"mlx5_bond_0", map[string]string{
			"device": "mlx5_bond_0", "link_layer": "Ethernet", "driver": "mlx5_core", "pci_bus_id": "0000:0c:00.0", "numa_node": number(1),
			"net_device": "bond0", "net_state": "up", "rate_gigabits_per_second": "200 Gb/s", "carrier_changes_total": number(9),
			"cnps_sent_total": number(11), "cnps_handled_total": number(12), "ecn_marked_packets_total": number(13), "packet_sequence_errors_total": number(14),
			"ack_timeouts_total": number(15), "rnr_naks_total": number(16), "icrc_errors_total": number(17),
		}},
		{"rdmap79s0", map[string]string{
			"device": "rdmap79s0", "link_layer": "Unspecified", "driver": "efa", "pci_bus_id": "0000:4f:00.0", "rate_gigabits_per_second": "100 Gb/s",
			"tx_bytes_total": number(1000), "rx_bytes_total": number(2000), "tx_packets_total": number(10), "rx_packets_total": number(20),
			"rx_drops_total": number(1), "send_bytes_total": number(300), "receive_bytes_total": number(400),
			"rdma_read_bytes_total": number(500), "rdma_read_response_bytes_total": number(600), "rdma_read_errors_total": number(2),
			"rdma_write_bytes_total": number(700), "rdma_write_receive_bytes_total": number(800), "rdma_write_errors_total": number(3),
			"retransmitted_bytes_total": number(900), "retransmitted_packets_total": number(4), "retransmission_timeouts_total": number(5),
			"impaired_connections_total": number(6), "unresponsive_remotes_total": number(7),
		}},
	}
	watch(t, os.DirFS(s.root), nil, func(r *recorder) {
		for _, tt := range tests {
			rows := r.of(tt.device)
			if len(rows) != 1 {
				t.Fatalf("%s has %d rows at its start, want 1", tt.device, len(rows))
			}
			if diff := cmp.Diff(with(facts, tt.want), shown(rows[0])); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.device, diff)
			}
		}
		if r.kinds() != "" {
			t.Errorf("ports in good order made events: %s", r.kinds())
		}
	})
}

// TestIncrements has a counter that goes on, one that wraps, one that stands at its end, one that cannot be read for a
// minute, and a reset.
func TestIncrements(t *testing.T) {
	s := newSysfs(t)
	s.add("mlx5_0", pciFirst, "mlx5_core", "0", with(ndrPort(), map[string]string{
		"ports/1/counters/port_rcv_data": "4294967290", "ports/1/counters/symbol_error": "65534", "ports/1/hw_counters/out_of_sequence": "4294967295",
		"ports/1/hw_counters/out_of_buffer": "5", "ports/1/counters/port_xmit_data": "4294967294",
	}))
	steps := []struct {
		files map[string]string
		want  map[string]string // increments; and the epoch
	}{
		{nil, map[string]string{"epoch": number(1)}},
		{
			map[string]string{"port_rcv_data": "4294967390", "symbol_error": "65535", "out_of_sequence": "1", "out_of_buffer": "garbage", "port_xmit_data": "4294967295"},
			map[string]string{"rx_bytes": number(400), "out_of_sequence": number(2), "epoch": number(1)},
		},
		{
			map[string]string{"out_of_buffer": "9"},
			map[string]string{"rx_bytes": number(0), "out_of_sequence": number(0), "epoch": number(1)}, // that of out_of_buffer covers two minutes
		},
		{
			map[string]string{"port_rcv_data": "50", "symbol_error": "3", "out_of_sequence": "0", "out_of_buffer": "13", "port_xmit_data": "5"},
			map[string]string{"rx_bytes": number(200), "symbol_errors": number(3), "out_of_sequence": number(0), "out_of_buffer": number(4), "tx_bytes": number(20), "epoch": number(2)},
		},
	}
	watch(t, os.DirFS(s.root), func(c *Config) { c.Node = "a" }, func(r *recorder) {
		for i, step := range steps {
			files := map[string]string{}
			for name, text := range step.files {
				folder := "ports/1/counters/"
				if strings.HasPrefix(name, "out_of") {
					folder = "ports/1/hw_counters/"
				}
				files[folder+name] = text
			}
			s.set("mlx5_0", files)
			if i > 0 {
				seen := len(r.of("mlx5_0"))
				for range 60 {
					if pass(time.Second); len(r.of("mlx5_0")) > seen {
						break
					}
				}
			}
			rows := r.of("mlx5_0")
			if len(rows) != i+1 {
				t.Fatalf("%d rows after step %d", len(rows), i)
			}
			last, got := shown(rows[i]), map[string]string{}
			for name, text := range last {
				if counter, ok := strings.CutSuffix(name, "_delta"); ok {
					got[counter] = text
				}
			}
			got["epoch"] = last["counter_epoch"]
			if diff := cmp.Diff(step.want, got); diff != "" {
				t.Errorf("step %d (-want +got):\n%s", i, diff)
			}
			if i > 1 && last["interval_milliseconds"] != number(60_000) || i == 0 && last["interval_milliseconds"] != "" {
				t.Errorf("step %d: interval %q", i, last["interval_milliseconds"])
			}
		}
	})
}

// TestIncrementsOverMinutesWithoutAReading: what was gained meanwhile is in the row in which the counters are read again,
// and that row says how long it is that it covers.
func TestIncrementsOverMinutesWithoutAReading(t *testing.T) {
	tests := []struct {
		name      string
		from, to  func(s sysfs, h *hanging)
		rowBefore bool // a row is written without a reading
	}{
		{"the port is gone", func(s sysfs, _ *hanging) { s.vanish("mlx5_0", pciFirst) }, func(s sysfs, _ *hanging) { countingPort(s, "107") }, true},
		{"no counter can be read", func(s sysfs, _ *hanging) {
			s.set("mlx5_0", map[string]string{"ports/1/counters/port_rcv_errors": "?"})
		}, func(s sysfs, _ *hanging) {
			s.set("mlx5_0", map[string]string{"ports/1/counters/port_rcv_errors": "107"})
		}, true},
		{"a read of a state hangs", func(_ sysfs, h *hanging) { h.hang("ports/1/state") }, func(s sysfs, h *hanging) {
			s.set("mlx5_0", map[string]string{"ports/1/counters/port_rcv_errors": "107"})
			h.release()
		}, false},
		{"a read of a counter hangs", func(_ sysfs, h *hanging) { h.hang("port_rcv_errors") }, func(s sysfs, h *hanging) {
			s.set("mlx5_0", map[string]string{"ports/1/counters/port_rcv_errors": "107"})
			h.release()
		}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSysfs(t)
			countingPort(s, "100")
			h := &hanging{FS: os.DirFS(s.root)}
			watch(t, h, func(*Config) { h.until = make(chan struct{}) }, func(r *recorder) {
				pass(time.Minute)
				before := r.of("mlx5_0")
				tt.from(s, h)
				pass(150 * time.Second)
				tt.to(s, h)
				pass(2 * time.Minute)
				covered, gained, empty := int64(0), int64(0), 0
				since := before[len(before)-1]["ts"].Int
				for _, row := range r.of("mlx5_0")[len(before):] {
					_, ok := row["rx_errors_delta"]
					if _, says := row["interval_milliseconds"]; says != ok {
						t.Errorf("a row with an increment: %v, with an interval: %v", ok, says)
					}
					if !ok {
						empty++
						continue
					}
					covered, gained = covered+row["interval_milliseconds"].Int, gained+row["rx_errors_delta"].Int
					if covered != row["ts"].Int-since {
						t.Errorf("rows up to %d ms cover %d ms", row["ts"].Int-since, covered)
					}
				}
				if gained != 7 || covered < 180_000 || (empty > 0) != tt.rowBefore {
					t.Errorf("gained %d within %d ms, %d rows without", gained, covered, empty)
				}
			})
		})
	}
}

// countingPort adds a port that has one counter.
func countingPort(s sysfs, errors string) {
	s.add("mlx5_0", pciFirst, "mlx5_core", "0", with(ndrPort(), map[string]string{"ports/1/counters/port_rcv_errors": errors}))
}

// TestOneOddFileCostsItself breaks each file of a port in turn: the rest of the row stays.
func TestOneOddFileCostsItself(t *testing.T) {
	columns := map[string]string{
		"ports/1/state": "state", "ports/1/phys_state": "physical_state", "ports/1/link_layer": "link_layer", "fw_ver": "firmware_version",
		"ports/1/counters/link_downed": "link_downed_total", "ports/1/rate": "rate_gigabits_per_second", "device/numa_node": "numa_node",
	}
	for file, column := range columns {
		for name, damage := range map[string]func(s sysfs){
			"garbage": func(s sysfs) { s.set("mlx5_0", map[string]string{file: "\x00\xffno\n\nsense"}) },
			"empty":   func(s sysfs) { s.set("mlx5_0", map[string]string{file: ""}) },
			"long":    func(s sysfs) { s.set("mlx5_0", map[string]string{file: strings.Repeat("4: ", 1<<16)}) },
			"absent":  func(s sysfs) { s.remove(devicesFolder + "/mlx5_0/" + file) },
			"folder": func(s sysfs) {
				s.remove(devicesFolder + "/mlx5_0/" + file)
				s.folder(devicesFolder + "/mlx5_0/" + file)
			},
		} {
			t.Run(column+" "+name, func(t *testing.T) {
				s := newSysfs(t)
				infiniBand(s)
				whole := rowOf(t, s)
				damage(s)
				got := rowOf(t, s)
				if value, ok := got[column]; ok {
					t.Errorf("%s is %q", column, value)
				}
				delete(whole, column)
				if column == "state" { // nothing is known of the rate of a port that may be down
					delete(whole, "rate_gigabits_per_second")
				}
				if diff := cmp.Diff(whole, got); diff != "" {
					t.Errorf("the rest of the row (-whole +got):\n%s", diff)
				}
			})
		}
	}
}

func rowOf(t *testing.T, s sysfs) (shownRow map[string]string) {
	t.Helper()
	watch(t, os.DirFS(s.root), nil, func(r *recorder) {
		rows := r.of("mlx5_0")
		if len(rows) != 1 || r.kinds() != "" {
			t.Fatalf("%d rows, events %q", len(rows), r.kinds())
		}
		shownRow = shown(rows[0])
	})
	return shownRow
}

// TestRateOfTheNetworkDevice: a port that does not tell its rate has its network device's.
func TestRateOfTheNetworkDevice(t *testing.T) {
	s := newSysfs(t)
	s.add("mlx5_0", pciFirst, "mlx5_core", "0", rocePort())
	s.addNet("eth0", pciFirst, map[string]string{"operstate": "up", "speed": "200000"})
	s.addNet("eth1", pciFirst, map[string]string{"dev_port": "1"}) // of the other port
	s.write(map[string]string{netFolder + "/eth0/dev_port": "0"})
	s.remove(devicesFolder + "/mlx5_0/ports/1/rate")
	got := rowOf(t, s)
	if got["net_device"] != "eth0" || got["rate_gigabits_per_second"] != "200 Gb/s" {
		t.Errorf("network device %q, rate %q", got["net_device"], got["rate_gigabits_per_second"])
	}
}

func TestEveryNodeHasItsPlaceInTheMinute(t *testing.T) {
	s := newSysfs(t)
	infiniBand(s)
	at := map[int64]bool{}
	for _, node := range []string{"a", "b", "c", "d"} {
		watch(t, os.DirFS(s.root), func(c *Config) { c.Node = node }, func(r *recorder) {
			pass(3 * time.Minute)
			rows := r.of("mlx5_0")
			if len(rows) != 4 {
				t.Fatalf("%d rows in three minutes, want one at the start and three", len(rows))
			}
			if between := rows[3]["ts"].Int - rows[2]["ts"].Int; between != 60_000 || rows[3]["interval_milliseconds"].Int != 60_000 {
				t.Errorf("%d ms between rows, interval %d", between, rows[3]["interval_milliseconds"].Int)
			}
			at[rows[1]["ts"].Int-rows[0]["ts"].Int] = true
		})
	}
	if len(at) < 3 {
		t.Errorf("four nodes write at %d different times of the minute", len(at))
	}
}
