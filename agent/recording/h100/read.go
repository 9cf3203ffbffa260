// SPDX-License-Identifier: Apache-2.0

package h100

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
)

// reader turns a figure, as nvidia-smi prints it, into what is stored.
type reader func(string) (batch.Cell, error)

// The readers of figures with a unit. Ratios are stored per mille, power in whole watts, as the agent
// rounds it.
var (
	plain              = figure("", 1)
	percent            = figure(" %", 10)
	mebibytes          = figure(" MiB", 1<<20)
	celsius            = figure(" C", 1)
	megahertz          = figure(" MHz", 1)
	watts              = figure(" W", 1)
	milliwatts         = figure(" W", 1000)
	microseconds       = figure(" us", 1)
	gigabytesPerSecond = figure(" GB/s", 1000)
)

// figure reads a decimal number with a unit behind it, and rounds its multiple to the nearest.
func figure(unit string, multiply float64) reader {
	return func(s string) (batch.Cell, error) {
		number, ok := strings.CutSuffix(s, unit)
		if !ok {
			return batch.Cell{}, fmt.Errorf("want the unit%s", unit)
		}
		v, err := strconv.ParseFloat(number, 64)
		if err != nil {
			return batch.Cell{}, err
		}
		return integer(int64(math.Round(v * multiply))), nil
	}
}

// oneOf reads a word as its place among those that there are.
func oneOf(words ...string) reader {
	return func(s string) (batch.Cell, error) {
		i := slices.Index(words, s)
		if i < 0 {
			return batch.Cell{}, fmt.Errorf("want one of %q", words)
		}
		return integer(int64(i)), nil
	}
}

// bits reads a mask in hexadecimal.
func bits(s string) (batch.Cell, error) {
	v, err := strconv.ParseInt(s, 0, 64)
	return integer(v), err
}

func text(s string) (batch.Cell, error) {
	if s == "" {
		return batch.Cell{}, errors.New("it is empty")
	}
	return batch.Cell{Text: s, OK: true}, nil
}

// inParentheses reads the part that uname does not tell.
func inParentheses(s string) (batch.Cell, error) {
	_, rest, _ := strings.Cut(s, "(")
	inner, _, ok := strings.Cut(rest, ")")
	if !ok {
		return batch.Cell{}, errors.New("want parentheses")
	}
	return text(inner)
}

// busID shortens the PCI domain to the four digits that the kernel, and so the agent, writes.
func busID(s string) (batch.Cell, error) {
	short, ok := strings.CutPrefix(s, "0000")
	if !ok || strings.Count(short, ":") != 2 {
		return batch.Cell{}, errors.New("want a domain of eight digits, bus and device")
	}
	return text(strings.ToLower(short))
}
