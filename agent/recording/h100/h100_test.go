// SPDX-License-Identifier: Apache-2.0

package h100

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/agent/recording"
	"github.com/gpufleet/gpufleet/schema"
)

func TestTheFileIsFresh(t *testing.T) {
	path := "../../testdata/recordings/" + FileName
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: write it with: go generate ./agent/recording/...", err)
	}
	want, err := File()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is out of date. If the change is meant, refresh it with: go generate ./agent/recording/...", path)
	}
}

func TestOpenByNameOrPath(t *testing.T) {
	byName, err := Open(Name)
	if err != nil {
		t.Fatal(err)
	}
	byPath, err := Open("../../testdata/recordings/" + FileName)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(byName.Provenance, byPath.Provenance); diff != "" {
		t.Errorf("provenance (-by name +by path):\n%s", diff)
	}
	if _, err := Open("H100"); err == nil {
		t.Error("a file that is not there was opened")
	}
}

// rows are the rows of a table as text: the columns that are not NULL.
func rows(t *testing.T, r *recording.Recording, table uint8) (found []string) {
	t.Helper()
	for _, record := range r.Records(table) {
		for row := range int(record.NumRows()) {
			var cells []string
			for i, c := range record.Columns() {
				if c.IsValid(row) {
					cells = append(cells, record.ColumnName(i)+"="+c.ValueStr(row))
				}
			}
			found = append(found, strings.Join(cells, "\n")+"\n")
		}
	}
	return found
}

