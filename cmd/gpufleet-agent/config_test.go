// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/gpufleet/gpufleet/schema/yamlfile"
)

// commandLine is what cobra makes of arguments.
func commandLine(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	c := &cobra.Command{}
	agentFlags(c)
	if err := c.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	return c.Flags()
}

// configFile writes a configuration that needs nothing of the machine, and what else is given.
func configFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(path, []byte("node: node-1\nplace: \"off\"\nsysfs: \"\"\nkernel-log: ''\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFileAndCommandLine(t *testing.T) {
	path := configFile(t, `
interval: 2s          # a comment
subsecond: false
queue-bytes: 0x2000000
port-rate: [mlx5_*=400, irdma*=200]
cluster: prod
dcgm-names: true
`)
	s, err := load(commandLine(t, "--config", path, "--cluster", "canary", "--port-rate", "efa*=100"))
	if err != nil {
		t.Fatal(err)
	}
	a := s.agent
	if a.Interval != 2*time.Second || a.Subsecond || a.MaxQueueBytes != 32<<20 || !a.Exposition.DCGM || a.Node.Name != "node-1" {
		t.Errorf("the file is not taken: %+v", a)
	}
	if a.Node.Cluster != "canary" || len(a.Network.Expect) != 1 || a.Network.Expect[0].Devices != "efa*" {
		t.Errorf("the command line does not win: cluster %s, rates %+v", a.Node.Cluster, a.Network.Expect)
	}
	s, err = load(commandLine(t, "--config", path))
	if err != nil {
		t.Fatal(err)
	}
	if len(s.agent.Network.Expect) != 2 || s.agent.Network.Expect[1].Gigabits != 200 {
		t.Errorf("the list is not taken: %+v", s.agent.Network.Expect)
	}
	if s.agent.Flush != 5*time.Second {
		t.Errorf("flush is %s, and nobody said so", s.agent.Flush)
	}
}

func TestBadFiles(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"unknown":         {"interval: 1s\nintervall: 2s\n", `f.yaml:2: there is no setting "intervall"`},
		"not a duration":  {"\ninterval: 5\n", `f.yaml:2: interval: "5" is no duration`},
		"not a truth":     {"subsecond: maybe\n", `f.yaml:1: subsecond: "maybe" is no bool`},
		"nothing":         {"node:\n", "f.yaml:1: node: want one value; leave the line out"},
		"a mapping":       {"node: {name: a}\n", "f.yaml:1: node: want one value"},
		"a list":          {"node: [a, b]\n", "f.yaml:1: node takes one value, not a list"},
		"a list of lists": {"port-rate: [[a]]\n", "f.yaml:1: port-rate: want one value"},
		"twice":           {"node: a\nnode: b\n", `f.yaml:2: "node" is there already, at line 1`},
		"a list as file":  {"- node: a\n", "f.yaml:1: want lines such as"},
		"two documents":   {"node: a\n---\nnode: b\n", "a second document"},
		"no YAML":         {"node: a\n\tb\n", "f.yaml:2: not YAML"},
		"an alias":        {"node: &n a\ncluster: *n\n", "f.yaml:2: cluster: want one value"},
		"itself":          {"config: other.yaml\n", "f.yaml:1: config is for the command line alone"},
		"a recording":     {"record: a.gfr\n", "f.yaml:1: record is for the command line alone"},
		"a token":         {"token: hunter2\n", `f.yaml:1: there is no setting "token"`},
	} {
		t.Run(name, func(t *testing.T) {
			err := parseConfig("f.yaml", []byte(tt.text), commandLine(t))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Error("what may be a secret is in the error")
			}
		})
	}
}

func TestManyMistakesAreCutOff(t *testing.T) {
	var text strings.Builder
	for i := range 100 {
		fmt.Fprintf(&text, "x%d: 1\n", i)
	}
	err := parseConfig("f.yaml", []byte(text.String()), commandLine(t))
	if lines := strings.Split(err.Error(), "\n"); len(lines) != yamlfile.MaxMistakes+1 || lines[yamlfile.MaxMistakes] != "f.yaml: more mistakes follow" {
		t.Errorf("%d lines: %v", len(lines), err)
	}
}

func TestFilesThatSetNothing(t *testing.T) {
	for _, text := range []string{"", "# nothing yet\n", "{}\n", "null\n"} {
		if err := parseConfig("f.yaml", []byte(text), commandLine(t)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestFilesThatCannotBeRead: each has an error that names it.
func TestFilesThatCannotBeRead(t *testing.T) {
	folder := t.TempDir()
	large := filepath.Join(folder, "large.yaml")
	if err := os.WriteFile(large, make([]byte, maxConfigBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(folder, "none")
	good := configFile(t, "")
	for want, args := range map[string][]string{
		"read configuration: open " + missing:   {"--config", missing},
		large + ": it is larger than":           {"--config", large},
		"read token: open " + missing:           {"--config", good, "--token-file", missing},
		"load authorities: open " + missing:     {"--config", good, "--tls-ca", missing},
		"read overrides of the XID catalogue":   {"--config", good, "--xid-overrides", missing},
		"certificate and key go together":       {"--config", good, "--tls-key", missing},
		"operations server: load the certifica": {"--config", good, "--ops-tls-cert", missing, "--ops-tls-key", missing},
		"interval of 1ms: at least 100ms":       {"--config", good, "--interval", "1ms"},
		"--memory-limit 5: at least":            {"--config", good, "--memory-limit", "5"},
		"log level":                             {"--config", good, "--log-level", "loud"},
	} {
		if _, err := load(commandLine(t, args...)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want %s", args, err, want)
		}
	}
}

// FuzzConfig: each mistake names its place, and what is taken is what the same values on a command line would be.
func FuzzConfig(f *testing.F) {
	f.Add("node: a\ninterval: 2s\nport-rate: [a=1, 'b,c=2']\n")
	f.Add("intervall: 1s\n? [a]\n: b\n")
	f.Add("node: &a x\n<<: *a\n---\n")
	f.Fuzz(func(t *testing.T, text string) {
		flags := commandLine(t)
		if err := parseConfig("f.yaml", []byte(text), flags); err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, "f.yaml:") {
					t.Fatalf("a mistake without a place: %q in %v", line, err)
				}
			}
			return
		}
		again := commandLine(t)
		if err := overlay(flags, again); err != nil {
			t.Fatal(err)
		}
		flags.VisitAll(func(f *pflag.Flag) {
			if f.Value.String() != again.Lookup(f.Name).Value.String() {
				t.Errorf("%s is %s and becomes %s", f.Name, f.Value, again.Lookup(f.Name).Value)
			}
			if f.Changed && slices.Contains(notInFile, f.Name) {
				t.Errorf("a file sets %s", f.Name)
			}
		})
	})
}
