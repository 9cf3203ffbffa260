// SPDX-License-Identifier: Apache-2.0

package process

import (
	"bufio"
	"io"
	"os"
	"strings"
	"time"
)

// Users knows the names of users from a file as /etc/passwd. It asks no name service: on a cluster that
// is a network call, which may hang. It belongs to one goroutine.
type Users struct {
	path  string
	names map[string]string // by number
	read  time.Time
}

// NewUsers reads names from a file; "" means none.
func NewUsers(path string) *Users { return &Users{path: path} }

// usersInterval is for how long names are taken to be what they were.
const usersInterval = 10 * time.Minute

// maxUsersBytes bounds the file.
const maxUsersBytes = 8 << 20

// Name is the name of a user, or its number if it has no name here.
func (u *Users) Name(uid string) string {
	if u.path != "" && (u.read.IsZero() || time.Since(u.read) > usersInterval) {
		u.load()
	}
	if name := u.names[uid]; name != "" {
		return name
	}
	return uid
}

// load reads the file; one that cannot be read has no names.
func (u *Users) load() {
	u.names, u.read = make(map[string]string), time.Now()
	f, err := os.Open(u.path)
	if err != nil {
		return
	}
	defer f.Close() //nolint:errcheck // it was only read
	lines := bufio.NewScanner(io.LimitReader(f, maxUsersBytes))
	for lines.Scan() {
		fields := strings.SplitN(lines.Text(), ":", 4)
		if len(fields) == 4 && u.names[fields[2]] == "" { // name:password:number:…
			u.names[fields[2]] = Printable(fields[0], maxNameRunes)
		}
	}
}
