// SPDX-License-Identifier: Apache-2.0

package schema

// NetworkCounter is one counter of an RDMA port: a row of network_ports has its total and its
// increment.
type NetworkCounter struct {
	Name    string // column name without the suffix _total or _delta
	Unit    string
	Meaning string
	Sources []NetworkSource // tried in order; the first that a port answers is used
}

// NetworkSource is one file of sysfs that a counter can be read from.
type NetworkSource struct {
	// File lies below the port, class/infiniband/DEVICE/ports/PORT, or below its network device.
	File      string
	NetDevice bool
	Multiply  uint64 // the stored value is the file's × Multiply; 0 counts as 1
	Bits      int    // width in the hardware
	// Saturates says that the counter stays at its greatest value: what is counted from then on is
	// unknown. Any other starts again at 0.
	Saturates bool
}

// The words are those of the InfiniBand architecture for counters/ (fixed by its PortCounters and
// PortCountersExtended attributes, with their widths), and those of the drivers for hw_counters/:
// mlx5_ib, efa, bnxt_re and irdma of Linux 6.12.

func port(file string) NetworkSource { return NetworkSource{File: file, Bits: 64} }

// saturating is a counter of the classic set: it stops at its greatest value.
func saturating(bits int, file string) NetworkSource {
	return NetworkSource{File: file, Bits: bits, Saturates: true}
}

// queue is a counter of mlx5's queue counters: 32 bits that start again at 0.
func queue(file string) NetworkSource { return NetworkSource{File: file, Bits: 32} }

// words is a count of 32-bit words. Where the port lacks the extended counters it has 32 bits and stops
// there.
func words(file string) NetworkSource {
	s := saturating(32, file)
	s.Multiply = 4
	return s
}

// words64 is a count of 32-bit words, as kernels before 4.5 gave it beside the one of 32 bits.
func words64(file string) NetworkSource {
	s := port(file)
	s.Multiply = 4
	return s
}

func netDevice(file string) NetworkSource {
	return NetworkSource{File: file, NetDevice: true, Bits: 32}
}

func files(sources ...NetworkSource) []NetworkSource { return sources }

// NetworkCounters is the table of all counters that are read of an RDMA port.
func NetworkCounters() []NetworkCounter {
	var all []NetworkCounter
	for _, group := range [][]NetworkCounter{linkCounters, trafficCounters, portErrorCounters, transportCounters, congestionCounters, fabricAdapterCounters} {
		all = append(all, group...)
	}
	return all
}

var linkCounters = []NetworkCounter{
	{"link_downed", "{event}", "Link went down and could not be brought back by error recovery: also one too short to be seen.", files(saturating(8, "counters/link_downed"))},
	{"link_recoveries", "{event}", "Link error recoveries that succeeded: the link was out for an instant.", files(saturating(8, "counters/link_error_recovery"))},
	{"symbol_errors", "{error}", "Minor link errors on the physical lanes: cable, connector, transceiver.", files(saturating(16, "counters/symbol_error"))},
	{"link_integrity_errors", "{error}", "Times that errors on the local link passed its threshold.", files(saturating(4, "counters/local_link_integrity_errors"))},
	{"buffer_overruns", "{error}", "Times that consecutive flow control updates overran the receive buffer.", files(saturating(4, "counters/excessive_buffer_overrun_errors"))},
	{"carrier_changes", "{event}", "The port's network device lost or found its carrier.", files(netDevice("carrier_changes"))},
}

var trafficCounters = []NetworkCounter{
	{"tx_bytes", "By", "Bytes sent, without those of the physical layer.", files(words64("counters_ext/port_xmit_data_64"), words("counters/port_xmit_data"), port("hw_counters/tx_bytes"))},
	{"rx_bytes", "By", "Bytes received, without those of the physical layer.", files(words64("counters_ext/port_rcv_data_64"), words("counters/port_rcv_data"), port("hw_counters/rx_bytes"))},
	{"tx_packets", "{packet}", "Packets sent.", files(port("counters_ext/port_xmit_packets_64"), saturating(32, "counters/port_xmit_packets"), port("hw_counters/tx_pkts"))},
	{"rx_packets", "{packet}", "Packets received.", files(port("counters_ext/port_rcv_packets_64"), saturating(32, "counters/port_rcv_packets"), port("hw_counters/rx_pkts"))},
	{"tx_wait", "{tick}", "Ticks of the port in which data waited and no credit came: congestion downstream. The length of a tick is the vendor's.", files(saturating(32, "counters/port_xmit_wait"))},
}

var portErrorCounters = []NetworkCounter{
	{"tx_discards", "{packet}", "Packets that were not sent, because the port was down or congested.", files(saturating(16, "counters/port_xmit_discards"), port("hw_counters/tx_roce_discards"))},
	{"tx_constraint_errors", "{packet}", "Packets not sent for a partition or path check of the switch port.", files(saturating(8, "counters/port_xmit_constraint_errors"))},
	{"rx_errors", "{packet}", "Packets received with an error.", files(saturating(16, "counters/port_rcv_errors"), port("hw_counters/rx_roce_errors"))},
	{"rx_drops", "{packet}", "Packets received and dropped.", files(port("hw_counters/rx_drops"), port("hw_counters/rx_roce_discards"))},
	{"rx_remote_physical_errors", "{packet}", "Packets received that a switch on the way had marked as bad.", files(saturating(16, "counters/port_rcv_remote_physical_errors"))},
	{"rx_relay_errors", "{packet}", "Packets received that could not be forwarded.", files(saturating(16, "counters/port_rcv_switch_relay_errors"))},
	{"rx_constraint_errors", "{packet}", "Packets received and dropped for a partition or path check of the switch port.", files(saturating(8, "counters/port_rcv_constraint_errors"))},
	{"vl15_drops", "{packet}", "Management packets dropped for lack of room.", files(saturating(16, "counters/VL15_dropped"))},
	{"icrc_errors", "{packet}", "RoCE packets received whose checksum was wrong.", files(queue("hw_counters/rx_icrc_encapsulated"))},
}

