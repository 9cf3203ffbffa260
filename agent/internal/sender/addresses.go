// SPDX-License-Identifier: Apache-2.0

package sender

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"slices"

	"github.com/gpufleet/gpufleet/internal/collectors"
)

// target is one collector.
type target struct {
	dial string // host:port
	name string // that its certificate is for
}

// resolve lists the collectors, for a node in an order of its own: nodes are spread evenly, each stays with its first as
// long as that one answers, and when one is gone its nodes go to all the others alike. A name that cannot be looked up
// stands for nobody.
func resolve(ctx context.Context, node string, addresses []collectors.Address, lookup func(ctx context.Context, host string) ([]string, error)) (targets []target, err error) {
	var problems []error
	for _, a := range addresses {
		if !a.Many {
			targets = append(targets, target{net.JoinHostPort(a.Host, a.Port), a.Host})
			continue
		}
		found, err := lookup(ctx, a.Host)
		if err != nil {
			problems = append(problems, fmt.Errorf("look up collectors %s: %w", a, err))
		}
		for _, ip := range found {
			targets = append(targets, target{net.JoinHostPort(ip, a.Port), a.Host})
		}
	}
	slices.SortFunc(targets, func(a, b target) int {
		return cmp.Or(cmp.Compare(rank(node, b), rank(node, a)), cmp.Compare(a.dial, b.dial))
	})
	targets = slices.Compact(targets)
	if len(targets) == 0 {
		return nil, errors.Join(append(problems, errors.New("no collector is known"))...)
	}
	return targets, nil
}

// rank is how much a node is drawn to a collector.
func rank(node string, t target) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(node + "\x00" + t.dial)) // it never fails
	x := h.Sum64()                                 // whose high bits follow the last bytes too little
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	return x ^ x>>32
}
