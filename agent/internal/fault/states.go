// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/statefile"
)

// states knows what lasts: a remapping that waits for a reset, the driver's wish for one. Each time that one begins is
// a fault of its own, and all the while that it lasts it is the same one, over restarts of the agent too: so it is kept
// in a file when each of them began. What an agent without a file finds at its start began at some time of this boot.
//
// The file is one JSON object, written whole a second after a change: by then the journal has the event on its way.
//
//	{"version":1,"boot_id":"7d517a1a-7fa8-45f6-8c4f-459eca952dea",
//	 "states":[{"gpu_id":"11495104353665842533","kind":"row_remap_pending","value":1,"since_milliseconds":1790000000000}]}
type states struct {
	boot    string
	kept    bool // an earlier life of this boot has said what it knew
	known   map[stateKey]lasting
	changed chan struct{}
}

type stateKey struct {
	gpu  int64 // gpu_id
	kind string
}

// lasting is a state; of value 0 there is nothing to tell.
type lasting struct{ value, since int64 }

const (
	statesVersion = 1
	maxStatesFile = 1 << 20
	maxStates     = 4096 // in the file
	saveAfter     = time.Second
)

type statesFile struct {
	Version int         `json:"version"`
	BootID  string      `json:"boot_id"`
	States  []stateLine `json:"states"`
}

type stateLine struct {
	GPU   uint64 `json:"gpu_id,string"`
	Kind  string `json:"kind"`
	Value int64  `json:"value"`
	Since int64  `json:"since_milliseconds"`
}

func newStates(boot string) *states {
	return &states{boot: boot, known: make(map[stateKey]lasting), changed: make(chan struct{}, 1)}
}

// take notes what a state is at a time, in milliseconds. It tells whether that is a fault to be written, and when it
// began; 0 if nobody has seen it begin.
func (s *states) take(key stateKey, value, at int64) (fault bool, began int64) {
	before, looked := s.known[key]
	if looked && before.value == value {
		return false, 0
	}
	s.known[key] = lasting{value, at}
	select {
	case s.changed <- struct{}{}:
	default: // it is known already
	}
	if looked || s.kept { // what is not in the file was well when it was written
		began = at
	}
	return value != 0, began
}

// load reads what an earlier life of this boot has kept.
func (s *states) load(path string) error {
	text, err := statefile.Read(path, maxStatesFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var f statesFile
	if err == nil {
		f, err = parseStates(text)
	}
	if err != nil {
		aside, failed := statefile.SetAside(path)
		return errors.Join(fmt.Errorf("read the states that last: the file is set aside as %s: %w", aside, err), failed)
	}
	if f.BootID != s.boot || s.boot == "" {
		return nil
	}
	s.kept = true
	for _, line := range f.States {
		s.known[stateKey{int64(line.GPU), line.Kind}] = lasting{line.Value, line.Since}
	}
	return nil
}

func parseStates(text []byte) (f statesFile, err error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&f); err != nil {
		return f, err
	}
	if f.Version != statesVersion || len(f.States) > maxStates {
		return f, fmt.Errorf("version %d with %d states", f.Version, len(f.States))
	}
	return f, nil
}

// file lays out what lasts.
func (s *states) file() statesFile {
	f := statesFile{Version: statesVersion, BootID: s.boot, States: []stateLine{}}
	for key, state := range s.known {
		if state.value != 0 {
			f.States = append(f.States, stateLine{GPU: uint64(key.gpu), Kind: key.kind, Value: state.value, Since: state.since})
		}
	}
	slices.SortFunc(f.States, func(a, b stateLine) int { return cmp.Or(cmp.Compare(a.GPU, b.GPU), strings.Compare(a.Kind, b.Kind)) })
	f.States = f.States[:min(len(f.States), maxStates)]
	return f
}

// Keep writes what lasts into the file until the context ends, and then once more. Without a file it returns at once.
func (w *Watch) Keep(ctx context.Context) error {
	if w.file == "" {
		return nil
	}
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-w.states.changed:
			pause(ctx, saveAfter)
			w.save()
		}
	}
	select {
	case <-w.states.changed:
		w.save()
	default:
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// save writes the file. Where that fails the next life tells what lasts as if it had begun unseen.
func (w *Watch) save() {
	w.mu.Lock()
	f := w.states.file()
	w.mu.Unlock()
	text, err := json.Marshal(f)
	if err == nil {
		err = statefile.Replace(w.file, append(text, '\n'))
	}
	if err != nil {
		w.logger.Warn("keep the states of GPUs that last", "file", w.file, "error", err)
	}
}
