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

	Platform, AccountID, ZoneName, ImageID string
	CapacityReservationID, PlacementGroup  string
	FaultDomain, PhysicalHost              string
	TopologyTiers                          [4]string // the closest first
	AcceleratorDomain                      string    // NVLink domain that spans nodes
	KubernetesNode                         string
	PlaceSource                            string // who told where the node is
}

// cells lays the node out as the wire columns of node_inventory. gpus is nil if the driver does not tell.
func (n Node) cells(at time.Time, system gpu.System, gpus *int64) []batch.Cell {
	facts := []batch.Cell{
		batch.Text(n.Name), batch.Text(n.ReadingSource), batch.TextOrNull(n.Provider), batch.TextOrNull(n.Region),
		batch.TextOrNull(n.ZoneID), batch.TextOrNull(n.InstanceType), batch.TextOrNull(n.InstanceID),
		batch.TextOrNull(n.LifeCycle), batch.TextOrNull(n.Cluster), batch.TextOrNull(n.Rack), batch.TextOrNull(n.System),
		batch.TextOrNull(n.Kernel), batch.TextOrNull(n.BootID), batch.TextOrNull(n.AgentVersion),
		batch.TextOrNull(system.DriverVersion), batch.TextOrNull(system.NVMLVersion), batch.TextOrNull(system.CUDAVersion),
		batch.NumberOrNull(gpus),
		batch.TextOrNull(n.Platform), batch.TextOrNull(n.AccountID), batch.TextOrNull(n.ZoneName), batch.TextOrNull(n.ImageID),
		batch.TextOrNull(n.CapacityReservationID), batch.TextOrNull(n.PlacementGroup), batch.TextOrNull(n.FaultDomain),
		batch.TextOrNull(n.PhysicalHost), batch.TextOrNull(n.TopologyTiers[0]), batch.TextOrNull(n.TopologyTiers[1]),
		batch.TextOrNull(n.TopologyTiers[2]), batch.TextOrNull(n.TopologyTiers[3]), batch.TextOrNull(n.AcceleratorDomain),
		batch.TextOrNull(n.KubernetesNode), batch.TextOrNull(n.PlaceSource),
	}
	head := []batch.Cell{{Int: at.UnixMilli(), OK: true}, ContentHash(facts)}
	return append(head, facts...)
}

// gpuCells lays a GPU out as the wire columns of gpu_inventory.
func gpuCells(at time.Time, uuid string, i *gpu.Identity, removed bool) []batch.Cell {
	gone := batch.Cell{}
	if removed {
		gone = batch.Number(1)
	}
	facts := []batch.Cell{
		batch.Text(uuid), batch.TextOrNull(i.ParentUUID), batch.NumberOrNull(i.Index), batch.NumberOrNull(i.Minor), batch.NumberOrNull(i.ModuleID),
		batch.TextOrNull(i.Model), batch.TextOrNull(i.Architecture), batch.TextOrNull(i.ComputeCapability),
		batch.TextOrNull(i.Serial), batch.TextOrNull(i.BoardPartNumber), batch.TextOrNull(i.PCIBusID),
		batch.TextOrNull(i.VBIOSVersion), batch.TextOrNull(i.InfoROMVersion), batch.TextOrNull(i.GSP),
		batch.NumberOrNull(i.MemoryTotalBytes), batch.NumberOrNull(i.MemoryReservedBytes),
		batch.NumberOrNull(i.PowerLimitMilliwatts), batch.NumberOrNull(i.PowerLimitDefaultMilliwatts),
		batch.NumberOrNull(i.PowerLimitMinMilliwatts), batch.NumberOrNull(i.PowerLimitMaxMilliwatts),
		batch.NumberOrNull(i.MaxSMClockMegahertz), batch.NumberOrNull(i.MaxMemoryClockMegahertz),
		batch.NumberOrNull(i.SlowdownCelsius), batch.NumberOrNull(i.ShutdownCelsius), batch.NumberOrNull(i.GPUMaxCelsius), batch.NumberOrNull(i.MemoryMaxCelsius),
		batch.NumberOrNull(i.ECCEnabled), batch.NumberOrNull(i.MIGEnabled), batch.NumberOrNull(i.PersistenceEnabled),
		batch.NumberOrNull(i.NVLinkCount), batch.NumberOrNull(i.PCIeMaxGeneration), batch.NumberOrNull(i.PCIeMaxWidth),
		batch.TextOrNull(i.FabricClusterUUID), batch.NumberOrNull(i.FabricCliqueID), batch.TextOrNull(i.ChassisSerial),
		batch.NumberOrNull(i.SlotNumber), batch.NumberOrNull(i.TrayIndex), batch.NumberOrNull(i.HostID),
		batch.NumberOrNull(i.GPUInstanceID), batch.NumberOrNull(i.ComputeInstanceID), batch.TextOrNull(i.MIGProfile), gone,
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
