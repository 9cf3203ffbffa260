// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// refusal is why a stream is not taken, or ends. Its text is for the agent's operator, and says what to do.
type refusal struct {
	code   codes.Code
	reason string // for the metric: one of few words
	text   string
	retry  time.Duration // after which to try again; 0: a person must act first
}

func refuse(code codes.Code, reason, format string, args ...any) *refusal {
	return &refusal{code: code, reason: reason, text: fmt.Sprintf(format, args...)}
}

// after tells the agent when to try again.
func (r *refusal) after(wait time.Duration) *refusal {
	r.retry = wait
	r.text += fmt.Sprintf(": again in %s", wait.Round(time.Millisecond))
	return r
}

// Error implements error.
func (r *refusal) Error() string { return r.text }

// GRPCStatus is what the agent gets.
func (r *refusal) GRPCStatus() *status.Status {
	s := status.New(r.code, r.text)
	if r.retry == 0 {
		return s
	}
	detailed, err := s.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(r.retry)})
	if err != nil {
		return s // the text says it, too
	}
	return detailed
}

// refusedFor is the reason of a refusal, for the metric.
func refusedFor(err error) string {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.reason
	}
	return "other"
}
