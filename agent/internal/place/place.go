// SPDX-License-Identifier: Apache-2.0

// Package place finds out where a node is: in which cloud, region and zone, on what instance, how it is
// rented, where in the network and in which NVLink domain; and it watches for the notices that a provider
// gives before it takes a node away or works on it.
//
// It promises that a probe ends within Config.Cap, whatever hangs; that only the link-local metadata service
// and the API server that the configuration names are asked, without a proxy; that an answer in another
// cloud's format is not taken for an identity, and that the reason is kept; that what is not known stays
// empty; and that what the operator says wins over everything that is found. The goroutines that Probe and
// Watch start have ended when they return.
//
//	configuration ─▶ topograph's labels ─▶ metadata service ─▶ other labels ─▶ DMI ─▶ operating system
//	(wins)                                                                            (fills the rest)
package place

import (
	"log/slog"
	"time"
)

// Providers that have a probe of their own, as they are called in the column provider.
const (
	AWS    = "aws"
	Azure  = "azure"
	GCP    = "gcp"
	OCI    = "oci"
	Nebius = "nebius"
)

// Providers that are known by their Kubernetes nodes alone.
const (
	CoreWeave = "coreweave"
	Lambda    = "lambda"
	Crusoe    = "crusoe"
)

// Ways in which a node is rented: the values of the column life_cycle.
const (
	OnDemand      = "on_demand" // nothing was promised but the price list; a discount on the bill cannot be seen from here
	Spot          = "spot"      // the provider may take it back at any time
	Reserved      = "reserved"
	CapacityBlock = "capacity_block" // reserved for a time, paid beforehand
	Owned         = "owned"
)

// What a value was read from, besides the metadata services, which are called after their provider.
const (
	FromConfiguration = "configuration"
	FromKubernetes    = "kubernetes"
	FromDMI           = "dmi"
	FromHost          = "host"
)

// Tiers is how many levels of the network are kept.
const Tiers = 4

// Place is where a node is. An empty text is "not known".
type Place struct {
	Provider string // aws, azure, gcp, oci, nebius, coreweave, …
	Platform string // as OpenTelemetry's cloud.platform: aws_ec2, aws_eks, azure.vm, …
	Region   string
	ZoneName string // as this account knows the zone
	ZoneID   string // the same for all accounts

	AccountID             string // account, subscription, project or tenancy
	InstanceType          string // instance type or shape
	InstanceID            string
	InstanceName          string // what the provider calls the instance in its notices
	ImageID               string
	LifeCycle             string
	CapacityReservationID string
	PlacementGroup        string
	FaultDomain           string
	HostGroup             string // dedicated hosts that the node may be on
	PhysicalHost          string

	TopologyTiers     [Tiers]string // parts of the network that the node is in, closest first
	AcceleratorDomain string        // GPUs that reach one another over NVLink, beyond one node

	HostName       string // as the operating system says
	KubernetesNode string
	Cluster        string
	Rack           string
	Site           string

	Sources map[string]string // name of a field → what it was read from
}

// Reason says why a probe did not answer, or answered only in part.
type Reason struct {
	Probe string `json:"probe"`
	Text  string `json:"text"`
}

// Config is what is known beforehand, and whom to ask. The zero value asks all that a bare machine can.
type Config struct {
	Node       string     // its name gives it times of its own; see Spread
	Known      Place      // what the operator says; it wins
	Kubernetes Kubernetes // the node's object; zero: not in a cluster
	Cap        time.Duration
	Poll       time.Duration // between looks for notices
	Logger     *slog.Logger

	// Endpoints has, by provider, the base URL of a metadata service that stands in for the real one: for
	// tests and emulators. Only link-local and loopback addresses are dialled.
	Endpoints map[string]string
	DMI       string // folder of the firmware's tables

	dial dialer // nil: the network; a test has its own
}

// Defaults of a Config.
const (
	defaultCap  = time.Second
	defaultPoll = 5 * time.Second
	defaultDMI  = "/sys/class/dmi/id"
)

func (c Config) withDefaults() Config {
	if c.Cap <= 0 {
		c.Cap = defaultCap
	}
	if c.Poll <= 0 {
		c.Poll = defaultPoll
	}
	if c.DMI == "" {
		c.DMI = defaultDMI
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}
