// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/internal/golden"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// The golden files are bytes that agents in the field send: what is read from them must not change.
// Package golden's test compares the other direction, what is written.

func goldenFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name + ".bin")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGoldenBatchesAreRead(t *testing.T) {
	l := newLink(t, schema.EventsID)
	tests := []struct {
		name         string
		header, body []byte
	}{
		{"uncompressed", goldenFile(t, "uncompressed.header"), goldenFile(t, "uncompressed.body")},
		{"zstd", nil, goldenFile(t, "zstd.body")},
	}
	want := golden.Events()
	defer want.Release()
	for _, tt := range tests {
		metadata := goldenFile(t, tt.name+".metadata")
		identity, err := wire.ParseIdentity(metadata, tt.header, tt.body)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if identity.Key() != golden.Identity.Key() || identity.Rows != 3 {
			t.Errorf("%s: identity %+v, want %+v", tt.name, identity, golden.Identity)
		}
		got, err := l.decoder.Decode(identity, tt.header, tt.body)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		wantRecord(t, got, want)
		got.Release()
	}
}

func TestHexTwinsShowTheBytes(t *testing.T) {
	twins, err := filepath.Glob("testdata/*.hex")
	if err != nil || len(twins) == 0 {
		t.Fatalf("%d twins, %v", len(twins), err)
	}
	for _, twin := range twins {
		got, err := os.ReadFile(twin)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(twin), ".hex")
		if diff := cmp.Diff(hex.Dump(goldenFile(t, name)), string(got)); diff != "" {
			t.Errorf("%s (-bytes +twin):\n%s", name, diff)
		}
	}
}

func TestGoldenMessagesAreRead(t *testing.T) {
	hello, err := wire.ParseHello(goldenFile(t, "hello"))
	if err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(golden.Hello, hello); diff != "" {
		t.Errorf("hello (-want +got):\n%s", diff)
	}
	answer, err := wire.ParseAnswer(goldenFile(t, "answer"))
	if err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(golden.Answer, answer); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	l := newLink(t, schema.EventsID)
	if err := wire.CheckSchema(goldenFile(t, "schema"), l.table.WireSchema()); err != nil {
		t.Error(err)
	}
}
