// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gpufleet/gpufleet/internal/embedded"
	"github.com/gpufleet/gpufleet/schema/readers"
)

// Formats of gpufleet readers.
const (
	readersSQL = "sql"
	readersXML = "xml"
)

func newReaders() *cobra.Command {
	r := readers.Reader{Limits: readers.DefaultLimits()}
	var format, database, passwordFile string
	c := &cobra.Command{
		Use:   "readers NAME",
		Short: "Write the statements that make a user who may only read, of all or of some tenants and zones",
		Long: "readers writes what makes a user of ClickHouse who may read and nothing else: rights, row filters, quota\n" +
			"and limits. It asks no ClickHouse. With --tenant and --residency the user sees rows of those alone, in\n" +
			"every table, view and rollup. Only the SHA-256 of the password is written; the password is read from\n" +
			"--password-file, which is made with a new one if it is not there. docs/security.md tells what holds.",
		Example: "  gpufleet readers grafana_acme --tenant acme --password-file acme.password | clickhouse client -n\n" +
			"  gpufleet readers grafana_acme --tenant acme --password-file acme.password --format xml > .data/clickhouse/config/users.d/acme.xml",
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if passwordFile == "" {
				return errors.New("give --password-file: the password is read from it, or a new one is written to it")
			}
			if format != readersSQL && format != readersXML {
				return fmt.Errorf("--format %q: want %s or %s", format, readersSQL, readersXML)
			}
			r.Name, r.PasswordSHA256 = args[0], strings.Repeat("0", sha256.Size*2)
			if err := r.Validate(); err != nil { // before a file is written
				return err
			}
			password, err := readerPassword(passwordFile, c.ErrOrStderr())
			if err != nil {
				return err
			}
			sum := sha256.Sum256([]byte(password))
			r.PasswordSHA256 = hex.EncodeToString(sum[:])
			return writeReader(c.OutOrStdout(), r, format, database)
		},
	}
	f := c.Flags()
	f.StringSliceVar(&r.Tenants, "tenant", nil, "see rows of these tenants alone")
	f.StringSliceVar(&r.Residencies, "residency", nil, "see rows of these residency zones alone")
	f.StringSliceVar(&r.Networks, "network", nil, "log in from these addresses alone, such as 10.0.0.0/8; empty: from any")
	f.BoolVar(&r.Cluster, "cluster", false, "the tables lie on a cluster: have each of its servers know the reader; the cluster must have a <secret>, or row filters do not hold")
	f.StringVar(&format, "format", readersSQL, "sql: statements for a server that keeps its users itself; xml: a file for users.d")
	f.StringVar(&database, "database", embedded.Database, "database of the tables")
	f.StringVar(&passwordFile, "password-file", "", "file of the password, which its owner alone may read")
	f.DurationVar(&r.Limits.Time, "time", r.Limits.Time, "a query may take so long; --longest-time if it asks for more")
	f.DurationVar(&r.Limits.LongestTime, "longest-time", r.Limits.LongestTime, "a query may ask for so much time")
	f.Int64Var(&r.Limits.ReadRows, "read-rows", r.Limits.ReadRows, "rows that a query may read")
	f.Int64Var(&r.Limits.MemoryBytes, "memory-bytes", r.Limits.MemoryBytes, "memory of a query")
	f.Int64Var(&r.Limits.UserMemoryBytes, "user-memory-bytes", r.Limits.UserMemoryBytes, "memory of all of the user's queries together")
	f.Int64Var(&r.Limits.QueriesPerMinute, "queries-per-minute", r.Limits.QueriesPerMinute, "queries within a minute")
	return c
}

func writeReader(w io.Writer, r readers.Reader, format, database string) error {
	if format == readersXML {
		text, err := readers.XML(database, r)
		if err != nil {
			return err
		}
		_, err = w.Write(text)
		return err
	}
	statements, err := r.SQL(database)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, strings.Join(statements, ";\n")+";")
	return err
}

// readerPassword reads a password, or makes one. A file that others may read is refused.
func readerPassword(path string, say io.Writer) (string, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		password := rand.Text()
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return "", fmt.Errorf("write password: %w", err)
		}
		_, err = fmt.Fprintln(f, password)
		if err = errors.Join(err, f.Close()); err != nil {
			return "", fmt.Errorf("write password: %w", err)
		}
		fmt.Fprintln(say, "made a password: it is in", path)
		return password, nil
	}
	if err != nil {
		return "", fmt.Errorf("read password: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("read password: others may read %s: chmod 600 it", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read password: %w", err)
	}
	password := strings.TrimSpace(string(text))
	if password == "" {
		return "", fmt.Errorf("read password: %s is empty", path)
	}
	return password, nil
}
