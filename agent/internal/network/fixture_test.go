// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/agent/internal/event"
	"github.com/gpufleet/gpufleet/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sysfs is a tree in a folder of the test, with links as the kernel lays them.
type sysfs struct {
	t    testing.TB
	root string
}

func newSysfs(t testing.TB) sysfs {
	t.Helper()
	s := sysfs{t: t, root: t.TempDir()}
	s.folder(devicesFolder)
	s.folder(netFolder)
	return s
}

func (s sysfs) path(name string) string { return filepath.Join(s.root, filepath.FromSlash(name)) }

func (s sysfs) folder(name string) {
	s.t.Helper()
	if err := os.MkdirAll(s.path(name), 0o755); err != nil {
		s.t.Fatal(err)
	}
}

// write writes files.
func (s sysfs) write(files map[string]string) {
	s.t.Helper()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		s.folder(filepath.ToSlash(filepath.Dir(name)))
		if err := os.WriteFile(s.path(name), []byte(files[name]+"\n"), 0o644); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s sysfs) link(name, to string) {
	s.t.Helper()
	s.folder(filepath.ToSlash(filepath.Dir(name)))
	if err := os.Symlink(to, s.path(name)); err != nil {
		s.t.Fatal(err)
	}
}

func (s sysfs) remove(name string) {
	s.t.Helper()
	if err := os.RemoveAll(s.path(name)); err != nil {
		s.t.Fatal(err)
	}
}

// place is where a PCI function lies.
func place(pci string) string { return "devices/pci0000:00/" + pci }

// add makes a device on PCI. Its files are named as below its own folder.
func (s sysfs) add(name, pci, driver, numa string, files map[string]string) {
	s.t.Helper()
	function := place(pci)
	folder := function + "/infiniband/" + name
	s.write(map[string]string{function + "/numa_node": numa, folder + "/fw_ver": "28.41.1000", folder + "/board_id": "MT_0000000838"})
	if !s.has(function + "/driver") {
		s.link(function+"/driver", "../../../bus/pci/drivers/"+driver)
	}
	s.link(folder+"/device", "../../../"+pci)
	s.link(devicesFolder+"/"+name, "../../"+folder)
	s.set(name, files)
}

func (s sysfs) has(name string) bool {
	_, err := os.Lstat(s.path(name))
	return err == nil
}

// set writes files of a device.
func (s sysfs) set(name string, files map[string]string) {
	s.t.Helper()
	below := map[string]string{}
	for file, text := range files {
		below[devicesFolder+"/"+name+"/"+file] = text
	}
	s.write(below)
}

// addNet makes a network device of a PCI function; "" for one above several.
func (s sysfs) addNet(name, pci string, files map[string]string) {
	s.t.Helper()
	folder := "devices/virtual/net/" + name
	if pci != "" {
		folder = place(pci) + "/net/" + name
	}
	s.folder(folder)
	s.link(netFolder+"/"+name, "../../"+folder)
	below := map[string]string{}
	for file, text := range files {
		below[folder+"/"+file] = text
	}
	s.write(below)
}

// vanish takes a device away, as when its driver is unbound.
func (s sysfs) vanish(name, pci string) {
	s.t.Helper()
	s.remove(devicesFolder + "/" + name)
	s.remove(place(pci) + "/infiniband/" + name)
}

const (
	active   = "4: ACTIVE"
	linkUp   = "5: LinkUp"
	stopped  = "1: DOWN"
	polling  = "2: Polling"
	ndr      = "400 Gb/sec (4X NDR)"
	pciFirst = "0000:18:00.0"
)

// ndrPort is the state of an InfiniBand port in good order.
func ndrPort() map[string]string {
	return map[string]string{
		"ports/1/link_layer": "InfiniBand", "ports/1/state": active, "ports/1/phys_state": linkUp, "ports/1/rate": ndr,
	}
}

// rocePort is the state of an Ethernet port in good order.
func rocePort() map[string]string {
	p := ndrPort()
	p["ports/1/link_layer"] = "Ethernet"
	return p
}

// row is a row of network_ports, by column; NULLs are left out.
type row map[string]batch.Cell

// recorder keeps what a monitor writes.
type recorder struct {
	mu     sync.Mutex
	rows   []row
	events []event.Event
	err    error // of the next row
}

func (r *recorder) Append(table uint8, cells []batch.Cell) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return r.err
	}
	t, _ := schema.TableByID(table)
	kept := row{}
	for i, c := range t.WireColumns() {
		switch {
		case i >= len(cells) || !cells[i].OK && !c.Nullable:
			panic("no value for " + c.Name)
		case cells[i].OK:
			kept[c.Name] = cells[i]
		}
	}
	if len(cells) != len(t.WireColumns()) {
		panic("too many cells")
	}
	r.rows = append(r.rows, kept)
	return nil
}

func (r *recorder) Write(e event.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
	return nil
}

// of are the rows of a device.
func (r *recorder) of(device string) (found []row) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, row := range r.rows {
		if row["device"].Text == device {
			found = append(found, row)
		}
	}
	return found
}

// kinds are the events so far: device kind, in order.
func (r *recorder) kinds() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var kinds []string
	for _, e := range r.events {
		kinds = append(kinds, e.NetworkDevice+" "+e.Kind)
	}
	return strings.Join(kinds, ", ")
}

// messages are those of the events of a kind.
func (r *recorder) messages(kind string) (found []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.Kind == kind {
			found = append(found, e.Message)
		}
	}
	return found
}

// watch runs a test beside a monitor in a bubble of synctest, in which time is virtual.
func watch(t *testing.T, files fs.FS, change func(*Config), test func(*recorder)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		cfg := Config{
			Options: DefaultOptions(), Node: "node-1", Interval: time.Second, RowEvery: time.Minute,
			StuckAfter: 5 * time.Second, StopWait: 3 * time.Second, Rows: r, Events: r, Logger: slog.New(slog.DiscardHandler),
		}
		cfg.Sysfs = files
		if change != nil {
			change(&cfg)
		}
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { done <- New(cfg).Run(ctx) }()
		pass(500 * time.Millisecond) // between two ticks
		test(r)
		cancel()
		if err := <-done; (err != nil) != (r.err != nil) {
			t.Error(err)
		}
		pass(10 * time.Second) // what was left behind ends
	})
}

// pass lets virtual time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
