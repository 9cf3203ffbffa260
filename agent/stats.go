// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"time"
)

// Stats is what an agent has done so far. It may be asked for while the agent runs.
type Stats struct {
	Ticks, MissedTicks, LateTicks uint64
	Rows                          uint64 // of gpu_samples
	SkippedRows                   uint64 // that a busy GPU did not give
	GPUs                          int64  // that answer
	DriverMissing                 string // why the driver does not; empty if it does
	DriverCalls                   uint64
	ReadTime                      time.Duration // spent in the driver, all GPUs together
	GPUsReduced                   int64         // of which less is read, to spare the workload
	SamplingCut                   int64         // what is left out of the one of which the least is read: see sampling_reduced; 0: nothing

	Bursts, BurstsRefused         uint64 // orders for a GPU to be read at 10 Hz
	BurstReads, BurstReadsSkipped uint64
	TracedSamples                 uint64 // that were sent for a fault, and not for anything else

	Inference InferenceStats // of servers that count tokens

	BatchesQueued                                                                 uint64 // that were made
	BatchesRecovered                                                              uint64 // that earlier lives of the agent left in the spool
	BatchesStored, BatchesRejected, BatchesDropped, BatchesDamaged, BatchesResent uint64
	BatchesWaiting, BytesWaiting                                                  int64
	OldestWaiting                                                                 time.Duration

	SpoolBytes    int64 // of the files
	SpoolSetAside int64 // files that are kept because of damage
	SpoolSyncs    uint64
	SpoolSyncTime time.Duration
	SpoolFailing  bool // batches are kept in memory alone

	CollectorAway string // what was wrong when it was last tried; empty if it answers
}

// Stats tells what the agent has done so far.
func (a *Agent) Stats() Stats {
	s, q := a.source.Stats(), a.spool.Stats()
	missing := ""
	if why := s.Missing.Load(); why != nil {
		missing = *why
	}
	return Stats{
		DriverMissing: missing, CollectorAway: a.sender.Away(),
		Ticks: s.Ticks.Load(), MissedTicks: s.MissedTicks.Load(), LateTicks: s.LateTicks.Load(),
		Rows: s.Rows.Load(), SkippedRows: s.SkippedRows.Load(), GPUs: s.GPUs.Load(),
		DriverCalls: s.DriverCalls.Load(), ReadTime: time.Duration(s.ReadNanos.Load()), GPUsReduced: s.Reduced.GPUs(), SamplingCut: s.Reduced.Cut(),
		Bursts: s.Bursts.Load(), BurstsRefused: s.BurstsRefused.Load(), BurstReads: s.BurstReads.Load(), BurstReadsSkipped: s.BurstReadsSkipped.Load(),
		TracedSamples: a.recorder.Sent(), Inference: a.inferenceStats(),
		BatchesQueued: q.Queued, BatchesStored: q.Stored, BatchesRejected: q.Rejected, BatchesDropped: q.Dropped,
		BatchesRecovered: q.Recovered, BatchesDamaged: q.Damaged, BatchesResent: a.sender.Resent(),
		BatchesWaiting: q.WaitingBatches, BytesWaiting: q.WaitingBytes, OldestWaiting: q.Oldest,
		SpoolBytes: q.DiskBytes, SpoolSetAside: q.SetAside, SpoolSyncs: q.Syncs, SpoolSyncTime: q.SyncTime, SpoolFailing: q.Failing,
	}
}

// Epoch is this agent's life: its start, in milliseconds since 1970.
func (a *Agent) Epoch() uint64 { return a.epoch }

// Add adds another agent's counts.
func (s *Stats) Add(o Stats) {
	s.Ticks += o.Ticks
	s.MissedTicks += o.MissedTicks
	s.LateTicks += o.LateTicks
	s.Rows += o.Rows
	s.SkippedRows += o.SkippedRows
	s.GPUs += o.GPUs
	s.DriverMissing, s.CollectorAway = cmp.Or(s.DriverMissing, o.DriverMissing), cmp.Or(s.CollectorAway, o.CollectorAway)
	s.DriverCalls += o.DriverCalls
	s.ReadTime += o.ReadTime
	s.GPUsReduced += o.GPUsReduced
	s.SamplingCut = max(s.SamplingCut, o.SamplingCut)
	s.Bursts += o.Bursts
	s.BurstsRefused += o.BurstsRefused
	s.BurstReads += o.BurstReads
	s.BurstReadsSkipped += o.BurstReadsSkipped
	s.TracedSamples += o.TracedSamples
	s.Inference.Add(o.Inference)
	s.BatchesQueued += o.BatchesQueued
	s.BatchesStored += o.BatchesStored
	s.BatchesRejected += o.BatchesRejected
	s.BatchesDropped += o.BatchesDropped
	s.BatchesRecovered += o.BatchesRecovered
	s.BatchesDamaged += o.BatchesDamaged
	s.BatchesResent += o.BatchesResent
	s.BatchesWaiting += o.BatchesWaiting
	s.BytesWaiting += o.BytesWaiting
	s.OldestWaiting = max(s.OldestWaiting, o.OldestWaiting)
	s.SpoolBytes += o.SpoolBytes
	s.SpoolSetAside += o.SpoolSetAside
	s.SpoolSyncs += o.SpoolSyncs
	s.SpoolSyncTime += o.SpoolSyncTime
	s.SpoolFailing = s.SpoolFailing || o.SpoolFailing
}
