// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"time"

	"github.com/gpufleet/gpufleet/schema"
)

// Seen is what one server of a cluster knows of it.
type Seen struct {
	schema.InCluster
	Maps  []schema.ShardMap // by number; none: it was told of none
	Shard int               // that it was told to be, from 1 on; 0: none
}

// surveyWait is how long one server may take.
const surveyWait = 5 * time.Second

// Survey asks a server for the cluster that it is in. It changes nothing.
func Survey(ctx context.Context, e Endpoint, cluster string) (seen Seen, err error) {
	ctx, cancel := context.WithTimeout(ctx, surveyWait)
	defer cancel()
	db, err := open(e, 1)
	if err != nil {
		return seen, err
	}
	defer func() { err = errors.Join(e.explain(err), db.Close()) }()
	if seen.InCluster, err = schema.FindCluster(ctx, db, cluster); err != nil {
		return seen, err
	}
	seen.Maps, seen.Shard, err = schema.ShardMaps(ctx, db, e.Database)
	return seen, err
}

// Final tells of an error of a ClickHouse that answered, where waiting does not help: a wrong password, a missing right, no
// such database.
func Final(err error) bool {
	if _, ok := errors.AsType[schema.NoCluster](err); ok {
		return true
	}
	return final(err)
}
