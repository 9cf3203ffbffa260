// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/gpufleet/gpufleet/agent/internal/owner/cgroup"
)

const (
	bootSeconds = 1_790_000_000
	stat4711    = "4711 (python3) S 4700 4711 4700 0 -1 4194560 9 0 0 0 1 2 0 0 20 0 131 0 360050 1 2 18446744073709551615 1 1 0\n"
	status1000  = "Name:\tpython3\nState:\tS (sleeping)\nUid:\t1000\t1000\t1000\t1000\nGid:\t100\t100\t100\t100\n"
)

// procfs is a /proc with one process of a Slurm job.
func procfs() fstest.MapFS {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	return fstest.MapFS{
		"stat":         file("cpu  1 2 3 4\nctxt 5\nbtime " + strconv.Itoa(bootSeconds) + "\nprocesses 6\n"),
		"4711/stat":    file(stat4711),
		"4711/status":  file(status1000),
		"4711/cgroup":  file("0::/system.slice/slurmstepd.scope/job_123/step_0/user/task_0\n"),
		"4711/environ": file("PATH=/bin\x00AWS_SECRET=x\x00SLURM_JOB_ACCOUNT=vision\x00SLURM_JOB_USER=ada\x00SLURM_JOB_ACCOUNTS=no\x00"),
	}
}

func TestRead(t *testing.T) {
	want := Process{
		PID: 4711, Name: "python3", Started: time.Unix(bootSeconds+3600, 500_000_000), UID: "1000",
		Place: cgroup.Place{JobID: "123", StepID: "0"},
	}
	got, err := NewTable(procfs(), false).Read(4711)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v, (-want +got)\n%s", err, diff)
	}
	want.Account, want.User = "vision", "ada"
	got, err = NewTable(procfs(), true).Read(4711)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("with the environment: %v, (-want +got)\n%s", err, diff)
	}
}

// replacedFS gives a process's number to another one after so many files of it were opened.
type replacedFS struct {
	fs.FS
	opened, after int
	next          fs.FS
}

func (r *replacedFS) Open(name string) (fs.File, error) {
	if strings.HasPrefix(name, "4711/") {
		if r.opened++; r.opened > r.after {
			return r.next.Open(name)
		}
	}
	return r.FS.Open(name)
}

// A process that ends while it is read leaves its number, and perhaps some of the files, to another.
func TestANumberThatIsGivenAnewWhileItIsRead(t *testing.T) {
	next := procfs()
	next["4711/stat"] = &fstest.MapFile{Data: []byte(strings.Replace(strings.Replace(stat4711, "360050", "360051", 1), "python3", "other", 1))}
	next["4711/cgroup"] = &fstest.MapFile{Data: []byte("0::/system.slice/slurmstepd.scope/job_999/step_0\n")}
	gone := fstest.MapFS{"stat": next["stat"]}
	for name, files := range map[string]fs.FS{"another": next, "nobody": gone} {
		for after := range 6 { // stat, cgroup, status, environ, stat
			p, err := NewTable(&replacedFS{FS: procfs(), after: after, next: files}, true).Read(4711)
			switch {
			case after == 0 && name == "another": // it was the other all along
				if err != nil || p.Name != "other" || p.JobID != "999" {
					t.Errorf("%+v, %v", p, err)
				}
			case after == 5:
				if err != nil || p.Name != "python3" || p.JobID != "123" || p.Account != "vision" {
					t.Errorf("%+v, %v", p, err)
				}
			case !errors.Is(err, fs.ErrNotExist) || p.JobID != "" && err == nil:
				t.Errorf("%s after %d files: %+v, %v", name, after, p, err)
			}
		}
	}
}

// The environment is opened only where that was asked for, and only of Slurm jobs.
func TestEnvironmentStaysClosed(t *testing.T) {
	for _, asked := range []bool{false, true} {
		proc := procfs()
		if asked {
			proc["4711/cgroup"] = &fstest.MapFile{Data: []byte("0::/user.slice\n")}
		}
		watched := watchedFS{FS: proc}
		if _, err := NewTable(&watched, asked).Read(4711); err != nil {
			t.Fatal(err)
		}
		for _, name := range watched.opened {
			if strings.Contains(name, "environ") || strings.Contains(name, "cmdline") {
				t.Errorf("asked %v: %s was opened", asked, name)
			}
		}
	}
}

// watchedFS notes what is opened.
type watchedFS struct {
	fs.FS
	opened []string
}

func (w *watchedFS) Open(name string) (fs.File, error) {
	w.opened = append(w.opened, name)
	return w.FS.Open(name)
}

// deniedFS refuses to open some files.
type deniedFS struct {
	fs.FS
	denied string
}

