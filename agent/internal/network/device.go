// SPDX-License-Identifier: Apache-2.0

package network

import (
	"path"
	"slices"
	"strconv"
	"time"

	"github.com/gpufleet/gpufleet/schema"
)

// request is what a device's goroutine is to do next.
type request struct {
	attach bool // find out first what the device is
	full   bool // also read what is read each minute
}

// device is one RDMA device. Its goroutine owns it between a request and the result; Run's goroutine
// otherwise: a read of sysfs asks the hardware, and may hang with it.
type device struct {
	files  tree
	name   string
	folder string
	facts  facts
	ports  []*port

	// The result of the latest request.
	request   request
	readAt    time.Time
	countedAt time.Time // the counters, all of them within countWithin

	// Of Run's goroutine.
	requests    chan request
	since       time.Time // of the request
	busy, stuck bool
	attached    bool
	pci         string    // where it was seen first
	retired     bool      // it goes by another name now, or is removed
	vanishedAt  time.Time // zero while it is there
}

// facts are what seldom changes of a device.
type facts struct {
	driver, pci, firmware, board string
	numa                         *int64
}

// vanished tells that nothing of the device is left. It has to have had something.
func (d *device) vanished() bool {
	return len(d.ports) > 0 && !slices.ContainsFunc(d.ports, func(p *port) bool { return !p.now.missing })
}

// mostPorts bounds what a device may claim to have.
const mostPorts = 64

// run answers requests until there are no more, or nobody takes the results.
func (d *device) run(results chan<- *device, stop <-chan struct{}) {
	for r := range d.requests {
		d.serve(r)
		select {
		case results <- d:
		case <-stop:
			return
		}
	}
}

func (d *device) serve(r request) {
	d.request = r
	if r.attach {
		d.attach()
	}
	back := false
	for _, p := range d.ports {
		was := p.now.missing
		p.look(d.files, r.full)
		back = back || was && !p.now.missing
		// Network devices come later than the device, and get other names.
		if r.full && !r.attach && p.net != d.files.netDevice(d.folder, p) {
			p.attach(d.files, d.folder)
		}
	}
	if back { // perhaps another card
		d.request.full = true
		d.attach()
	}
	d.readAt = time.Now()
	if d.request.full {
		d.count()
	}
}

// countWithin is how long a pass over the counters may take: longer, and its readings are of different moments, and
// increments between them of different times. Such a pass counts as none.
const countWithin = time.Second

// count reads the counters of all ports.
func (d *device) count() {
	for _, p := range d.ports {
		p.count(d.files)
	}
	if d.countedAt = time.Now(); d.countedAt.Sub(d.readAt) <= countWithin {
		return
	}
	for _, p := range d.ports {
		clear(p.readings)
	}
}

// attach finds out what the device is, and which ports it has. What was held of a port stays.
func (d *device) attach() {
	d.facts = facts{
		driver: d.files.target(path.Join(d.folder, "device/driver")), pci: d.files.pciAddress(d.name),
		firmware: d.files.name(path.Join(d.folder, "fw_ver")), board: d.files.name(path.Join(d.folder, "board_id")),
	}
	// A machine without NUMA says -1.
	if node, err := d.files.count(path.Join(d.folder, "device/numa_node")); err == nil {
		d.facts.numa = new(int64(node))
	}
	names, _ := d.files.list(path.Join(d.folder, "ports")) // a device that cannot be listed shows no ports
	for _, name := range names {
		number, err := strconv.ParseUint(name, 10, 16)
		if err == nil && len(d.ports) < mostPorts && !slices.ContainsFunc(d.ports, func(p *port) bool { return p.number == int64(number) }) {
			d.ports = append(d.ports, newPort(d.folder, int64(number)))
		}
	}
	for _, p := range d.ports {
		p.attach(d.files, d.folder)
	}
}

// netDevice is the network device of a port: the one that its addresses belong to (RoCE), else the
// only one of the PCI function, else the one of that port (mlx4); "" if there is none.
func (t tree) netDevice(device string, p *port) string {
	if name := t.name(path.Join(p.folder, "gid_attrs/ndevs/0")); name != "" && t.exists(path.Join(netFolder, name)) {
		return name
	}
	names, err := t.list(path.Join(device, "device/net"))
	if err != nil || len(names) == 0 {
		return ""
	}
	if len(names) == 1 {
		return names[0]
	}
	for _, name := range names {
		if index, err := t.count(path.Join(netFolder, name, "dev_port")); err == nil && int64(index) == p.number-1 {
			return name
		}
	}
	return ""
}

// chosen finds the file of each counter that a port has; nil where it has none.
func (t tree) chosen(p *port) []*schema.NetworkSource {
	sources := make([]*schema.NetworkSource, len(allCounters()))
	for i, c := range allCounters() {
		for j := range c.Sources {
			if _, err := t.count(p.file(&c.Sources[j])); err == nil {
				sources[i] = &c.Sources[j]
				break
			}
		}
	}
	return sources
}
