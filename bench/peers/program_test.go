// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMissingProgramsAreSaidToBe(t *testing.T) {
	for name, start := range map[string]func() error{
		"victoria-metrics": func() error {
			_, err := StartVictoriaMetrics(t.Context(), t.TempDir(), t.TempDir(), "127.0.0.1:1")
			return err
		},
		"prometheus": func() error {
			_, err := StartPrometheus(t.Context(), t.TempDir(), t.TempDir(), "127.0.0.1:1")
			return err
		},
		"otelcol": func() error {
			_, err := StartOTel(t.Context(), t.TempDir(), t.TempDir(), "127.0.0.1:1", Store{})
			return err
		},
	} {
		if err := start(); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// install puts a program into a folder that says a version, and does nothing else but what the script has.
func install(t *testing.T, folder, name, version, script string) {
	t.Helper()
	text := "#!/bin/sh\nif [ \"$1\" = --version ]; then echo '" + version + "'; exit; fi\n" + script + "\n"
	if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
}

// TestProgramThatEndsAtOnce tells what it said last.
func TestProgramThatEndsAtOnce(t *testing.T) {
	folder := t.TempDir()
	install(t, folder, "broken", "broken version 1.2.3", "echo cannot listen >&2; exit 1")
	never := func(context.Context, *Program) error { return errors.New("no answer") }
	_, err := start(t.Context(), folder, "broken", t.TempDir(), "127.0.0.1:1", never)
	if err == nil || !strings.Contains(err.Error(), "cannot listen") {
		t.Errorf("%v", err)
	}
}

// TestVersions: a figure without the version that it is of is worth nothing.
func TestVersions(t *testing.T) {
	folder := t.TempDir()
	at := func(context.Context, *Program) error { return nil }
	for says, want := range map[string]string{"peer version 0.165.0": "0.165.0", "peer, version v3.16.0 (branch: main)": "v3.16.0", "": "", "victoria-metrics-": ""} {
		install(t, folder, "peer", says, "exec sleep 60")
		p, err := start(t.Context(), folder, "peer", t.TempDir(), "127.0.0.1:1", at)
		if err != nil {
			if want != "" || !strings.Contains(err.Error(), "version") {
				t.Errorf("%q: %v", says, err)
			}
			continue
		}
		if p.Version != want {
			t.Errorf("%q is version %q, want %q", says, p.Version, want)
		}
		p.Stop()
	}
}

// TestConfigurationOfTheCollector has what it was given, and nobody else may read its password.
func TestConfigurationOfTheCollector(t *testing.T) {
	folder, dir := t.TempDir(), t.TempDir()
	install(t, folder, "otelcol", "otelcol version 0.165.0", "exit 1")
	store := Store{Address: "127.0.0.1:9000", User: "writer", Password: `p"w: #1`, Database: "gpufleet_otel"}
	if _, err := StartOTel(t.Context(), folder, dir, "127.0.0.1:4318", store); err == nil {
		t.Fatal("a program that ends was started")
	}
	text, err := os.ReadFile(filepath.Join(dir, "config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"endpoint: 127.0.0.1:4318", "endpoint: tcp://127.0.0.1:9000", `password: "p\"w: #1"`, "database: gpufleet_otel"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("configuration lacks %s", want)
		}
	}
	info, err := os.Stat(filepath.Join(dir, "config.yaml"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestWeightOfAFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "below"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, size := range map[string]int{"a": 10, "below/b": 5} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := DirBytes(dir); got != 15 || err != nil {
		t.Errorf("%d bytes, %v", got, err)
	}
}
