// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"
)

// startStatements open the listeners, then wait: the INSERT reads our standard input, on which nothing is ever
// written, until the parent's end of the pipe closes. It needs no right to read files, as a SELECT from file() would.
const startStatements = "SYSTEM START LISTEN TCP; SYSTEM START LISTEN HTTP; " +
	"INSERT INTO FUNCTION null('line String') FROM INFILE '/dev/stdin' FORMAT LineAsString"

// libraryArguments is the command line of clickhouse-local that makes libchdb a server. The log level must be given
// here: libchdb does not take it from the config file.
func libraryArguments(l layout) []string {
	return []string{"--config-file=" + l.config(), "--log-level=warning", "--query=" + startStatements}
}

// library is the part of libchdb's C interface that is used.
type library struct {
	queryCommandLine func(argc int32, argv unsafe.Pointer) uintptr // runs to the end; returns a result or 0
	resultError      func(result uintptr) string
}

// runLibrary loads libchdb and stays in it until its statements are done, which is when the parent is gone.
func runLibrary(spec childSpec) error {
	lib, err := openLibrary(spec.Program.Library)
	if err != nil {
		return err
	}
	if err := sandbox(spec.Read, spec.Write); err != nil {
		return err
	}
	// The first argument is the program's name. Without it the config file's would be dropped.
	arguments := append([]string{"clickhouse"}, spec.Program.Arguments...)
	pointers := cStrings(arguments)
	result := lib.queryCommandLine(int32(len(arguments)), unsafe.Pointer(&pointers[0])) //nolint:gosec // a C call's argv
	runtime.KeepAlive(pointers)
	if result == 0 {
		return errors.New("libchdb returned no result")
	}
	if text := lib.resultError(result); text != "" {
		return errors.New(text)
	}
	return nil
}

func openLibrary(path string) (library, error) {
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return library{}, fmt.Errorf("load %s: %w", filepath.Base(path), err)
	}
	var lib library
	for name, function := range map[string]any{
		"chdb_query_cmdline": &lib.queryCommandLine,
		"chdb_result_error":  &lib.resultError,
	} {
		address, err := purego.Dlsym(handle, name)
		if err != nil {
			return library{}, fmt.Errorf("find %s in %s: %w", name, path, err)
		}
		purego.RegisterFunc(function, address)
	}
	return lib, nil
}

// cStrings is an argv: pointers to terminated strings, and a nil at the end.
func cStrings(texts []string) []*byte {
	pointers := make([]*byte, 0, len(texts)+1)
	for _, text := range texts {
		terminated := append([]byte(text), 0)
		pointers = append(pointers, &terminated[0])
	}
	return append(pointers, nil)
}
