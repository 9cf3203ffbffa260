// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// world is a finder in a machine of the test's making.
func world(t *testing.T, env, path map[string]string, version string) finder {
	t.Helper()
	root := t.TempDir()
	return finder{
		getenv: func(name string) string { return env[name] },
		lookPath: func(name string) (string, error) {
			if path[name] == "" {
				return "", exec.ErrNotFound
			}
			return path[name], nil
		},
		version: func(_ context.Context, _ string, arguments ...string) (string, error) {
			if version == "" {
				return "", errors.New("does not run")
			}
			return fmt.Sprintf("ClickHouse %s version %s (official build).\n", strings.Join(arguments, " "), version), nil
		},
		executable: filepath.Join(root, "release", "bin", "gpufleet"),
		directory:  filepath.Join(root, "checkout", "internal", "embedded"),
	}
}

// touch makes an empty file and the directories above it.
func touch(t *testing.T, elements ...string) string {
	t.Helper()
	path := filepath.Join(elements...)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFindOrder(t *testing.T) {
	named := touch(t, t.TempDir(), "named.so")
	onPath := map[string]string{"clickhouse": "/opt/clickhouse", "clickhouse-server": "/opt/clickhouse-server"}
	f := world(t, map[string]string{LibraryEnv: named}, onPath, "26.7.2.1")
	checkout := filepath.Join(filepath.Dir(filepath.Dir(f.directory)), "deploy", "clickhouse", "node_modules", "@chdb", libraryPackage(), "libchdb.so")
	release := filepath.Join(filepath.Dir(filepath.Dir(f.executable)), "lib", "libchdb.so")
	beside := filepath.Join(filepath.Dir(f.executable), "libchdb.so")
	for _, path := range []string{checkout, release, beside} {
		touch(t, path)
	}
	explicit := touch(t, t.TempDir(), "explicit.so")
	check := func(what, library string, f finder, want program) {
		t.Helper()
		got, notes, err := f.find(t.Context(), library)
		if err != nil || got.Library != want.Library || got.Executable != want.Executable || strings.Join(got.Arguments, " ") != strings.Join(want.Arguments, " ") {
			t.Errorf("%s: %+v, notes %q, error %v, want %+v", what, got, notes, err, want)
		}
	}
	check("a library given", explicit, f, program{Library: explicit})
	check("a library in the environment", "", f, program{Library: named})
	f.getenv = func(string) string { return "" }
	check("clickhouse on the PATH", "", f, program{Executable: "/opt/clickhouse", Arguments: []string{"server"}})
	delete(onPath, "clickhouse")
	check("clickhouse-server on the PATH", "", f, program{Executable: "/opt/clickhouse-server"})
	delete(onPath, "clickhouse-server")
	for _, path := range []string{beside, release, checkout} {
		check("a library found", "", f, program{Library: path})
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := f.find(t.Context(), ""); !errors.Is(err, ErrNoClickHouse) || !strings.Contains(err.Error(), "make deps") {
		t.Errorf("nothing to find: %v", err)
	}
}

func TestOldProgramIsPassedOver(t *testing.T) {
	onPath := map[string]string{"clickhouse": "/usr/bin/clickhouse"}
	for version, want := range map[string]string{"18.16.1": "24.10 or newer", "24.9.9.9": "24.10 or newer", "": "does not run"} {
		f := world(t, nil, onPath, version)
		library := touch(t, filepath.Dir(f.executable), "libchdb.so")
		got, notes, err := f.find(t.Context(), "")
		if err != nil || got.Library != library || len(notes) != 1 || !strings.Contains(notes[0], want) {
			t.Errorf("version %q: found %+v, notes %q, error %v", version, got, notes, err)
		}
	}
	f := world(t, nil, onPath, "24.10.1.2812")
	if got, _, err := f.find(t.Context(), ""); err != nil || got.Executable == "" {
		t.Errorf("version 24.10: found %+v, %v", got, err)
	}
}

// fakeClickHouse plays a clickhouse program: it records its arguments, answers on the port of its config file as far
// as Start asks, and ends well on SIGTERM, which it records too.
func fakeClickHouse(record string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM) //nolint:forbidigo // the fake's main
	defer stop()
	if os.Args[len(os.Args)-1] == "--version" {
		fmt.Fprintln(os.Stdout, "ClickHouse server version 25.8.1.1 (official build).")
		return 0
	}
	var config struct {
		HTTPPort int `xml:"http_port"`
	}
	text, err := os.ReadFile(strings.TrimPrefix(os.Args[len(os.Args)-1], "--config-file="))
	if err == nil {
		err = xml.Unmarshal(text, &config)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	note(record, strconv.Itoa(os.Getpid())+" "+strings.Join(os.Args[1:], " "))
	server := &http.Server{Addr: host + ":" + strconv.Itoa(config.HTTPPort), ReadTimeout: time.Minute}
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if sql, _ := io.ReadAll(r.Body); string(sql) == "SELECT version()" {
			fmt.Fprintln(w, "25.8.1.1")
		}
	})
	go func() {
		<-ctx.Done()
		note(record, "terminated")
		_ = server.Close()
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func note(record, line string) {
	file, err := os.OpenFile(record, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	fmt.Fprintln(file, line)
	if err := file.Close(); err != nil {
		panic(err)
	}
}

// fakeOnPath puts a clickhouse in front of the PATH and returns the file with its records.
func fakeOnPath(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	record := filepath.Join(dir, "record")
	script := "#!/bin/sh\n" + fakeEnv + "='" + record + "' exec '" + os.Args[0] + "' \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, "clickhouse"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+getenv("PATH"))
	return record
}

func TestProgramOnPath(t *testing.T) {
	record := fakeOnPath(t)
	cfg, _ := small(t)
	server := start(t, cfg)
	l := layout(cfg.Dir)
	if server.Version() != "25.8.1.1" || filepath.Dir(server.Source()) != filepath.Dir(record) {
		t.Errorf("version %s of %s", server.Version(), server.Source())
	}
	first := recorded(t, record)
	pid, arguments, _ := strings.Cut(first[0], " ")
	if want := "server --config-file=" + l.config(); arguments != want {
		t.Errorf("started with %q, want %q", arguments, want)
	}
	users, err := os.ReadFile(l.users())
	if err != nil || bytes.Contains(users, []byte("no_password")) {
		t.Errorf("a server program gets a user without a password, error %v:\n%s", err, users)
	}
	// Our guard dies: the program must not stay behind, and both are started again.
	if err := syscall.Kill(server.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a restart", func() bool { return server.Restarts() == 1 })
	old, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the program whose guard was killed", func() bool { return !alive(old) })
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	lines := recorded(t, record)
	if len(lines) != 3 || lines[2] != "terminated" {
		t.Errorf("recorded %q", lines)
	}
}

func recorded(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}
