// SPDX-License-Identifier: Apache-2.0

package golden

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// Hello, Answer and Identity are what the wire's golden files hold. Of the identity the encoder sets
// the rest.
var (
	Hello    = wire.Hello{Table: schema.EventsID, Epoch: startMilliseconds, Oldest: 42, Name: "gpu-node-17"}
	Answer   = wire.Answer{Kind: wire.Rejected, Sequence: 42, Window: 1 << 20, Reason: "column kind has 1 nulls, and it may have none"}
	Identity = wire.Identity{Table: schema.EventsID, Node: wire.NodeID("gpu-node-17"), Epoch: startMilliseconds, Sequence: 42}
)

// wireFiles are the bytes of the wire, each with a twin for people.
func wireFiles() (map[string][]byte, error) {
	record := Events()
	defer record.Release()
	plain, err := wire.EncodePlain(record, Identity)
	if err != nil {
		return nil, fmt.Errorf("golden batch: %w", err)
	}
	encoder, err := wire.NewEncoder()
	if err != nil {
		return nil, fmt.Errorf("golden batch: %w", err)
	}
	packed, err := encoder.Encode(record, Identity)
	if err != nil {
		return nil, fmt.Errorf("golden batch: %w", err)
	}
	events, ok := schema.TableByID(schema.EventsID)
	if !ok {
		return nil, errors.New("golden schema: no table of events")
	}
	files := map[string][]byte{}
	const folder = "schema/wire/testdata/"
	for name, content := range map[string][]byte{
		"hello": Hello.Append(nil), "answer": Answer.Append(nil), "schema": events.SchemaMessage(),
		"uncompressed.metadata": plain.Metadata, "uncompressed.header": plain.Header, "uncompressed.body": plain.Body,
		"zstd.metadata": packed.Metadata, "zstd.body": packed.Body,
	} {
		files[folder+name+".bin"] = content
		files[folder+name+".hex"] = []byte(hex.Dump(content))
	}
	for target, arguments := range map[string][]any{
		"FuzzParseHello/hello":           {Hello.Append(nil)},
		"FuzzParseAnswer/answer":         {Answer.Append(nil)},
		"FuzzCheckSchema/events":         {events.SchemaMessage()},
		"FuzzParseIdentity/uncompressed": {plain.Metadata, plain.Header, plain.Body},
		"FuzzParseIdentity/zstd":         {packed.Metadata, packed.Header, packed.Body},
		"FuzzDecode/uncompressed":        {false, plain.Identity.Rows, plain.Identity.Size, plain.Header, plain.Body},
		"FuzzDecode/zstd":                {true, packed.Identity.Rows, packed.Identity.Size, packed.Header, packed.Body},
	} {
		files[folder+"fuzz/"+target] = fuzzSeed(arguments)
	}
	return files, nil
}

// fuzzSeed writes the arguments of a fuzz target as go test reads them.
func fuzzSeed(arguments []any) []byte {
	var b bytes.Buffer
	b.WriteString("go test fuzz v1\n")
	for _, a := range arguments {
		switch a := a.(type) {
		case []byte:
			fmt.Fprintf(&b, "[]byte(%q)\n", a)
		default:
			fmt.Fprintf(&b, "%T(%v)\n", a, a)
		}
	}
	return b.Bytes()
}
