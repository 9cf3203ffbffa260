// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// stopGrace is how long ClickHouse may take for a clean end. It waits 5 s for clients that keep connections open.
const stopGrace = 20 * time.Second

// errEnded is what exitReason makes of an exit that reported no error.
var errEnded = errors.New("exit status 0")

// process is one child. Its owner reads exited, then err.
type process struct {
	cmd      *exec.Cmd
	lifeline *os.File      // writing end of the pipe on the child's standard input; closing it ends the child
	exited   chan struct{} // closed when the child is gone
	err      error         // why it went; set before exited is closed
	logStart int64         // size of clickhouse.log when the child started
}

// spawn starts a child. It inherits the lock, so that the directory stays locked as long as it lives.
func spawn(p program, l layout, lock *os.File) (*process, error) {
	executable, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find own executable: %w", err)
	}
	spec, err := json.Marshal(childSpec{
		Program: p,
		Read:    []string{l.configDir(), filepath.Dir(p.Library)},
		Write:   []string{l.data(), l.logDir()},
	})
	if err != nil {
		return nil, fmt.Errorf("encode child's task: %w", err)
	}
	if err := clearLog(l); err != nil {
		return nil, err
	}
	output, err := os.OpenFile(l.childLog(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open child's log: %w", err)
	}
	defer output.Close() //nolint:errcheck // the child has its own descriptor; nothing was written to ours
	stdin, lifeline, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("open child's pipe: %w", err)
	}
	defer stdin.Close()             //nolint:errcheck // as above
	cmd := exec.Command(executable) //nolint:noctx,gosec // our own program, ended by its pipe: a context would kill it
	cmd.Dir = l.data()              // libchdb would prefer a config.xml in the working directory to ours
	cmd.Env = append(childEnvironment(), ChildEnv+"="+string(spec))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, output, output
	cmd.ExtraFiles = []*os.File{lock}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C in the terminal is for the parent, which then closes us
	child := &process{cmd: cmd, lifeline: lifeline, exited: make(chan struct{}), logStart: fileSize(l.log())}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start child process: %w", err), lifeline.Close())
	}
	go child.wait()
	return child, nil
}

// childEnvironment is all that the child sees of our environment. SQL can be made to show /proc/self/environ, and
// ours may hold keys to a cloud.
func childEnvironment() []string {
	environment := []string{"TZ=UTC"}
	for _, name := range []string{"PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"} {
		if value := getenv(name); value != "" {
			environment = append(environment, name+"="+value)
		}
	}
	return environment
}

func (p *process) wait() {
	p.err = exitReason(p.cmd.Wait())
	_ = p.lifeline.Close() // it may be closed already; a pipe with no reader has nothing to lose
	close(p.exited)
}

// exitReason says how a process ended, for a text that reads "ended: …".
func exitReason(err error) error {
	if err == nil {
		return errEnded
	}
	return err
}

// stop ends the child: cleanly if it ends within the grace, else by force, and then says so.
func (p *process) stop(grace time.Duration) error {
	if err := p.lifeline.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return errors.Join(fmt.Errorf("close child's pipe: %w", err), p.kill())
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.exited:
		if errors.Is(p.err, errEnded) {
			return nil
		}
		return fmt.Errorf("stop ClickHouse: %w", p.err)
	case <-timer.C:
		return errors.Join(fmt.Errorf("stop ClickHouse: still running after %v, killed", grace), p.kill())
	}
}

// kill ends the child at once and waits until it is gone. MergeTree tables survive this.
func (p *process) kill() error {
	err := p.cmd.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("kill ClickHouse: %w", err)
	}
	<-p.exited
	return nil
}

// fileSize is 0 for a file that is not there.
func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// readFrom returns the end of a file, but nothing from before an offset unless the file was rotated since.
func readFrom(path string, offset int64) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close() //nolint:errcheck // only read
	size := fileSize(path)
	if size < offset {
		offset = 0
	}
	text, err := io.ReadAll(io.NewSectionReader(file, max(offset, size-maxQuotedBytes), maxQuotedBytes))
	if err != nil {
		return ""
	}
	return string(text)
}
