// SPDX-License-Identifier: Apache-2.0

package batchlog

import (
	"bytes"
	"io/fs"
)

// memory is a folder of files that are nowhere else.
type memory struct{ files map[string][]byte }

func (m *memory) list() (map[string]int64, error) {
	sizes := make(map[string]int64)
	for name, content := range m.files {
		sizes[name] = int64(len(content))
	}
	return sizes, nil
}

func (m *memory) create(name string) (file, error) {
	m.files[name] = nil
	return &memoryFile{m, name}, nil
}

func (m *memory) open(name string) (file, error) {
	if _, ok := m.files[name]; !ok {
		return nil, fs.ErrNotExist
	}
	return &memoryFile{m, name}, nil
}

func (m *memory) sync() error { return nil }

func (m *memory) rename(from, to string) error {
	m.files[to] = m.files[from]
	return m.remove(from)
}

func (m *memory) remove(name string) error {
	delete(m.files, name)
	return nil
}

type memoryFile struct {
	of   *memory
	name string
}

func (f *memoryFile) ReadAt(b []byte, at int64) (int, error) {
	return bytes.NewReader(f.of.files[f.name]).ReadAt(b, at)
}

func (f *memoryFile) Write(b []byte) (int, error) {
	f.of.files[f.name] = append(f.of.files[f.name], b...)
	return len(b), nil
}

func (f *memoryFile) Truncate(size int64) error {
	f.of.files[f.name] = f.of.files[f.name][:size:size]
	return nil
}

func (*memoryFile) Close() error { return nil }
func (*memoryFile) Sync() error  { return nil }
