// SPDX-License-Identifier: Apache-2.0

package embedded

import "context"

// Find tells which ClickHouse Start would run with a Config.Library: the path of libchdb.so or of a program. The
// notes say what was passed over, and why.
func Find(ctx context.Context, library string) (path string, notes []string, err error) {
	find, err := newFinder()
	if err != nil {
		return "", nil, err
	}
	found, notes, err := find.find(ctx, library)
	return found.Library + found.Executable, notes, err
}
