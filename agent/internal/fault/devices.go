// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"cmp"
	"sync"

	"github.com/gpufleet/gpufleet/schema/xid"
)

// Devices knows the node's GPUs: what the kernel calls by a PCI address, the driver calls by a UUID. It may be
// used by several goroutines.
type Devices struct {
	mu        sync.Mutex        // guards the fields below
	addresses map[string]string // UUID by PCI address
	uuids     map[string]string // PCI address by UUID; MIG instances have their GPU's
	ids       map[int64]string  // UUID by gpu_id
	branch    int
}

// NewDevices knows nothing yet.
func NewDevices() *Devices {
	return &Devices{addresses: make(map[string]string), uuids: make(map[string]string), ids: make(map[int64]string)}
}

// Learn notes a GPU or MIG instance. What was known of it before is replaced.
func (d *Devices) Learn(id int64, uuid, address string, instance bool) {
	address = normal(address)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ids[id] = uuid
	if address == "" {
		return
	}
	d.uuids[uuid] = address
	if !instance {
		d.addresses[address] = uuid
	}
}

// SetBranch notes the driver's branch.
func (d *Devices) SetBranch(branch int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.branch = branch
}

// Branch is the driver's branch; 0 if it is not known.
func (d *Devices) Branch() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.branch
}

func (d *Devices) byAddress(address string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.addresses[normal(address)]
}

func (d *Devices) addressOf(uuid string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.uuids[uuid]
}

func (d *Devices) byID(id int64) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ids[id]
}

// normal brings a PCI address into one form, if it is one: NVML writes 00000000:3B:00.0, the kernel 0000:3b:00.
func normal(address string) string { return cmp.Or(xid.NormalBusID(address), address) }
