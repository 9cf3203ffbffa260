// SPDX-License-Identifier: Apache-2.0

package network

import (
	"path"
	"strconv"
	"sync"

	"github.com/gpufleet/gpufleet/schema"
)

// allCounters is the schema's table, made once.
var allCounters = sync.OnceValue(schema.NetworkCounters)

// linkDowned is the place of link_downed in the table: a loss of the link that no look has seen.
var linkDowned = sync.OnceValue(func() int {
	for i, c := range allCounters() {
		if c.Name == "link_downed" {
			return i
		}
	}
	panic("network: the schema has no counter link_downed")
})

// ethernet is the link layer of RoCE.
const ethernet = "Ethernet"

// port is one port of a device. It belongs to whom the device belongs to.
type port struct {
	number    int64
	folder    string
	linkLayer string
	net       string                  // network device; "" if there is none
	sources   []*schema.NetworkSource // by counter; nil where the port has none
	now       look
	readings  []reading // by counter
	counters  []counter // by counter
	epoch     int64     // counter_epoch
	judgement
	written
}

// look is what one look at a port found.
type look struct {
	missing   bool  // the port is not there
	problem   error // the first file that could not be understood
	state     state
	physical  state
	operstate string
	rate      rate
	carrier   reading // times that the network device lost its carrier
	downed    reading // link_downed, read when the state has just changed
}

// reading is one count, as the file has it.
type reading struct {
	count uint64
	ok    bool
}

func newPort(device string, number int64) *port {
	n := len(allCounters())
	return &port{
		number: number, folder: path.Join(device, "ports", strconv.FormatInt(number, 10)),
		readings: make([]reading, n), counters: make([]counter, n), epoch: 1,
	}
}

// attach finds the port's network device and its counters. A count that comes from another file than
// before is another count.
func (p *port) attach(files tree, device string) {
	net, sources := p.net, p.sources
	p.linkLayer = files.name(path.Join(p.folder, "link_layer"))
	p.net = files.netDevice(device, p)
	p.sources = files.chosen(p)
	for i, source := range p.sources {
		if source == nil || sources == nil || source != sources[i] || source.NetDevice && p.net != net {
			p.counters[i] = counter{}
		}
	}
}

// file is where a source lies.
func (p *port) file(source *schema.NetworkSource) string {
	if source.NetDevice {
		return path.Join(netFolder, p.net, source.File)
	}
	return path.Join(p.folder, source.File)
}

// look reads what is cheap. One file that cannot be read or understood costs its own value alone.
func (p *port) look(files tree, full bool) {
	before := p.now
	p.now = look{}
	p.readCarrier(files) // first: a loss is in the counter no later than in the state
	text, err := files.text(path.Join(p.folder, "state"))
	if gone(err) && !files.exists(p.folder) {
		p.now = look{missing: true}
		return
	}
	p.now.state = p.understood(parseState, text, err)
	text, err = files.text(path.Join(p.folder, "phys_state"))
	p.now.physical = p.understood(parseState, text, err)
	changed := before.state != p.now.state
	if changed && p.sources != nil && p.sources[linkDowned()] != nil {
		p.now.downed = read(files, p.file(p.sources[linkDowned()]))
	}
	if !p.now.up() {
		return // a port that is down tells a rate that means nothing
	}
	p.now.rate = before.rate
	if changed || full || p.now.rate.gigabits == 0 {
		p.now.rate = p.readRate(files)
	}
}

// up tells that packets can pass.
func (l *look) up() bool { return l.state.code == stateActive || l.state.code == stateActiveDefer }

// States of a port, as the InfiniBand architecture numbers them.
const (
	stateActive      = 4
	stateActiveDefer = 5
)

// understood parses a text that was read, and remembers the first that cannot be.
func (p *port) understood(parse func(string) (state, error), text string, err error) state {
	var s state
	if err == nil {
		s, err = parse(text)
	}
	if err != nil && p.now.problem == nil {
		p.now.problem = err
	}
	return s
}

// readRate asks the port, else its network device.
func (p *port) readRate(files tree) rate {
	text, err := files.text(path.Join(p.folder, "rate"))
	if err == nil {
		var r rate
		if r, err = parseRate(text); err == nil {
			return r
		}
	}
	if p.now.problem == nil {
		p.now.problem = err
	}
	if p.net == "" {
		return rate{}
	}
	text, err = files.text(path.Join(netFolder, p.net, "speed"))
	if err != nil {
		return rate{}
	}
	speed, err := parseSpeed(text)
	if err != nil {
		return rate{}
	}
	return speed
}

// readCarrier reads what the network device tells of the link. Of IPoIB it tells of the subnet manager
// too, so that only the state of RoCE is judged by it.
func (p *port) readCarrier(files tree) {
	if p.net == "" {
		return
	}
	folder := path.Join(netFolder, p.net)
	p.now.operstate = files.name(path.Join(folder, "operstate"))
	if p.linkLayer != ethernet {
		return
	}
	if p.now.carrier = read(files, path.Join(folder, "carrier_down_count")); p.now.carrier.ok {
		return
	}
	// Before Linux 4.16 there is only the sum of losses and returns.
	p.now.carrier = read(files, path.Join(folder, "carrier_changes"))
	p.now.carrier.count /= 2
}

func read(files tree, file string) reading {
	count, err := files.count(file)
	return reading{count: count, ok: err == nil}
}

// count reads the counters.
func (p *port) count(files tree) {
	clear(p.readings)
	if p.now.missing {
		return
	}
	for i, source := range p.sources {
		if source != nil {
			p.readings[i] = read(files, p.file(source))
		}
	}
}
