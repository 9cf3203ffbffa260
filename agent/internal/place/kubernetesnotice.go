// SPDX-License-Identifier: Apache-2.0

package place

import (
	"context"
	"regexp"
	"time"
)

// nodeInterval: all nodes of a cluster ask one API server, so they ask seldom.
const nodeInterval = time.Minute

// nebiusMaintenance is the condition with which Nebius' Kubernetes announces work on a node.
const nebiusMaintenance = "NebiusMaintenanceScheduled"

// kubernetesNotices watches the conditions of the node's object. The API server's token is read anew each time.
func kubernetesNotices(k Kubernetes) []noticeSource {
	if k.APIServer == "" || k.Node == "" {
		return nil
	}
	return []noticeSource{{name: "kubernetes node conditions", every: nodeInterval, ask: func(ctx context.Context) ([]Notice, error) {
		c, err := k.open()
		if err != nil {
			return nil, err
		}
		defer c.client.CloseIdleConnections()
		n, err := c.read(ctx)
		if err != nil {
			return nil, err
		}
		return n.notices(), nil
	}}}
}

// deadline is the only time in the condition's message: the latest at which the work begins.
var deadline = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`)

func (n node) notices() (notices []Notice) {
	for _, c := range n.Status.Conditions {
		if c.Type != nebiusMaintenance || c.Status != "True" {
			continue
		}
		notices = append(notices, Notice{
			Kind: MaintenanceScheduled, ID: c.Type, State: joined(c.Reason, deadline.FindString(c.Message)),
			Description: c.Message, Raw: c.Message,
		})
	}
	return notices
}
