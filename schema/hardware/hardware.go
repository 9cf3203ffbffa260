// SPDX-License-Identifier: Apache-2.0

// Package hardware is the catalogue of what is rented: GPU models under one name each, whatever a driver, a cloud
// or a price feed calls them, and the instance types that hold them. It is data with sources; a figure that was
// not read at its maker says so. It starts no goroutines.
//
// Change a row, and CatalogueVersion with it: what was computed with an old one can then be told apart.
package hardware

import (
	"slices"
	"strings"
)

// CatalogueVersion is stored with what is computed from the catalogue.
const CatalogueVersion = 1

// Model is a GPU as it is sold. A figure of 0 is not known.
type Model struct {
	Name         string // canonical, such as "H100 SXM 80GB"
	Architecture string // ampere, hopper, blackwell, …
	// The dense peaks: what marketing calls sparse is twice as much, and no training run reaches it.
	BF16TeraFLOPS, FP8TeraFLOPS float64
	MemoryGigabytes             int     // as it is sold, in 10⁹ bytes
	BandwidthTerabytesPerSecond float64 // of the memory
	PowerWatts                  int     // thermal design power
	// SlowdownMarginCelsius is the temperature margin (T.Limit) at which the hardware slows down: it is below 0. NULL
	// where the model has absolute limits, or it is not known.
	SlowdownMarginCelsius *int
	Source                string // of the figures
	Verified              bool   // the figures were read in the maker's own documents, or on a device
	spellings             []string
}

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
	Source     string
	Verified   bool
}

// Models lists the models.
func Models() []Model { return slices.Clone(models) }

// Instances lists the instance types.
func Instances() []Instance { return slices.Clone(instances) }

// ModelByName finds a model by its canonical name.
func ModelByName(name string) (Model, bool) {
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
	for _, m := range models {
		if is(m.Name) || slices.ContainsFunc(m.spellings, is) {
			found = append(found, m)
		}
	}
	return found
}

// FindInstance finds an instance type. Types are compared without regard to case: Azure's feeds mix it.
func FindInstance(provider, instanceType string) (Instance, bool) {
	i := slices.IndexFunc(instances, func(x Instance) bool {
		return x.Provider == provider && strings.EqualFold(x.Type, instanceType)
	})
	if i < 0 {
		return Instance{}, false
	}
	return instances[i], true
}

// KnowsProvider tells whether the catalogue lists a provider's instance types.
func KnowsProvider(provider string) bool {
	return slices.ContainsFunc(instances, func(i Instance) bool { return i.Provider == provider })
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
