// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"hash/fnv"
	"strconv"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// Node is what is known of the node besides its GPUs. An empty text is "not known".
type Node struct {
	Name          string
	ReadingSource string // nvml, simulator, recording
	Provider      string // aws, azure, gcp, oci, …
	Region        string
	ZoneID        string
	InstanceType  string
	InstanceID    string
	LifeCycle     string // on_demand, spot, reserved, capacity_block, owned
	Cluster       string
	Rack          string
	System        string // operating system
	Kernel        string
	BootID        string
	AgentVersion  string
}

// cells lays the node out as the wire columns of node_inventory. gpus is nil if the driver does not tell.
func (n Node) cells(at time.Time, system gpu.System, gpus *int64) []batch.Cell {
	facts := []batch.Cell{
		textCell(n.Name), textCell(n.ReadingSource), absentIfEmpty(n.Provider), absentIfEmpty(n.Region),
		absentIfEmpty(n.ZoneID), absentIfEmpty(n.InstanceType), absentIfEmpty(n.InstanceID),
		absentIfEmpty(n.LifeCycle), absentIfEmpty(n.Cluster), absentIfEmpty(n.Rack), absentIfEmpty(n.System),
		absentIfEmpty(n.Kernel), absentIfEmpty(n.BootID), absentIfEmpty(n.AgentVersion),
		absentIfEmpty(system.DriverVersion), absentIfEmpty(system.NVMLVersion), absentIfEmpty(system.CUDAVersion),
		optional(gpus),
	}
	head := []batch.Cell{{Int: at.UnixMilli(), OK: true}, ContentHash(facts)}
	return append(head, facts...)
}

// gpuCells lays a GPU out as the wire columns of gpu_inventory.
func gpuCells(at time.Time, uuid string, i *gpu.Identity) []batch.Cell {
	facts := []batch.Cell{
		textCell(uuid), absentIfEmpty(i.ParentUUID), optional(i.Index), optional(i.Minor), optional(i.ModuleID),
		absentIfEmpty(i.Model), absentIfEmpty(i.Architecture), absentIfEmpty(i.ComputeCapability),
		absentIfEmpty(i.Serial), absentIfEmpty(i.BoardPartNumber), absentIfEmpty(i.PCIBusID),
		absentIfEmpty(i.VBIOSVersion), absentIfEmpty(i.InfoROMVersion), absentIfEmpty(i.GSP),
		optional(i.MemoryTotalBytes), optional(i.MemoryReservedBytes),
		optional(i.PowerLimitMilliwatts), optional(i.PowerLimitDefaultMilliwatts),
		optional(i.PowerLimitMinMilliwatts), optional(i.PowerLimitMaxMilliwatts),
		optional(i.MaxSMClockMegahertz), optional(i.MaxMemoryClockMegahertz),
		optional(i.SlowdownCelsius), optional(i.ShutdownCelsius), optional(i.GPUMaxCelsius), optional(i.MemoryMaxCelsius),
		optional(i.ECCEnabled), optional(i.MIGEnabled), optional(i.PersistenceEnabled),
		optional(i.NVLinkCount), optional(i.PCIeMaxGeneration), optional(i.PCIeMaxWidth),
		absentIfEmpty(i.FabricClusterUUID), optional(i.FabricCliqueID), absentIfEmpty(i.ChassisSerial),
		optional(i.SlotNumber), optional(i.TrayIndex), optional(i.HostID),
	}
	head := []batch.Cell{
		{Int: at.UnixMilli(), OK: true}, {Int: int64(wire.GPUID(uuid)), OK: true}, ContentHash(facts),
	}
	return append(head, facts...)
}

// Places of the content hash in the cells of a GPU and of a node.
const (
	gpuHash  = 2
	nodeHash = 1
)

// ContentHash is the FNV-1a hash over the facts of an observation: all its cells after the hash itself.
func ContentHash(facts []batch.Cell) batch.Cell {
	h := fnv.New64a()
	var scratch []byte
	for _, c := range facts {
		scratch = strconv.AppendBool(scratch[:0], c.OK)
		scratch = strconv.AppendInt(scratch, c.Int, 10)
		scratch = strconv.AppendQuote(scratch, c.Text)
		h.Write(scratch)
	}
	return batch.Cell{Int: int64(h.Sum64()), OK: true}
}
