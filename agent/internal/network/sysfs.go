// SPDX-License-Identifier: Apache-2.0

package network

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"syscall"
)

const (
	devicesFolder = "class/infiniband"
	netFolder     = "class/net"
)

// page is the most that a file of sysfs holds.
const page = 4096

// tree is sysfs, as one goroutine reads it.
type tree struct {
	fs.FS
	buffer []byte
}

func newTree(files fs.FS) tree { return tree{FS: files, buffer: make([]byte, page)} }

// text reads a file.
func (t tree) text(name string) (string, error) {
	f, err := t.Open(name)
	if err != nil {
		return "", fmt.Errorf("read port: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	n, err := f.Read(t.buffer)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read port: %w", err)
	}
	return string(t.buffer[:n]), nil
}

// gone tells that what was to be read is not there any more: removed before it was opened, or after.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV)
}

// name reads a file that holds one name; "" if it does not.
func (t tree) name(file string) string {
	text, err := t.text(file)
	text = strings.TrimSpace(text)
	if err != nil || !isName(text) {
		return ""
	}
	return text
}

// count reads a file that holds a counter.
func (t tree) count(file string) (uint64, error) {
	text, err := t.text(file)
	if err != nil {
		return 0, err
	}
	count, err := parseCount(text)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", file, err)
	}
	return count, nil
}

// target is the last part of where a link leads; "" if there is no such link.
func (t tree) target(link string) string {
	to, err := fs.ReadLink(t.FS, link)
	if err != nil || !isName(path.Base(to)) {
		return ""
	}
	return path.Base(to)
}

// list is what a folder holds, in order; nothing if it is not there. Names that cannot stand in a row
// are left out.
func (t tree) list(folder string) (names []string, err error) {
	entries, err := fs.ReadDir(t.FS, folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", folder, err)
	}
	for _, e := range entries {
		if isName(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// exists tells that there is such a file.
func (t tree) exists(file string) bool {
	_, err := fs.Stat(t.FS, file)
	return err == nil
}

// pciAddress is where a device sits, written as the kernel does and as gpu_inventory has it; "" for
// one that is not on PCI.
func (t tree) pciAddress(device string) string {
	address := t.target(path.Join(devicesFolder, device, "device"))
	domain, rest, found := strings.Cut(address, ":")
	if _, err := strconv.ParseUint(domain, 16, 32); !found || err != nil || strings.Count(rest, ":") != 1 {
		return ""
	}
	return address
}
