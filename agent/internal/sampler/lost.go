// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/internal/statefile"
)

// lostFile keeps over restarts which GPUs are lost and since when they are missing, so that the day after which one is
// removed goes on, and its inventory is ended then as it was written. It is one JSON object, written whole by a goroutine
// of its own after each change, and each hour in which a GPU that is lost is listed:
//
//	{"version":1,"node":"node-1","gpus":[{"missing_since_milliseconds":1790000000000,"identity":{"UUID":"GPU-…",…}}]}
//
// MIG instances whose inventory is not ended are among them, with the time of their GPU.
type lostFile struct {
	Version int       `json:"version"`
	Node    string    `json:"node"`
	GPUs    []lostGPU `json:"gpus"`
}

type lostGPU struct {
	Since    int64        `json:"missing_since_milliseconds"`
	Identity gpu.Identity `json:"identity"`
}

const (
	lostVersion  = 1
	maxLostFile  = 1 << 20
	maxLostGPUs  = 512       // with instances
	lostInterval = time.Hour // between two writings if nothing changes
	lostQueue    = 1         // the newest content counts
)

// keeper writes the file.
type keeper struct {
	contents chan lostFile
	done     chan struct{}
}

// keepLost begins to keep what is lost until stop is called, which waits for the last writing.
func (s *Sampler) keepLost() (stop func()) {
	if s.cfg.LostFile == "" {
		return func() {}
	}
	k := &keeper{contents: make(chan lostFile, lostQueue), done: make(chan struct{})}
	s.keeper = k
	go func() {
		defer close(k.done)
		for f := range k.contents {
			text, err := json.Marshal(f)
			if err == nil {
				err = statefile.Replace(s.cfg.LostFile, append(text, '\n'))
			}
			if err != nil {
				s.cfg.Logger.Warn("keep which GPUs are lost", "file", s.cfg.LostFile, "error", err)
			}
		}
	}()
	return func() {
		s.keeper = nil
		close(k.contents)
		<-k.done
	}
}

// lostChanged has the file written. It belongs to Run's goroutine, and does not wait for the disk.
func (s *Sampler) lostChanged() {
	if s.keeper == nil {
		return
	}
	select {
	case <-s.keeper.contents: // that was to be written
	default:
	}
	s.keeper.contents <- s.lostNow()
}

func (s *Sampler) lostNow() lostFile {
	f := lostFile{Version: lostVersion, Node: s.cfg.Node.Name, GPUs: []lostGPU{}}
	for _, uuid := range slices.Sorted(maps.Keys(s.known)) {
		h := s.known[uuid]
		if h.identity == nil {
			continue
		}
		whole := h
		if parent := s.known[h.identity.ParentUUID]; parent != nil {
			whole = parent
		}
		if whole.lost && len(f.GPUs) < maxLostGPUs {
			f.GPUs = append(f.GPUs, lostGPU{whole.missingSince().UnixMilli(), *h.identity})
		}
	}
	return f
}

// missingSince is when a lost GPU was lost, or listed all the same.
func (h *history) missingSince() time.Time {
	if h.listedAt.After(h.lostAt) {
		return h.listedAt
	}
	return h.lostAt
}

// loadLost takes up what an earlier life has kept. Without it, GPUs that were lost then are not missed.
func (s *Sampler) loadLost(now time.Time) {
	if s.cfg.LostFile == "" {
		return
	}
	f, err := readLost(s.cfg.LostFile)
	if err != nil {
		s.cfg.Logger.Warn("GPUs that were lost are not missed", "error", err)
		return
	}
	if f.Node != s.cfg.Node.Name {
		return
	}
	for i := range f.GPUs {
		since := time.UnixMilli(f.GPUs[i].Since)
		if since.After(now) {
			since = now // the clock was set back
		}
		identity := &f.GPUs[i].Identity
		h := s.history(identity.UUID)
		h.identity, h.found = identity, true
		if identity.ParentUUID == "" {
			h.lost, h.lostAt = true, since
		}
	}
}

// readLost reads the file; one that makes no sense is set aside.
func readLost(path string) (f lostFile, err error) {
	text, err := statefile.Read(path, maxLostFile)
	if errors.Is(err, fs.ErrNotExist) {
		return lostFile{}, nil
	}
	if err == nil {
		f, err = parseLost(text)
	}
	if err != nil {
		aside, failed := statefile.SetAside(path)
		return lostFile{}, errors.Join(fmt.Errorf("read which GPUs are lost: the file is set aside as %s: %w", aside, err), failed)
	}
	return f, nil
}

func parseLost(text []byte) (f lostFile, err error) {
	if err := json.Unmarshal(text, &f); err != nil {
		return lostFile{}, err
	}
	if f.Version != lostVersion || len(f.GPUs) > maxLostGPUs {
		return lostFile{}, fmt.Errorf("version %d with %d GPUs", f.Version, len(f.GPUs))
	}
	if slices.ContainsFunc(f.GPUs, func(g lostGPU) bool { return g.Identity.UUID == "" }) {
		return lostFile{}, errors.New("a GPU without a UUID")
	}
	return f, nil
}