var transportCounters = []NetworkCounter{
	{"out_of_buffer", "{event}", "Messages that found no posted receive: the receiver does not keep up.", files(queue("hw_counters/out_of_buffer"))},
	{"out_of_sequence", "{packet}", "Packets received out of order: some were lost on the way, or took another.", files(queue("hw_counters/out_of_sequence"), port("hw_counters/oos_drop_count"))},
	{"packet_sequence_errors", "{error}", "Negative answers of a receiver that missed packets: they are sent again.", files(queue("hw_counters/packet_seq_err"), port("hw_counters/seq_err_naks_rcvd"))},
	{"implied_sequence_errors", "{error}", "Answers that showed that an earlier one was lost.", files(queue("hw_counters/implied_nak_seq_err"))},
	{"ack_timeouts", "{event}", "No answer came in time: a packet or its answer was lost.", files(queue("hw_counters/local_ack_timeout_err"), port("hw_counters/to_retransmits"))},
	{"rnr_naks", "{event}", "The far end was not ready to receive, and asked to try again.", files(queue("hw_counters/rnr_nak_retry_err"), port("hw_counters/rnr_naks_rcvd"))},
	{"duplicate_requests", "{event}", "Requests received a second time: the far end did not get the answer.", files(queue("hw_counters/duplicate_request"), port("hw_counters/dup_req"))},
	{"transport_retries_exceeded", "{event}", "Retries ran out and the connection failed: the application sees an error.", files(queue("hw_counters/req_transport_retries_exceeded"), port("hw_counters/max_retry_exceeded"))},
	{"rnr_retries_exceeded", "{event}", "The far end was not ready too often and the connection failed: the application sees an error.", files(queue("hw_counters/req_rnr_retries_exceeded"))},
	{"request_errors", "{event}", "Requests of this node that completed with an error.", files(queue("hw_counters/req_cqe_error"))},
	{"response_errors", "{event}", "Requests of others that completed here with an error.", files(queue("hw_counters/resp_cqe_error"))},
}

var congestionCounters = []NetworkCounter{
	{"ecn_marked_packets", "{packet}", "RoCE packets received that a switch had marked: congestion on the way here.", files(port("hw_counters/np_ecn_marked_roce_packets"), port("hw_counters/rx_ecn_marked_pkts"), port("hw_counters/RxECNMrkd"))},
	{"cnps_sent", "{packet}", "Congestion notifications sent to those who send too fast.", files(port("hw_counters/np_cnp_sent"), port("hw_counters/tx_cnp_pkts"), port("hw_counters/cnpSent"))},
	{"cnps_handled", "{packet}", "Congestion notifications received and obeyed: this port sends slower.", files(port("hw_counters/rp_cnp_handled"), port("hw_counters/rx_cnp_pkts"), port("hw_counters/cnpHandled"))},
	{"cnps_ignored", "{packet}", "Congestion notifications received and not obeyed.", files(port("hw_counters/rp_cnp_ignored"), port("hw_counters/cnpIgnored"))},
	{"adaptive_retransmissions", "{event}", "Adaptive retransmissions of RoCE.", files(port("hw_counters/roce_adp_retrans"))},
	{"adaptive_retransmission_timeouts", "{event}", "RoCE timeouts under adaptive retransmission.", files(port("hw_counters/roce_adp_retrans_to"))},
	{"slow_restarts", "{event}", "RoCE slow restarts after a loss.", files(port("hw_counters/roce_slow_restart"))},
}

// fabricAdapterCounters are those of AWS's Elastic Fabric Adapter; some others have the first two.
var fabricAdapterCounters = []NetworkCounter{
	{"retransmitted_packets", "{packet}", "Packets sent again.", files(port("hw_counters/retrans_pkts"), port("hw_counters/RetransSegs"))},
	{"retransmitted_bytes", "By", "Bytes sent again.", files(port("hw_counters/retrans_bytes"))},
	{"retransmission_timeouts", "{event}", "Times that traffic timed out and took another path.", files(port("hw_counters/retrans_timeout_events"))},
	{"impaired_connections", "{event}", "Connections that entered an impaired state: their rate is held down.", files(port("hw_counters/impaired_remote_conn_events"))},
	{"unresponsive_remotes", "{event}", "Times that a far end did not answer.", files(port("hw_counters/unresponsive_remote_events"))},
	{"send_bytes", "By", "Bytes of messages sent.", files(port("hw_counters/send_bytes"))},
	{"receive_bytes", "By", "Bytes of messages received.", files(port("hw_counters/recv_bytes"))},
	{"rdma_read_bytes", "By", "Bytes read from others' memory.", files(port("hw_counters/rdma_read_bytes"))},
	{"rdma_read_response_bytes", "By", "Bytes that others read from this node's memory.", files(port("hw_counters/rdma_read_resp_bytes"))},
	{"rdma_read_errors", "{error}", "RDMA reads that failed.", files(port("hw_counters/rdma_read_wr_err"))},
	{"rdma_write_bytes", "By", "Bytes written to others' memory.", files(port("hw_counters/rdma_write_bytes"))},
	{"rdma_write_receive_bytes", "By", "Bytes that others wrote to this node's memory.", files(port("hw_counters/rdma_write_recv_bytes"))},
	{"rdma_write_errors", "{error}", "RDMA writes that failed.", files(port("hw_counters/rdma_write_wr_err"))},
}
