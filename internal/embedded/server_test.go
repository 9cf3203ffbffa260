// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestDirectoryIsKept(t *testing.T) {
	cfg, log := small(t)
	server := start(t, cfg)
	if !strings.HasPrefix(server.Version(), "2") || server.Source() == "" || server.PID() == 0 {
		t.Errorf("version %q from %q as process %d", server.Version(), server.Source(), server.PID())
	}
	must(t, server.Writer(), "CREATE TABLE gpufleet.kept (a UInt8) ENGINE = MergeTree ORDER BY a")
	must(t, server.Writer(), "INSERT INTO gpufleet.kept VALUES (7)")
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	again := start(t, cfg)
	if again.Writer() != server.Writer() || again.Reader() != server.Reader() {
		t.Errorf("endpoints changed from %v to %v", server.Writer(), again.Writer())
	}
	if got := must(t, again.Reader(), "SELECT a FROM gpufleet.kept"); got != "7" {
		t.Errorf("kept row reads %q", got)
	}
	checkModes(t, cfg.Dir)
	must(t, again.Writer(), "SELECT 'something to log'")
	checkNoPasswords(t, cfg.Dir, log.String(), again)
}

// checkModes makes sure that nobody else reads passwords or data.
func checkModes(t *testing.T, dir string) {
	t.Helper()
	l := layout(dir)
	for path, want := range map[string]fs.FileMode{
		dir: 0o700, l.data(): 0o700, l.configDir(): 0o700, l.logDir(): 0o700,
		l.state(): 0o600, l.config(): 0o600, l.users(): 0o600, l.childLog(): 0o600,
	} {
		info, err := os.Stat(path)
		if err != nil {
			t.Error(err)
		} else if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode().Perm(), want)
		}
	}
}

// checkNoPasswords looks for passwords wherever something is logged, and in the users' file.
func checkNoPasswords(t *testing.T, dir, log string, s *Server) {
	t.Helper()
	l := layout(dir)
	texts := map[string]string{"our log": log}
	for _, path := range []string{l.users(), l.log(), l.childLog(), l.childLog() + ".1"} {
		text, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		texts[path] = string(text)
	}
	for place, text := range texts {
		for _, secret := range []string{s.state.WriterPassword, s.state.ReaderPassword, s.state.DictionaryPassword} {
			if len(secret) < 20 || strings.Contains(text, secret) {
				t.Errorf("%s holds a password, or it is too short", place)
			}
		}
	}
}

