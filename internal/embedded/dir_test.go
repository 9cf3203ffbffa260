// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"encoding/xml"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestConfigIsEscapedXML(t *testing.T) {
	cfg := Config{Dir: `/d/a & <b> "c"`, MemoryLimitBytes: 1 << 30, Threads: 1}
	s := state{HTTPPort: 1, TCPPort: 2, WriterPassword: "w", ReaderPassword: "r", DictionaryPassword: "<&>"}
	for _, library := range []bool{true, false} {
		values := newSettings(cfg, layout(cfg.Dir), s, library)
		config, err := render("config.xml", configTemplate, values)
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Path     string `xml:"path"`
			Log      string `xml:"logger>log"`
			Password string `xml:"named_collections>gpufleet_dictionary>password"`
		}
		if err := xml.Unmarshal(config, &got); err != nil {
			t.Fatal(err)
		}
		if got.Path != cfg.Dir+"/data/" || got.Log != cfg.Dir+"/log/clickhouse.log" || got.Password != "<&>" {
			t.Errorf("config reads back as %+v", got)
		}
		users, err := render("users.xml", usersTemplate, values)
		if err != nil {
			t.Fatal(err)
		}
		checkXML(t, string(users))
		if strings.Contains(string(users), "<no_password/>") != library {
			t.Errorf("library %v: users without a password:\n%s", library, users)
		}
	}
}

func checkXML(t *testing.T, text string) {
	t.Helper()
	decoder := xml.NewDecoder(strings.NewReader(text))
	for {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
	}
}

func TestState(t *testing.T) {
	l := layout(t.TempDir())
	first, err := readState(l)
	if err != nil || first.WriterPassword == first.ReaderPassword || first.HTTPPort != 0 {
		t.Fatalf("new state %+v: %v", first, err)
	}
	first.HTTPPort = 4711
	if err := first.write(l); err != nil {
		t.Fatal(err)
	}
	if again, err := readState(l); err != nil || again != first {
		t.Errorf("state reads back as %+v: %v", again, err)
	}
	for _, text := range []string{"{", "{}", `{"writer_password": "w", "reader_password": "r"}`} {
		if err := os.WriteFile(l.state(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readState(l); err == nil || !strings.Contains(err.Error(), l.state()) {
			t.Errorf("state %q: %v", text, err)
		}
	}
}

func TestPorts(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	taken := listener.Addr().(*net.TCPAddr).Port
	// A port of the last run that somebody else has now is given up; one that is free is kept.
	first, second, err := choosePorts(t.Context(), Config{}, state{HTTPPort: taken})
	if err != nil || first == taken || first == second {
		t.Fatalf("ports %d and %d: %v", first, second, err)
	}
	again, _, err := choosePorts(t.Context(), Config{}, state{HTTPPort: first})
	if err != nil || again != first {
		t.Errorf("port %d of the last run became %d: %v", first, again, err)
	}
	// The other port's old number may be asked for by name.
	if _, tcp, err := choosePorts(t.Context(), Config{HTTPPort: second}, state{HTTPPort: first, TCPPort: second}); err != nil || tcp == second {
		t.Errorf("both ports are %d: %v", tcp, err)
	}
}

func TestLastWords(t *testing.T) {
	l := layout(t.TempDir())
	if err := l.create(0); err != nil {
		t.Fatal(err)
	}
	log := "before\n" + strings.Repeat("noise\n", 50000)
	if err := os.WriteFile(l.log(), []byte(log+"Code: 1\n\n0. ? @ 0x0001\n12. frame\nend\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.childLog(), []byte("child\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := lastWords(l, int64(len(log))); got != "child\nCode: 1\nend" {
		t.Errorf("last words %q", got)
	}
	if got := strings.Split(lastWords(l, 0), "\n"); len(got) != 1+quotedLines || got[quotedLines] != "end" {
		t.Errorf("last words of a long log %q", got)
	}
	if got := lastWords(l, 1<<40); !strings.HasSuffix(got, "end") {
		t.Errorf("last words of a rotated log %q", got)
	}
	if got := lastWords(layout(filepath.Join(t.TempDir(), "none")), 0); got != "" {
		t.Errorf("last words of nobody %q", got)
	}
}
