// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
)

// OrdersHeader is the gRPC header by which a stream says what its agent can be asked to do. A collector sends no
// Order to a stream that does not name it there; one that is older than orders does not look.
const OrdersHeader = "gpufleet-orders"

// OrderBurst in OrdersHeader says that the agent takes orders of a Burst.
const OrderBurst = "burst"

// Order is what a collector asks an agent to do, in the reason of an Answer of kind Ordered:
//
//	{"burst": {"gpu": "GPU-…", "seconds": 10, "reason": "…"}}
//
// An agent leaves out what it does not know. What it is told it judges by its own limits: an order is a wish.
type Order struct {
	Burst *Burst `json:"burst,omitempty"` // read GPUs at 10 Hz for a while
}

// Burst says which GPUs are to be read at 10 Hz.
type Burst struct {
	GPU     string  `json:"gpu,omitempty"`     // UUID; "": all of the node
	Seconds float64 `json:"seconds,omitempty"` // 0: as the agent is configured
	Reason  string  `json:"reason,omitempty"`
}

// Limits of an order, so that it fits an answer.
const (
	maxOrderText    = 128  // bytes of a GPU or a reason
	maxOrderSeconds = 3600 // agents take less
)

// Validate tells what an order lacks, or what is too much of it.
func (o Order) Validate() error {
	if o.Burst == nil {
		return fmt.Errorf("order of nothing that this version knows: %w", ErrMalformed)
	}
	if s := o.Burst.Seconds; !(s >= 0 && s <= maxOrderSeconds) {
		return fmt.Errorf("order of a burst of %g seconds: 0 to %d: %w", s, maxOrderSeconds, ErrMalformed)
	}
	for name, text := range map[string]string{"GPU": o.Burst.GPU, "reason": o.Burst.Reason} {
		if len(text) > maxOrderText {
			return fmt.Errorf("order of a burst: %s of %d bytes, at most %d: %w", name, len(text), maxOrderText, ErrMalformed)
		}
		for _, r := range text {
			if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
				return fmt.Errorf("order of a burst: %s %q cannot be printed: %w", name, text, ErrMalformed)
			}
		}
	}
	return nil
}

// Answer is the order as it travels.
func (o Order) Answer() (Answer, error) {
	if err := o.Validate(); err != nil {
		return Answer{}, err
	}
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // a character takes two bytes at the most, and the whole fits
	if err := encoder.Encode(o); err != nil {
		return Answer{}, fmt.Errorf("write order: %w", err)
	}
	return Answer{Kind: Ordered, Reason: strings.TrimSuffix(text.String(), "\n")}, nil
}

// ParseOrder reads the order of an Answer of kind Ordered. Every error is an ErrMalformed.
func ParseOrder(reason string) (Order, error) {
	var o Order
	if err := json.Unmarshal([]byte(reason), &o); err != nil {
		return Order{}, fmt.Errorf("order %.40q: %w: %w", reason, err, ErrMalformed)
	}
	return o, o.Validate()
}
