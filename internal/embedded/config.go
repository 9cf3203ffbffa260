// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

var (
	//go:embed config.xml.tmpl
	configTemplate string
	//go:embed users.xml.tmpl
	usersTemplate string
)

// denyFile replaces ClickHouse's function file(path), for which there is no grant and which in libchdb reads any
// file of this machine. A function of this name found on disk at the start takes the place of the built-in one.
const denyFile = "CREATE FUNCTION file AS (path) -> throwIf(true, 'the function file is switched off');\n"

// settings is what the two templates are filled with.
type settings struct {
	Library            bool // ClickHouse is libchdb, not a server program
	Host               string
	HTTPPort, TCPPort  int
	DataDir            string
	Log                string
	Users              string
	Threads            int
	Pool, SchedulePool int

	MemoryBytes            int64
	CacheBytes             int64
	WriterMemoryBytes      int64
	ReaderMemoryBytes      int64
	ReaderTotalMemoryBytes int64
	ReaderSpillBytes       int64

	WriterPassword, ReaderPassword, DictionaryPassword string

	Cluster cluster
}

// newSettings divides the machine: the writer may use nearly all of the memory limit, one reader's query half.
func newSettings(cfg Config, l layout, s state, library bool) settings {
	memory := cfg.MemoryLimitBytes
	return settings{
		Library: library, Host: host, HTTPPort: s.HTTPPort, TCPPort: s.TCPPort,
		DataDir: l.data(), Log: l.log(), Users: l.users(),
		Threads: cfg.Threads, Pool: max(2, cfg.Threads), SchedulePool: max(4, cfg.Threads),
		MemoryBytes: memory, CacheBytes: memory / 16, WriterMemoryBytes: memory / 10 * 9,
		ReaderMemoryBytes: memory / 2, ReaderTotalMemoryBytes: memory / 4 * 3, ReaderSpillBytes: memory / 4,
		WriterPassword: s.WriterPassword, ReaderPassword: s.ReaderPassword, DictionaryPassword: s.DictionaryPassword,
		Cluster: cfg.cluster,
	}
}

// render fills a template. The functions are the two ways text may enter the XML.
func render(name, text string, s settings) ([]byte, error) {
	t, err := template.New(name).Funcs(template.FuncMap{"xml": escapeXML, "sha256": sha256Hex}).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("parse template %s: %w", name, err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, s); err != nil {
		return nil, fmt.Errorf("fill template %s: %w", name, err)
	}
	return out.Bytes(), nil
}

func escapeXML(text string) (string, error) {
	var out strings.Builder
	if err := xml.EscapeText(&out, []byte(text)); err != nil {
		return "", err
	}
	return out.String(), nil
}

func sha256Hex(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// writeConfig prepares the directory for one start of the child.
func writeConfig(l layout, s settings) error {
	config, err := render("config.xml", configTemplate, s)
	if err != nil {
		return err
	}
	users, err := render("users.xml", usersTemplate, s)
	if err != nil {
		return err
	}
	if err := errors.Join(writeFile(l.config(), config), writeFile(l.users(), users)); err != nil {
		return err
	}
	if s.Library {
		// libchdb forgets its system tables at the end and then trips over the directory of the old query_log.
		if err := os.RemoveAll(filepath.Join(l.data(), "data", "system")); err != nil {
			return fmt.Errorf("remove system logs of the last run: %w", err)
		}
	}
	return writeFile(filepath.Join(l.data(), "user_defined", "function_file.sql"), []byte(denyFile))
}

// clearLog makes room for the output of a new child, keeping that of the last one beside it. Both are small: they
// hold what ClickHouse says before its own log is open, and what it says when it crashes.
func clearLog(l layout) error {
	if err := os.Rename(l.childLog(), l.childLog()+".1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("rotate log: %w", err)
	}
	return nil
}
