// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/schema"
)

// fakeDriver is a driver whose every answer a test scripts.
type fakeDriver struct {
	mu      sync.Mutex
	devices []*fakeDevice
	events  chan gpu.Event
	closed  chan struct{}
	listed  int // calls of Devices
	version string
	listing gpu.Return // of Devices
}

// bindingDriver is a fakeDriver that tells of GPUs that are bound and unbound.
type bindingDriver struct {
	*fakeDriver

	changes chan gpu.Binding
}

func newBindingDriver(gpus int) bindingDriver {
	return bindingDriver{newFakeDriver(gpus), make(chan gpu.Binding, 4)}
}

func (d bindingDriver) NextBinding(timeout time.Duration) (gpu.Binding, gpu.Return) {
	select {
	case b := <-d.changes:
		return b, gpu.Success
	case <-d.closed:
		return gpu.Binding{}, gpu.Uninitialized
	case <-time.After(timeout):
		return gpu.Binding{}, gpu.Timeout
	}
}

func newFakeDriver(gpus int) *fakeDriver {
	d := &fakeDriver{version: "580.95.05", events: make(chan gpu.Event, 16), closed: make(chan struct{})}
	for i := range gpus {
		d.devices = append(d.devices, newFakeDevice(d, fmt.Sprintf("GPU-%d", i)))
	}
	return d
}

func (d *fakeDriver) System() (gpu.System, gpu.Return) {
	return gpu.System{DriverVersion: d.version}, gpu.Success
}

func (d *fakeDriver) Devices() ([]gpu.Device, gpu.Return) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.listed++
	if !d.listing.OK() {
		return nil, d.listing
	}
	var list []gpu.Device
	for _, device := range d.devices {
		if !device.isLost() {
			list = append(list, device)
		}
	}
	return list, gpu.Success
}

func (d *fakeDriver) NextEvent(timeout time.Duration) (gpu.Event, gpu.Return) {
	select {
	case e := <-d.events:
		return e, gpu.Success
	case <-d.closed:
		return gpu.Event{}, gpu.NotSupported
	case <-time.After(timeout):
		return gpu.Event{}, gpu.Timeout
	}
}

func (d *fakeDriver) Close() gpu.Return {
	close(d.closed)
	return gpu.Success
}

// fakeDevice answers fields from a map, by field id and scope; what is not in it is not supported.
type fakeDevice struct {
	driver *fakeDriver
	uuid   string

	mu      sync.Mutex
	fields  map[[2]uint32]int64
	getters map[gpu.Getter][]int64
	lost    bool
	answer  gpu.Return    // of every call, with the GPU still listed
	limit   int64         // power limit, mW
	fails   int           // calls of Fields that fail from now on
	block   chan struct{} // calls wait until it is closed, or the driver is
	profile func([]gpu.ProfileValue) gpu.Return
	delay   time.Duration  // that each call takes
	asked   map[uint32]int // fields asked for, by id
}

func newFakeDevice(d *fakeDriver, uuid string) *fakeDevice {
	device := &fakeDevice{
		driver: d, uuid: uuid, fields: map[[2]uint32]int64{}, getters: map[gpu.Getter][]int64{}, asked: map[uint32]int{},
	}
	device.set("DEV_MEMORY_TEMP", 0, 40) // something to ask for at every tick
	return device
}

func (d *fakeDevice) set(field string, scope uint32, value int64) {
	id, ok := gpu.FieldID(field, gpu.OlderNumbering)
	if !ok {
		panic("no such field: " + field)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fields[[2]uint32{id, scope}] = value
}

func (d *fakeDevice) lose(lost bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lost = lost
}

func (d *fakeDevice) isLost() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lost
}

func (d *fakeDevice) hang() (release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.block = make(chan struct{})
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		close(d.block)
		d.block = nil
	}
}

// enter is the start of every call: it may hang, or find the GPU lost.
func (d *fakeDevice) enter() gpu.Return {
	d.mu.Lock()
	block, delay := d.block, d.delay
	d.mu.Unlock()
	if delay > 0 {
		wait(delay)
	}
	if block != nil {
		select {
		case <-block:
		case <-d.driver.closed:
			return gpu.Uninitialized
		}
	}
	if d.isLost() {
		return gpu.GPUIsLost
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.answer
}

// change alters the device under its lock.
func (d *fakeDevice) change(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

func (d *fakeDevice) UUID() string { return d.uuid }

func (d *fakeDevice) Identity() (gpu.Identity, gpu.Return) {
	ret := d.enter()
	d.mu.Lock()
	defer d.mu.Unlock()
	limit := d.limit
	return gpu.Identity{UUID: d.uuid, Model: "Test GPU", PowerLimitMilliwatts: &limit}, ret
}

func (d *fakeDevice) Fields(values []gpu.FieldValue) gpu.Return {
	if ret := d.enter(); !ret.OK() {
		return ret
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fails > 0 {
		d.fails--
		return gpu.Unknown
	}
	for i := range values {
		v := &values[i]
		d.asked[v.FieldID]++
		value, ok := d.fields[[2]uint32{v.FieldID, v.ScopeID}]
		if v.FieldID > 273 { // the last one of the older header
			v.Return = gpu.InvalidArgument
			continue
		}
		if !ok {
			v.Return = gpu.NotSupported
			continue
		}
		if v.FieldID == 197 || v.FieldID == 198 { // PCIe bytes
			v.SetUint32(uint32(value))
			continue
		}
		v.SetUint64(uint64(value))
	}
	return gpu.Success
}

func (d *fakeDevice) Get(g gpu.Getter, parts *gpu.Parts) gpu.Return {
	if ret := d.enter(); !ret.OK() {
		return ret
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	values, ok := d.getters[g]
	if !ok {
		return gpu.NotSupported
	}
	copy(parts[:], values)
	return gpu.Success
}

func (d *fakeDevice) Profile(values []gpu.ProfileValue) (time.Duration, gpu.Return) {
	if ret := d.enter(); !ret.OK() {
		return 0, ret
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.profile == nil {
		return 0, gpu.NotSupported
	}
	return time.Second, d.profile(values)
}

// row is a row that the sampler wrote, by column name; NULLs are left out.
type row map[string]batch.Cell

// recorder keeps rows by table.
type recorder struct {
	mu   sync.Mutex
	rows map[uint8][]row
	due  int // calls of FlushDue
}

func newRecorder() *recorder { return &recorder{rows: make(map[uint8][]row)} }

func (r *recorder) Append(table uint8, cells []batch.Cell) error {
	t, _ := schema.TableByID(table)
	columns := t.WireColumns()
	if len(columns) != len(cells) {
		return fmt.Errorf("%d cells for %d columns of %s", len(cells), len(columns), t.Name)
	}
	kept := row{}
	for i, c := range cells {
		if c.OK {
			kept[columns[i].Name] = c
		} else if !columns[i].Nullable {
			return fmt.Errorf("column %s of %s is NULL", columns[i].Name, t.Name)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows[table] = append(r.rows[table], kept)
	return nil
}

func (r *recorder) FlushTable(uint8) error { return nil }

func (r *recorder) FlushDue(time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.due++
	return nil
}

func (r *recorder) of(table uint8) []row {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.rows[table])
}

// events lists the kinds of events in order.
func (r *recorder) events() (kinds []string) {
	for _, e := range r.of(schema.EventsID) {
		kinds = append(kinds, e["kind"].Text)
	}
	return kinds
}

// wait lets virtual time pass in a bubble of synctest.
func wait(d time.Duration) { <-time.After(d) }