func TestKilledChildIsRestarted(t *testing.T) {
	cfg, log := small(t)
	server := start(t, cfg)
	must(t, server.Writer(), "CREATE TABLE gpufleet.kept (a UInt8) ENGINE = MergeTree ORDER BY a")
	must(t, server.Writer(), "INSERT INTO gpufleet.kept VALUES (7)")
	killed := server.PID()
	if err := syscall.Kill(killed, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a restart", func() bool { return server.Restarts() == 1 })
	if got := must(t, server.Reader(), "SELECT a FROM gpufleet.kept"); got != "7" {
		t.Errorf("row inserted before the kill reads %q", got)
	}
	if server.PID() == killed || server.PID() == 0 {
		t.Errorf("process %d was killed and process %d serves", killed, server.PID())
	}
	if !strings.Contains(log.String(), "clickhouse ended by itself") || !strings.Contains(log.String(), "signal: killed") {
		t.Errorf("the log does not say what happened:\n%s", log)
	}
	// The query log is written again, though the directory of the old one was there.
	must(t, server.Writer(), "SELECT 'after the restart'")
	must(t, server.Writer(), "SYSTEM FLUSH LOGS")
	if got := must(t, server.Writer(), "SELECT count() > 0 FROM system.query_log WHERE query = 'SELECT \\'after the restart\\''"); got != "1" {
		t.Error("system.query_log has no query from after the restart")
	}
}

func TestSettingsTakeEffect(t *testing.T) {
	cfg, _ := small(t)
	server := start(t, cfg)
	for name, want := range map[string]string{
		"max_server_memory_usage": "1073741824", "mark_cache_size": "67108864", "background_pool_size": "2",
		"keep_alive_timeout": "3600", "max_concurrent_queries": "100", "path": layout(cfg.Dir).data() + "/",
	} {
		if got := must(t, server.Writer(), "SELECT value FROM system.server_settings WHERE name = '"+name+"'"); got != sqlText(want) {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got := must(t, server.Writer(), "SELECT name FROM system.tables WHERE database = 'system' AND name LIKE '%\\_log'"); got != "query_log" {
		t.Errorf("system logs: %q", got)
	}
	if got := must(t, server.Writer(), "SELECT getSetting('async_insert'), getSetting('max_threads')"); got != "false\t2" {
		t.Errorf("async_insert and max_threads are %q", got)
	}
	connection, err := net.Dial("tcp", server.Writer().TCPAddress())
	if err != nil {
		t.Fatal(err)
	}
	if err := connection.Close(); err != nil {
		t.Error(err)
	}
}

// TestSignalsAreForTheParent sends what a service manager sends to every process of a service.
func TestSignalsAreForTheParent(t *testing.T) {
	cfg, _ := small(t)
	server := start(t, cfg)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		if err := syscall.Kill(server.PID(), sig); err != nil {
			t.Fatal(err)
		}
		if got := must(t, server.Reader(), "SELECT sleep(0.1)"); got != "0" {
			t.Errorf("after %v: %q", sig, got)
		}
	}
	if server.Restarts() != 0 {
		t.Errorf("%d restarts", server.Restarts())
	}
}

func TestCloseDuringBackoff(t *testing.T) {
	cfg, log := small(t)
	find, err := newFinder()
	if err != nil {
		t.Fatal(err)
	}
	found, _, err := find.find(t.Context(), "")
	if err != nil || found.Library == "" {
		t.Fatalf("this test takes the library away: found %+v, %v", found, err)
	}
	cfg.Library = filepath.Join(t.TempDir(), "libchdb.so")
	if err := os.Symlink(found.Library, cfg.Library); err != nil {
		t.Fatal(err)
	}
	server := start(t, cfg)
	if err := os.Remove(cfg.Library); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(server.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "two restarts in vain", func() bool { return strings.Count(log.String(), "clickhouse not restarted") >= 2 })
	if err := server.Close(); err != nil {
		t.Errorf("close during back-off: %v", err)
	}
	if server.Restarts() != 0 || server.PID() != 0 {
		t.Errorf("%d restarts, process %d", server.Restarts(), server.PID())
	}
	if err := server.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

func TestChildDiesWithParent(t *testing.T) {
	cfg, _ := small(t)
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), parentEnv+"="+cfg.Dir)
	parent.Stderr = os.Stderr
	stdin, err := parent.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || !alive(child) {
		t.Fatalf("child is %q: %v", line, err)
	}
	if _, err := Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "process "+strconv.Itoa(parent.Process.Pid)) {
		t.Errorf("second start in the same directory: %v", err)
	}
	// A client that keeps its connection makes the child linger for some seconds.
	lingering := keepConnection(t, cfg)
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := parent.Wait(); err == nil {
		t.Error("the parent ended well though killed")
	}
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := Start(short, cfg); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "left behind") {
		t.Errorf("start beside an orphan: %v", err)
	}
	if err := lingering.Close(); err != nil {
		t.Error(err)
	}
	start(t, cfg) // waits for the lock, which the child holds as long as it lives
	eventually(t, "the end of the orphan", func() bool { return !alive(child) })
}

