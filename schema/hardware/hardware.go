// SPDX-License-Identifier: Apache-2.0

// Package hardware is the catalogue of what is rented: GPU models under one name each, whatever a driver, a cloud
// or a price feed calls them, and the instance types that hold them. It is data with sources, in the files of data/;
// a figure that was not read at its maker says so. It starts no goroutines.
//
// Change a row, and CatalogueVersion with it: what was computed with an old one can then be told apart.
package hardware

import (
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"
)

// CatalogueVersion is stored with what is computed from the catalogue. A test knows which rows it stands for.
const CatalogueVersion = 2

// Providers, as the agents name them.
const (
	AWS       = "aws"
	Azure     = "azure"
	GCP       = "gcp"
	Oracle    = "oci"
	Nebius    = "nebius"
	CoreWeave = "coreweave"
	Lambda    = "lambda"
	Crusoe    = "crusoe"
)

// Source is where figures are from.
type Source struct {
	Name   string
	What   string
	ReadOn time.Time
}

// FigureName is what a figure tells of a model.
type FigureName string

// The figures. A peak is dense: what marketing calls sparse is twice as much, and no training run reaches it.
const (
	BF16Peak         FigureName = "bf16_dense_teraflops"
	FP8Peak          FigureName = "fp8_dense_teraflops"
	MemoryBandwidth  FigureName = "memory_bandwidth_terabytes_per_second"
	PowerLimit       FigureName = "tdp_watts"               // thermal design power
	SlowdownMargin   FigureName = "slowdown_margin_celsius" // margin (T.Limit) at which the hardware slows down: below 0
	OperatingMaximum FigureName = "max_operating_celsius"
)

var figureNames = []FigureName{BF16Peak, FP8Peak, MemoryBandwidth, PowerLimit, SlowdownMargin, OperatingMaximum}

// Figure is one figure of a model.
type Figure struct {
	Name     FigureName
	Value    decimal.Decimal
	Source   Source
	Verified bool // read in the maker's own documents, or on a device
}

// Spelling is what somebody calls a model.
type Spelling struct {
	Text   string
	UsedBy string // nvml, a provider, or feeds
}

// Model is a GPU as it is sold.
type Model struct {
	Name            string // canonical, such as "H100 SXM 80GB"
	Architecture    string // ampere, hopper, blackwell, …
	MemoryGigabytes int    // as it is sold, in 10⁹ bytes
	Figures         []Figure
	Spellings       []Spelling // one may stand in several models
}

// Figure is what is known of a model by that name; false if it is not.
func (m Model) Figure(name FigureName) (Figure, bool) {
	i := slices.IndexFunc(m.Figures, func(f Figure) bool { return f.Name == name })
	if i < 0 {
		return Figure{}, false
	}
	return m.Figures[i], true
}

// Unusable is why the price of a machine says nothing about that of a GPU.
type Unusable string

// The reasons.
const (
	PartOfGPU  Unusable = "part_of_gpu" // several machines share one
	OtherMaker Unusable = "other_maker" // AMD
	NoGPU      Unusable = "no_gpu"      // chips for inference or training alone, FPGAs
)

// Instance is a type of machine with GPUs, as one provider rents it.
type Instance struct {
	Provider string // as node_inventory has it: aws, azure, gcp, oci, nebius, …
	Type     string // as the provider writes it
	Model    string // name of a Model
	GPUs     int
	// NetworkGigabitsPerSecond is the bandwidth between nodes; 0 if it is not known.
	NetworkGigabitsPerSecond int
	// DomainGPUs is how many GPUs share one NVLink domain that spans instances; 0 if it does not.
	DomainGPUs int
	// VCPUs and MemoryGibibytes are those of machines whose price is made of their parts; else 0.
	VCPUs, MemoryGibibytes int
	Source                 Source
	Verified               bool
	Unusable               Unusable // "": it can be priced
}

// Models lists the models.
func Models() []Model { return slices.Clone(loaded().models) }

// Instances lists the instance types.
func Instances() []Instance { return slices.Clone(loaded().instances) }

// InstancesOf lists the instance types of a provider.
func InstancesOf(provider string) []Instance {
	return slices.DeleteFunc(Instances(), func(i Instance) bool { return i.Provider != provider })
}

// ModelByName finds a model by its canonical name.
func ModelByName(name string) (Model, bool) {
	models := loaded().models
	i := slices.IndexFunc(models, func(m Model) bool { return m.Name == name })
	if i < 0 {
		return Model{}, false
	}
	return models[i], true
}

// FindModels lists the models that a spelling may mean: none if it is not known, several if it does not tell
// memory or form apart, as "A100" does not.
func FindModels(spelling string) []Model {
	key := fold(spelling)
	if key == "" {
		return nil
	}
	// A cloud's nvidia-tesla-a100 is one model, although the words that count in it are not.
	exact := modelsSpelled(func(s string) bool { return strings.EqualFold(s, strings.TrimSpace(spelling)) })
	if len(exact) > 0 {
		return exact
	}
	return modelsSpelled(func(s string) bool { return fold(s) == key })
}

func modelsSpelled(is func(string) bool) (found []Model) {
	for _, m := range loaded().models {
		if is(m.Name) || slices.ContainsFunc(m.Spellings, func(s Spelling) bool { return is(s.Text) }) {
			found = append(found, m)
		}
	}
	return found
}

// FindInstance finds an instance type. Types are compared without regard to case: Azure's feeds mix it.
func FindInstance(provider, instanceType string) (Instance, bool) {
	i, ok := loaded().byType[instanceKey{provider, strings.ToLower(instanceType)}]
	return i, ok
}

// KnowsProvider tells whether the catalogue lists a provider's instance types.
func KnowsProvider(provider string) bool { return loaded().providers[provider] > 0 }

// Closed tells whether the machines of a provider are those of the catalogue alone. Of the others there are machines
// that are agreed upon with each customer, and which a price list describes itself.
func Closed(provider string) bool {
	return slices.Contains([]string{AWS, Azure, GCP, Oracle}, provider)
}

// Provider brings the names that feeds, bills and drivers have for a provider into one.
func Provider(name string) string {
	switch name = strings.ToLower(strings.TrimSpace(name)); name {
	case "oracle_cloud", "oracle", "oracle cloud infrastructure":
		return Oracle
	case "google", "gce", "google_cloud", "google cloud", "google cloud platform":
		return GCP
	case "microsoft", "microsoft azure":
		return Azure
	case "amazon", "amazon web services", "amazon web services, inc.":
		return AWS
	default:
		return name
	}
}

// fold brings the spellings of drivers, labels and feeds together: "NVIDIA-H100-80GB-HBM3-SHARED" and "NVIDIA H100
// 80GB HBM3" are the same.
func fold(spelling string) string {
	key := strings.ToLower(strings.TrimSpace(spelling))
	if before, _, found := strings.Cut(key, "-mig-"); found { // a label of a MIG instance
		key = before
	}
	for _, sign := range []string{"-", "_", "/"} {
		key = strings.ReplaceAll(key, sign, " ")
	}
	words := strings.Fields(key)
	for len(words) > 1 && slices.Contains([]string{"nvidia", "tesla"}, words[0]) {
		words = words[1:]
	}
	for len(words) > 1 && words[len(words)-1] == "shared" { // time slicing
		words = words[:len(words)-1]
	}
	return strings.Join(words, " ")
}
