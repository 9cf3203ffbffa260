// SPDX-License-Identifier: Apache-2.0

// Writes gpu_events.arrows: three rows of gpu_events as Apache Arrow for JavaScript encodes them, an
// implementation that shares nothing with ours. Run by hand when the table changes:
//
//	npm install --no-save apache-arrow@21.2.0 && node record.mjs
import { writeFileSync } from "node:fs";
import * as arrow from "apache-arrow";

const milliseconds = new arrow.Timestamp(arrow.TimeUnit.MILLISECOND, "UTC");
const none = [null, null, null];
const columns = {
  ts: [milliseconds, [1790000000000n, 1790000000001n, 1790000000002n]],
  gpu_id: [new arrow.Uint64(), [null, 18446744073709551615n, 7n]],
  kind: [new arrow.Utf8(), ["agent_started", "xid", "gpu_lost"]],
  source: [new arrow.Utf8(), ["agent", "kernel,nvml", "agent"]],
  xid: [new arrow.Uint32(), [null, 79, null]],
  gpu_instance: [new arrow.Uint32(), [null, 4294967295, null]],
  compute_instance: [new arrow.Uint32(), [null, null, 0]],
  count: [new arrow.Uint64(), [null, null, 3n]],
  message: [new arrow.Utf8(), ["", "GPU has fallen off the bus: ünïcödé", "gone"]],
  fault_id: [new arrow.Uint64(), [null, 18446744073709551615n, null]],
  severity: [new arrow.Utf8(), [null, "critical", null]],
  class: [new arrow.Utf8(), [null, "pcie", null]],
  action: [new arrow.Utf8(), [null, "reboot_node", null]],
  sxid: [new arrow.Uint32(), none],
  subcode: [new arrow.Utf8(), none],
  link: [new arrow.Uint16(), none],
  pci_bus_id: [new arrow.Utf8(), none],
  process_id: [new arrow.Uint32(), none],
  process_name: [new arrow.Utf8(), none],
  recovery_action: [new arrow.Uint8(), none],
  kernel_sequence: [new arrow.Uint64(), none],
  evidence: [new arrow.Utf8(), none],
  catalog_version: [new arrow.Utf8(), none],
  occurrences: [new arrow.Uint32(), none],
  last_seen: [milliseconds, none],
  notice_id: [new arrow.Utf8(), none],
  not_before: [milliseconds, none],
  network_device: [new arrow.Utf8(), none],
  network_port: [new arrow.Uint16(), none],
};
const vectors = {};
for (const [name, [type, values]] of Object.entries(columns)) {
  vectors[name] = arrow.vectorFromArray(values, type);
}
const stream = arrow.RecordBatchStreamWriter.writeAll(new arrow.Table(vectors));
writeFileSync(new URL("gpu_events.arrows", import.meta.url), await stream.toUint8Array());
