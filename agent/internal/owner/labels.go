// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"fmt"

	"github.com/gpufleet/gpufleet/agent/internal/owner/process"
)

// Labels says which labels of a pod tell what. Of each list the first that the pod has counts.
type Labels struct {
	Team, Model, Deployment []string
	Role                    []string // of a server: prefill, decode, both or gateway
}

// DefaultLabels are names that people choose without being told.
func DefaultLabels() Labels {
	return Labels{
		Team: []string{"team"}, Model: []string{"model"},
		Role: []string{"llm-d.ai/role", "nvidia.com/dynamo-sub-component-type"}, // what llm-d and Dynamo call their pods
	}
}

// maxLabelRunes is more than a label's value can have.
const maxLabelRunes = 63

// Validate tells what cannot be a label.
func (l Labels) Validate() error {
	for _, list := range [][]string{l.Team, l.Model, l.Deployment, l.Role} {
		for _, name := range list {
			if name == "" || len(name) > 317 { // a prefix of 253, a slash, a name of 63
				return fmt.Errorf("label %q of a pod: want a name such as example.com/team", name)
			}
		}
	}
	return nil
}

// apply reads the labels of the owner's pod. made is what made the pod.
func (l Labels) apply(o *Owner, labels map[string]string, made string) {
	o.Team, o.Model = first(labels, l.Team), first(labels, l.Model)
	if o.Deployment = first(labels, l.Deployment); o.Deployment == "" {
		o.Deployment = made
	}
}

func first(labels map[string]string, names []string) string {
	for _, name := range names {
		if value := labels[name]; value != "" {
			return process.Printable(value, maxLabelRunes)
		}
	}
	return ""
}
