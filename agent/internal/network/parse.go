// SPDX-License-Identifier: Apache-2.0

package network

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// The kernel writes a port's files like this (drivers/infiniband/core/sysfs.c, net/core/net-sysfs.c):
//
//	state        4: ACTIVE
//	phys_state   5: LinkUp
//	rate         400 Gb/sec (4X NDR)
//	counters/*   317548853677        "N/A (no PMA)" from kernels that cannot ask the port
//	speed        200000              of the network device, Mb/s; -1 while it is down

// longestName bounds the names that are taken from sysfs into rows and messages.
const longestName = 64

// state is a numbered state with its name.
type state struct {
	code uint8
	name string // "" if it is not known
}

// parseState reads a state or a physical state.
func parseState(text string) (state, error) {
	number, name, found := strings.Cut(strings.TrimSpace(text), ":")
	code, err := strconv.ParseUint(number, 10, 8)
	name = strings.TrimSpace(name)
	if !found || err != nil || !isName(name) {
		return state{}, fmt.Errorf("state %.40q: want a number and a name, as in \"4: ACTIVE\"", text)
	}
	return state{code: uint8(code), name: name}, nil
}

// isName tells whether a text can stand in a row as a name.
func isName(text string) bool {
	if text == "" || len(text) > longestName {
		return false
	}
	return !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' })
}

// highestRate is far above what any port can do: beyond it a text is not a rate.
const highestRate = 1e6

// rate is how fast a port runs.
type rate struct {
	gigabits float64 // per second; 0: not known
	lanes    string  // such as "4X NDR"; "" if the port does not say
}

func (r rate) String() string {
	text := strconv.FormatFloat(r.gigabits, 'f', -1, 64) + " Gb/s"
	if r.lanes != "" {
		text += " (" + r.lanes + ")"
	}
	return text
}

// parseRate reads a port's rate.
func parseRate(text string) (rate, error) {
	number, rest, found := strings.Cut(strings.TrimSpace(text), " Gb/sec")
	gigabits, err := strconv.ParseFloat(number, 64)
	if !found || err != nil || math.IsNaN(gigabits) || gigabits <= 0 || gigabits > highestRate {
		return rate{}, fmt.Errorf("rate %.40q: want as in \"400 Gb/sec (4X NDR)\"", text)
	}
	lanes := strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(rest), "("), ")")
	if !isName(lanes) {
		lanes = ""
	}
	return rate{gigabits: gigabits, lanes: lanes}, nil
}

// parseSpeed reads the speed of a network device.
func parseSpeed(text string) (rate, error) {
	megabits, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil || megabits <= 0 || megabits > highestRate*1000 {
		return rate{}, fmt.Errorf("speed %.40q: want megabits per second", text)
	}
	return rate{gigabits: float64(megabits) / 1000}, nil
}

// parseCount reads a counter.
func parseCount(text string) (uint64, error) {
	count, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("counter %.40q: want a whole number", text)
	}
	return count, nil
}