// keepConnection asks one question over HTTP and leaves the connection open.
func keepConnection(t *testing.T, cfg Config) net.Conn {
	t.Helper()
	s, err := readState(layout(cfg.Dir))
	if err != nil {
		t.Fatal(err)
	}
	connection, err := net.Dial("tcp", s.reader().HTTPAddress())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := connection.Write([]byte("GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("ping: %v, %v", response, err)
	}
	if err := response.Body.Close(); err != nil { // the connection stays
		t.Error(err)
	}
	return connection
}

func TestAttach(t *testing.T) {
	cfg, _ := small(t)
	if _, _, err := Attach(t.Context(), cfg.Dir); err == nil || !strings.Contains(err.Error(), "ever started") {
		t.Errorf("attach to an empty directory: %v", err)
	}
	server := start(t, cfg)
	writer, reader, err := Attach(t.Context(), cfg.Dir)
	if err != nil || writer != server.Writer() || reader != server.Reader() {
		t.Errorf("attached to %v and %v: %v", writer, reader, err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Attach(t.Context(), cfg.Dir); err == nil || !strings.Contains(err.Error(), "no embedded ClickHouse runs") {
		t.Errorf("attach to a stopped server: %v", err)
	}
}

// TestPrivateServersTakeTurns: nobody attaches to a server that ends with its command, and who wants the directory waits.
func TestPrivateServersTakeTurns(t *testing.T) {
	cfg, _ := small(t)
	cfg.Private, cfg.LockWait = true, time.Minute
	first := start(t, cfg)
	if _, _, err := Attach(t.Context(), cfg.Dir); err == nil || !strings.Contains(err.Error(), "for others") {
		t.Errorf("attach to a private server: %v", err)
	}
	impatient := cfg
	impatient.LockWait = 50 * time.Millisecond
	if _, err := Start(t.Context(), impatient); err == nil || !strings.Contains(err.Error(), "is held by process") {
		t.Errorf("second start without patience: %v", err)
	}
	second := make(chan error, 1)
	go func() {
		cfg.Private = false
		server, err := Start(t.Context(), cfg)
		if err == nil {
			_, _, err = Attach(t.Context(), cfg.Dir)
			err = errors.Join(err, server.Close())
		}
		second <- err
	}()
	select {
	case err := <-second:
		t.Errorf("the second did not wait for the first: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-second; err != nil {
		t.Errorf("the second's turn: %v", err)
	}
}

// TestForgottenRunIfChild keeps a program that forgets the call from starting itself without end.
func TestForgottenRunIfChild(t *testing.T) {
	cfg, _ := small(t)
	t.Setenv(ChildEnv, "{}")
	if _, err := Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "RunIfChild") {
		t.Errorf("start in a child: %v", err)
	}
}

func TestStartErrors(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	taken := listener.Addr().(*net.TCPAddr).Port
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("not a library"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Config)
		want   []string
	}{
		"http port taken":  {func(c *Config) { c.HTTPPort = taken }, []string{strconv.Itoa(taken), "--clickhouse-http-port"}},
		"tcp port taken":   {func(c *Config) { c.TCPPort = taken }, []string{strconv.Itoa(taken), "--clickhouse-tcp-port"}},
		"disk full":        {func(c *Config) { c.MinFreeBytes = 1 << 60 }, []string{"MiB free", "another directory"}},
		"no directory":     {func(c *Config) { c.Dir = filepath.Join(plain, "data") }, []string{"create data directory", plain}},
		"no library":       {func(c *Config) { c.Library = plain + ".so" }, []string{"make deps", plain + ".so"}},
		"not a library":    {func(c *Config) { c.Library = plain }, []string{"exit status 1; it said:", "load plain"}},
		"invalid settings": {func(c *Config) { c.Threads = -1 }, []string{"threads -1"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, _ := small(t)
			c.change(&cfg)
			server, err := Start(t.Context(), cfg)
			if err == nil {
				t.Fatalf("started, as process %d: %v", server.PID(), server.Close())
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error does not say %q: %v", want, err)
				}
			}
		})
	}
}
