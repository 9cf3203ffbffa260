// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// ErrMissing means that a program is not in the folder of programs.
var ErrMissing = errors.New("not installed")

// Program is a peer that runs.
type Program struct {
	Version string
	cmd     *exec.Cmd
	log     *os.File
	exited  chan struct{}
	client  *http.Client
	base    string // URL
}

// readyWithin is how long a program may take to answer.
const readyWithin = 30 * time.Second

// start runs a program and waits until it is ready. What it says goes into a file beside its data.
func start(ctx context.Context, folder, name, dir, address string, ready func(context.Context, *Program) error, args ...string) (*Program, error) {
	path := filepath.Join(folder, name)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w in %s", name, ErrMissing, folder)
	}
	version, err := versionOf(ctx, path)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &Program{
		Version: version, cmd: exec.CommandContext(ctx, path, args...), log: log, exited: make(chan struct{}), //nolint:gosec // a program that the operator has installed
		client: &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 8}}, base: "http://" + address,
	}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Dir = log, log, dir
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = 10 * time.Second
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", name, err), log.Close())
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	if err := p.await(ctx, ready); err != nil {
		p.Stop()
		return nil, fmt.Errorf("start %s: %w: %s", name, err, lastWords(log.Name()))
	}
	return p, nil
}

// versionOf is the version of the module that a program was built from or, where that is none, what it says itself.
func versionOf(ctx context.Context, path string) (string, error) {
	if info, err := buildinfo.ReadFile(path); err == nil && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version, nil
	}
	text, _ := exec.CommandContext(ctx, path, "--version").CombinedOutput()
	for field := range strings.FieldsSeq(string(text)) {
		if digits := strings.TrimPrefix(field, "v"); digits != "" && digits[0] >= '0' && digits[0] <= '9' {
			return field, nil
		}
	}
	return "", fmt.Errorf("%s does not say its version: build it with .ci/peers; it says %.200q", path, text)
}

func (p *Program) await(ctx context.Context, ready func(context.Context, *Program) error) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for {
		err := ready(ctx, p)
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return fmt.Errorf("it is not ready: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// answers is the usual way to be ready: to answer under a path.
func answers(path string) func(context.Context, *Program) error {
	return func(ctx context.Context, p *Program) error {
		_, err := p.Get(ctx, path)
		return err
	}
}

// lastWords are the end of a log.
func lastWords(path string) string {
	text, _ := os.ReadFile(path)
	return string(text[max(0, len(text)-500):])
}

// PID is the process's id.
func (p *Program) PID() int { return p.cmd.Process.Pid }

// Stop ends the program and waits for it.
func (p *Program) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
	p.client.CloseIdleConnections()
	_ = p.log.Close()
}

// Get asks the program for a path, and reads the whole answer.
func (p *Program) Get(ctx context.Context, path string) ([]byte, error) {
	return p.do(ctx, http.MethodGet, path, nil, nil)
}

// Post sends a body to a path.
func (p *Program) Post(ctx context.Context, path string, body []byte, headers map[string]string) error {
	_, err := p.do(ctx, http.MethodPost, path, body, headers)
	return err
}

func (p *Program) do(ctx context.Context, method, path string, body []byte, headers map[string]string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, p.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	response, err := p.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode/100 != 2 {
		err = fmt.Errorf("%s: %s: %.300s", p.base+path, response.Status, text)
	}
	return text, err
}

// DirBytes is what the files in a folder take.
func DirBytes(dir string) (sum int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // merged away
		}
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	return sum, err
}
