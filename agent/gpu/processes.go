// SPDX-License-Identifier: Apache-2.0

package gpu

// Processes is a Device that tells which processes use it.
type Processes interface {
	// Processes appends to into the processes that hold a context on the GPU, each kind of context in one
	// driver call; a process with contexts of several kinds, or on several MIG instances, comes once for
	// each. A GPU that nobody uses answers Success with none. NoPermission means that this program may
	// not see them. Nothing is appended but with Success.
	Processes(kinds ProcessKinds, into []Process) ([]Process, Return)
}

// Instances is a Device that can be split into MIG instances.
type Instances interface {
	// Instances appends to into the MIG instances of the GPU that programs can use: its compute
	// instances. A GPU that is not split answers Success with none.
	Instances(into []Instance) ([]Instance, Return)
}

// Splitter is a Device that can be split into MIG instances, which are Devices of their own.
type Splitter interface {
	// Parts lists the MIG instances that programs can use as Devices, which have ParentUUID and both instance
	// ids in their Identity. The same instance is the same Device each time. A GPU that is not split, or that no driver
	// of its kind can split, answers Success with none; anything else tells nothing of what is there. A part may be
	// called while the GPU and its other parts are.
	Parts() ([]Device, Return)
}

// Process is one process on a GPU.
type Process struct {
	PID         uint32 // by the numbering of this program's PID namespace, or of the host's
	Kind        ProcessKind
	MemoryBytes uint64 // device memory that it holds
	MemoryKnown bool   // else MemoryBytes means nothing
	GI, CI      uint32 // MIG instances; NoInstance if none
}

// ProcessKind is a kind of context.
type ProcessKind uint8

// ProcessKinds is a set of kinds, one bit each by its number.
type ProcessKinds uint8

// AllProcesses is the set of all kinds.
const AllProcesses ProcessKinds = 1<<(MPSProcess+1) - 1

// Has tells whether a kind is in the set.
func (k ProcessKinds) Has(kind ProcessKind) bool { return k>>kind&1 == 1 }

// Add adds a kind.
func (k *ProcessKinds) Add(kind ProcessKind) { *k |= 1 << kind }

// The kinds of contexts.
const (
	ComputeProcess  ProcessKind = iota // CUDA; with MPS, the server
	GraphicsProcess                    // OpenGL, Vulkan
	MPSProcess                         // client of an MPS server
)

// Instance is one MIG instance.
type Instance struct {
	UUID   string
	GI, CI uint32
	// Placed tells that the driver says where on the GPU the GPU instance is; it says so to root alone.
	Placed  bool
	Profile uint32 // id of the profile
	Start   uint32 // first memory slice
}