func load(t *testing.T) *recording.Recording {
	t.Helper()
	r, err := Recording()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestTheRecordingIsWhatTheCaptureShows(t *testing.T) {
	r := load(t)
	if r.Cut != nil || r.Provenance.Source == "" || r.Provenance.Licence == "" {
		t.Errorf("cut %v, provenance %v", r.Cut, r.Provenance)
	}
	want := map[uint8]int64{schema.SamplesID: 12, schema.HealthID: 2, schema.GPUInventoryID: 1, schema.NodeInventoryID: 1}
	for _, table := range schema.Tables() {
		if got := r.Rows(table.ID); got != want[table.ID] {
			t.Errorf("%d rows of %s, want %d", got, table.Name, want[table.ID])
		}
	}
	if got := r.Last.Sub(r.First); got != 19657*time.Millisecond {
		t.Errorf("rows over %s, want from the idle snapshot to five seconds after the loaded one", got)
	}
}

const (
	idleSample = `ts=2026-07-14T08:12:38.696Z
gpu_id=28910583764176103
counter_epoch=1
quality=0
gpu_utilization_permille=0
memory_busy_permille=0
memory_used_bytes=0
gpu_temperature_celsius=41
memory_temperature_celsius=48
temperature_margin_celsius=46
sm_clock_megahertz=345
memory_clock_megahertz=2619
clocks_event_reasons=1
power_instant_watts=70
power_average_watts=70
`
	idleSecond = `ts=2026-07-14T08:12:39.696Z
gpu_id=28910583764176103
interval_milliseconds=1000
counter_epoch=1
quality=0
gpu_utilization_permille=0
memory_busy_permille=0
gpu_temperature_celsius=41
memory_temperature_celsius=47
sm_clock_megahertz=345
memory_clock_megahertz=2619
power_average_watts=69
`
	loadSample = `ts=2026-07-14T08:12:53.353Z
gpu_id=28910583764176103
interval_milliseconds=9657
counter_epoch=1
quality=0
gpu_utilization_permille=1000
memory_busy_permille=110
memory_used_bytes=20780679168
gpu_temperature_celsius=59
memory_temperature_celsius=54
temperature_margin_celsius=26
sm_clock_megahertz=1980
memory_clock_megahertz=2619
clocks_event_reasons=0
power_instant_watts=626
power_average_watts=632
throttle_power_microseconds_delta=0
throttle_sync_boost_microseconds_delta=0
throttle_software_thermal_microseconds_delta=0
throttle_hardware_thermal_microseconds_delta=0
throttle_power_brake_microseconds_delta=0
`
	lastSecond = `ts=2026-07-14T08:12:58.353Z
gpu_id=28910583764176103
interval_milliseconds=1000
counter_epoch=1
quality=0
gpu_utilization_permille=1000
memory_busy_permille=90
gpu_temperature_celsius=65
memory_temperature_celsius=59
sm_clock_megahertz=1980
memory_clock_megahertz=2619
power_average_watts=636
`
	gpuRow = `ts=2026-07-14T08:12:38.696Z
gpu_id=28910583764176103
content_hash=HASH
gpu_uuid=GPU-00000000-0000-0000-0000-000000000000
gpu_index=0
gpu_minor=0
module_id=7
model=NVIDIA H100 80GB HBM3
architecture=Hopper
compute_capability=9.0
serial_number=0000000000000
board_part_number=692-2G520-0200-000
pci_bus_id=0000:00:09.0
vbios_version=96.00.A5.00.01
inforom_version=G520.0200.00.05
gsp_firmware_version=590.48.01
memory_total_bytes=85520809984
memory_reserved_bytes=502267904
power_limit_milliwatts=700000
power_limit_default_milliwatts=700000
power_limit_min_milliwatts=200000
power_limit_max_milliwatts=700000
sm_clock_max_megahertz=1980
memory_clock_max_megahertz=2619
slowdown_celsius=-2
shutdown_celsius=-8
gpu_max_celsius=0
memory_max_celsius=0
ecc_enabled=1
mig_enabled=0
persistence_enabled=1
nvlink_count=18
pcie_max_generation=5
pcie_max_width=16
fabric_clique_id=0
`
	nodeRow = `ts=2026-07-14T08:12:38.696Z
content_hash=HASH
node_name=h100-80gb-hbm3
reading_source=recording
operating_system=Ubuntu 22.04.5 LTS
kernel_version=5.15.0-185-generic
driver_version=590.48.01
nvml_version=590.48
cuda_version=13.1
gpu_count=1
`
)

func TestRowsHoldTheFiguresAndNothingElse(t *testing.T) {
	r := load(t)
	samples := rows(t, r, schema.SamplesID)
	tests := []struct{ name, got, want string }{
		{"idle snapshot", samples[0], idleSample},
		{"first idle second", samples[1], idleSecond},
		{"loaded snapshot", samples[6], loadSample},
		{"last loaded second", samples[11], lastSecond},
		{"GPU", withoutHash(rows(t, r, schema.GPUInventoryID)[0]), gpuRow},
		{"node", withoutHash(rows(t, r, schema.NodeInventoryID)[0]), nodeRow},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, tt.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func withoutHash(row string) string {
	var lines []string
	for line := range strings.Lines(row) {
		if name, value, _ := strings.Cut(line, "="); name == "content_hash" && value != "0\n" {
			line = "content_hash=HASH\n"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "")
}

// TestHealthHoldsTotalsAndIncrements looks at what is computed: every increment between the snapshots is
// 0, and the first row has none.
func TestHealthHoldsTotalsAndIncrements(t *testing.T) {
	both := rows(t, load(t), schema.HealthID)
	for _, want := range []string{
		"pcie_replays_total=9\n", "bar1_used_bytes=1048576\n", "nvlink_active_links=18\n", "nvlink_speed_megabytes_per_second=26562\n", "fabric_state=3\n",
		"graphics_clock_megahertz=345\n", "video_clock_megahertz=765\n", "power_limit_watts=700\n", "power_limit_enforced_watts=700\n", "edpp_multiplier_permille=1000\n",
		"row_remap_banks_max=2560\n", "row_remap_banks_none=0\n",
	} {
		if !strings.Contains(both[0], want) {
			t.Errorf("idle row lacks %q:\n%s", want, both[0])
		}
	}
	for _, want := range []string{"interval_milliseconds=14657\n", "pcie_replays_total=9\n", "pcie_replays_delta=0\n", "bar1_used_bytes=20781727744\n", "performance_state=0\n", "graphics_clock_megahertz=1980\n", "video_clock_megahertz=1545\n"} {
		if !strings.Contains(both[1], want) {
			t.Errorf("loaded row lacks %q:\n%s", want, both[1])
		}
	}
	if strings.Contains(both[0], "_delta=") || strings.Contains(both[0], "interval_milliseconds") {
		t.Errorf("the first row has increments:\n%s", both[0])
	}
	if strings.Contains(both[1], "nvlink_") {
		t.Errorf("NVLink was asked once, before the load:\n%s", both[1])
	}
	totals, deltas := strings.Count(both[1], "_total="), strings.Count(both[1], "_errors_delta=0")
	if totals != 28 || deltas != 19 {
		t.Errorf("%d totals and %d increments of error counters, want 28 and 19:\n%s", totals, deltas, both[1])
	}
}

func TestEveryFactIsThereOnce(t *testing.T) {
	seen := map[string]bool{}
	for table, facts := range map[string][]fact{"metrics": slices.Concat(metricFacts, linkFacts), "gpu": gpuFacts, "node": nodeFacts} {
		for _, f := range facts {
			if key := table + " " + f.column; seen[key] {
				t.Errorf("%s is there twice", key)
			} else {
				seen[key] = true
			}
		}
	}
	for _, f := range metricFacts {
		if _, err := f.metric(); err != nil {
			t.Error(err)
		}
	}
}

func TestFiguresThatDoNotFitAreErrors(t *testing.T) {
	for name, read := range map[string]reader{
		"69.85": watts, "x W": watts, "": text, "N/A": plain, "P1": oneOf("P0"), "0xZ": bits, "linux": inParentheses, "0001:00:09.0": busID,
	} {
		if cell, err := read(name); err == nil {
			t.Errorf("%q is read as %+v", name, cell)
		}
	}
	b, err := batch.New(batch.Config{MaxRows: 10}, &queue{})
	if err != nil {
		t.Fatal(err)
	}
	if err := (row{"mood": integer(1)}).write(b, schema.SamplesID); err == nil || !strings.Contains(err.Error(), "no column mood") {
		t.Errorf("unknown column: %v", err)
	}
	if err := (row{}).write(b, schema.SamplesID); err == nil || !strings.Contains(err.Error(), "has no ts") {
		t.Errorf("empty row: %v", err)
	}
	if err := (fact{column: "mood"}).sample(row{}, true); err == nil || !strings.Contains(err.Error(), "no metric mood") {
		t.Errorf("unknown metric: %v", err)
	}
}

// TestTimesAreRead guards at, which gives the zero time for what it cannot read.
func TestTimesAreRead(t *testing.T) {
	if at(idleAt).IsZero() || at(loadAt).Sub(at(idleAt)) != 14657*time.Millisecond || !at("never").IsZero() {
		t.Errorf("%v, %v, %v", at(idleAt), at(loadAt), at("never"))
	}
}