func (d deniedFS) Open(name string) (fs.File, error) {
	if name == d.denied {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return d.FS.Open(name)
}

func TestReadErrors(t *testing.T) {
	if _, err := NewTable(procfs(), false).Read(4712); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a process that is not there: %v", err)
	}
	for _, name := range []string{"4711/stat", "4711/cgroup", "4711/status", "stat"} {
		_, err := NewTable(deniedFS{procfs(), name}, false).Read(4711)
		if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "process 4711") {
			t.Errorf("%s is hidden: %v", name, err)
		}
	}
	for name, text := range map[string]string{
		"4711/stat": "4711 python3 S", "4711/status": "Uid:\tx\n", "stat": "cpu 1\n",
	} {
		proc := procfs()
		proc[name] = &fstest.MapFile{Data: []byte(text)}
		if got, err := NewTable(proc, false).Read(4711); err == nil {
			t.Errorf("%s %q: %+v", name, text, got)
		}
	}
}

func TestParseStat(t *testing.T) {
	rest := " S" + strings.Repeat(" 1", startField-1) + " 77 0"
	for text, want := range map[string]string{
		"1 (a)" + rest: "a", "1 (a) (b)" + rest: "a) (b", "1 ()" + rest: "", "1 (Web Content)" + rest: "Web Content",
		"1 (x) R 1 1)" + rest: "x) R 1 1",
	} {
		if name, ticks, err := parseStat([]byte(text)); err != nil || name != want || ticks != 77 {
			t.Errorf("%q: %q, %d, %v", text, name, ticks, err)
		}
	}
	for _, text := range []string{"", "1", ")(", "1 (a) S 1", "1 (a)" + strings.Replace(rest, "77", "-77", 1)} {
		if name, ticks, err := parseStat([]byte(text)); err == nil {
			t.Errorf("%q: %q, %d", text, name, ticks)
		}
	}
}

func TestRuns(t *testing.T) {
	proc := procfs()
	table := NewTable(proc, false)
	p, err := table.Read(4711)
	if err != nil || !table.Runs(p) {
		t.Fatalf("it runs: %v", err)
	}
	if !NewTable(deniedFS{proc, "4711/stat"}, false).Runs(p) {
		t.Error("a process that is hidden is not one that has ended")
	}
	proc["4711/stat"] = &fstest.MapFile{Data: []byte(strings.Replace(stat4711, "360050", "360051", 1))}
	if table.Runs(p) {
		t.Error("another process has its number")
	}
	delete(proc, "4711/stat")
	if table.Runs(p) {
		t.Error("it has ended")
	}
}

func TestView(t *testing.T) {
	status := func(text string) fstest.MapFS {
		return fstest.MapFS{"self/status": &fstest.MapFile{Data: []byte(text)}}
	}
	if !ofAncestor(status("Name:\tx\nNSpid:\t4711\t7\n")) {
		t.Error("two numbers: this is the /proc of a namespace above")
	}
	for _, own := range []string{"NSpid:\t7\n", "NSpid:\n", "Name:\tx\n", ""} {
		if ofAncestor(status(own)) {
			t.Errorf("%q is taken for another namespace's", own)
		}
	}
	if ofAncestor(fstest.MapFS{}) {
		t.Error("an empty folder is taken for a /proc")
	}
}

func TestUsers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "passwd")
	if err := os.WriteFile(path, []byte("root:x:0:0:root:/root:/bin/sh\nada:x:1000:100::/home/ada:/bin/sh\ntoor:x:0:0::/:\nbroken\n\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	users := NewUsers(path)
	for uid, want := range map[string]string{"0": "root", "1000": "ada", "1001": "1001", "": ""} {
		if got := users.Name(uid); got != want {
			t.Errorf("user %q: %q, want %q", uid, got, want)
		}
	}
	for _, none := range []string{"", filepath.Join(t.TempDir(), "none")} {
		if got := NewUsers(none).Name("1000"); got != "1000" {
			t.Errorf("without a file: %q", got)
		}
	}
}

// FuzzParseStat: no text crashes the parser, and a name is a part of it.
func FuzzParseStat(f *testing.F) {
	f.Add([]byte(stat4711))
	f.Add([]byte("1 (a) (b) S 1"))
	f.Fuzz(func(t *testing.T, text []byte) {
		name, _, err := parseStat(text)
		if err == nil && !strings.Contains(string(text), "("+name+")") {
			t.Errorf("%q is not in %q", name, text)
		}
		if clean := Printable(string(text), maxNameRunes); !utf8.ValidString(clean) || utf8.RuneCountInString(clean) > maxNameRunes {
			t.Errorf("%q is not printable", clean)
		}
	})
}
