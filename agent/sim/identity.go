// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// deviceUUID is the name of a GPU for life.
func deviceUUID(seed uint64) string {
	high, low := hash(seed, 20), hash(seed, 21)
	return fmt.Sprintf("GPU-%08x-%04x-%04x-%04x-%012x",
		uint32(high>>32), uint16(high>>16), uint16(high), uint16(low>>48), low&0xffffffffffff)
}

// serial is a serial number of 13 digits.
func serial(seed uint64) string { return fmt.Sprintf("165%010d", seed%10_000_000_000) }

// identity is what seldom changes of a GPU.
func (n *Node) identity(b *board) gpu.Identity {
	s := b.spec
	id := gpu.Identity{
		UUID: b.uuid, Model: s.name, Architecture: s.architecture, ComputeCapability: s.computeCapability,
		Serial: serial(hash(b.seed, 22)), BoardPartNumber: s.board, VBIOSVersion: s.vbios,
		InfoROMVersion: s.inforom, GSP: n.software.driver,
		PCIBusID: busAddresses[n.place.Provider][b.index],
		Index:    new(int64(b.index)), Minor: new(int64(b.index)), ModuleID: new(moduleIDs[b.index]),
		MemoryTotalBytes:            new(s.memoryMebibytes * mebibyte),
		MemoryReservedBytes:         new(s.reservedMebibytes * mebibyte),
		PowerLimitMilliwatts:        new(int64(s.limitWatts * 1000)),
		PowerLimitDefaultMilliwatts: new(int64(s.limitWatts * 1000)),
		PowerLimitMinMilliwatts:     new(int64(s.minimumWatts * 1000)),
		PowerLimitMaxMilliwatts:     new(int64(s.limitWatts * 1000)),
		MaxSMClockMegahertz:         new(int64(s.maxMegahertz)),
		MaxMemoryClockMegahertz:     new(int64(s.memoryMegahertz)),
		SlowdownCelsius:             new(s.slowdownCelsius),
		ShutdownCelsius:             new(s.shutdownCelsius),
		GPUMaxCelsius:               new(s.gpuMaxCelsius),
		MemoryMaxCelsius:            new(s.memoryMaxCelsius),
		ECCEnabled:                  new(int64(1)),
		MIGEnabled:                  new(int64(min(len(b.slices), 1))),
		PersistenceEnabled:          new(int64(1)),
		NVLinkCount:                 new(int64(s.links)),
		PCIeMaxGeneration:           new(s.pcieMaxGeneration),
		PCIeMaxWidth:                new(int64(16)),
	}
	if s.gpm {
		id.FabricCliqueID = new(int64(0))
	}
	if s.grace {
		n.rackIdentity(b, &id)
	}
	return id
}

// rackIdentity adds what a GPU in a rack of trays says of its place. The two GPUs of a module share a serial
// number (GB200 capture).
func (n *Node) rackIdentity(b *board, id *gpu.Identity) {
	id.Serial = serial(hash(n.seed, 40+uint64(b.index/2)))
	id.ModuleID = new(int64(b.index + 1))
	id.ChassisSerial = fmt.Sprintf("182%010d", n.rackSeed%10_000_000_000)
	id.FabricClusterUUID = deviceUUID(n.rackSeed)[len("GPU-"):]
	id.TrayIndex, id.SlotNumber, id.HostID = new(n.tray), new(n.tray+10), new(int64(1))
}
