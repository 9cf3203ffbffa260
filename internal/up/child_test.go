// SPDX-License-Identifier: Apache-2.0

package up

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func newChild(t *testing.T, role string) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &child{
		logger: slog.New(slog.DiscardHandler), path: self, env: []string{roleEnv + "=" + role},
		logPath: filepath.Join(t.TempDir(), "child.log"), restartWait: time.Millisecond,
	}
}

// await waits for a condition that another process brings about.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for !condition() {
		select {
		case <-deadline:
			t.Fatalf("waited 30s for %s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestChildThatEndsIsStartedAgain(t *testing.T) {
	c := newChild(t, "say and end")
	c.start()
	await(t, "two restarts", func() bool { return c.restartCount() >= 2 })
	if err := c.stop(); err != nil {
		t.Error(err)
	}
	if words := c.lastWords(); !strings.Contains(words, "here I was") {
		t.Errorf("last words %q", words)
	}
}

func TestChildThatIsKilledIsStartedAgainAndStopsWhenAsked(t *testing.T) {
	c := newChild(t, "stay")
	c.start()
	lives := func(n int) func() bool {
		return func() bool { return strings.Count(c.lastWords(), "here I am") >= n }
	}
	await(t, "its first words", lives(1))
	c.kill()
	await(t, "its second life", lives(2))
	if err := c.stop(); err != nil {
		t.Error(err)
	}
	if got := c.restartCount(); got != 1 {
		t.Errorf("%d restarts, want 1", got)
	}
}

func TestChildThatCannotStartIsStopped(t *testing.T) {
	c := newChild(t, "")
	c.path = filepath.Join(t.TempDir(), "missing")
	c.start()
	await(t, "two tries", func() bool { return c.restartCount() >= 2 })
	if err := c.stop(); err != nil {
		t.Error(err)
	}
}
