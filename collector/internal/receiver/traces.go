// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"

	"google.golang.org/grpc/metadata"

	"github.com/gpufleet/gpufleet/schema/wire"
)

// tracesOf tells of how many batches the agent of a stream traces one; 0: of none.
func tracesOf(ctx context.Context) uint64 {
	md, _ := metadata.FromIncomingContext(ctx)
	said := md.Get(wire.TracesHeader)
	if len(said) != 1 {
		return 0
	}
	return wire.ParseTraces(said[0])
}
