// SPDX-License-Identifier: Apache-2.0

package gpu

import "strconv"

// Return is a driver's return code, numbered as nvmlReturn_t. Codes that are not named here are
// kept as they came.
type Return uint32

// The return codes that the agent tells apart.
const (
	Success               Return = 0
	Uninitialized         Return = 1
	InvalidArgument       Return = 2
	NotSupported          Return = 3
	NoPermission          Return = 4
	NotFound              Return = 6
	InsufficientSize      Return = 7
	DriverNotLoaded       Return = 9
	Timeout               Return = 10
	LibraryNotFound       Return = 12
	FunctionNotFound      Return = 13
	GPUIsLost             Return = 15
	ResetRequired         Return = 16
	LibRMVersion          Return = 18
	InUse                 Return = 19
	NoData                Return = 21
	InsufficientResources Return = 23
	DeprecatedVersion     Return = 25
	Deprecated            Return = 26
	NotReady              Return = 27
	GPUNotFound           Return = 28
	Unknown               Return = 999
)

var returnNames = map[Return]string{
	Success: "success", Uninitialized: "uninitialized", InvalidArgument: "invalid argument",
	NotSupported: "not supported", NoPermission: "no permission", NotFound: "not found",
	InsufficientSize: "insufficient size", DriverNotLoaded: "driver not loaded", Timeout: "timeout",
	LibraryNotFound: "library not found", FunctionNotFound: "function not found",
	GPUIsLost: "GPU is lost", ResetRequired: "GPU requires reset",
	LibRMVersion: "driver and library versions differ", InUse: "in use", NoData: "no data",
	InsufficientResources: "insufficient resources",
	DeprecatedVersion:     "argument version mismatch", Deprecated: "deprecated", NotReady: "not ready",
	GPUNotFound: "GPU not found", Unknown: "unknown error",
}

// String names the code in words.
func (r Return) String() string {
	if name, ok := returnNames[r]; ok {
		return name
	}
	return "NVML return " + strconv.FormatUint(uint64(r), 10)
}

// Error makes a Return usable as an error; Success is an error value too, so check with OK first.
func (r Return) Error() string { return r.String() }

// OK tells whether the call succeeded.
func (r Return) OK() bool { return r == Success }

// Unsupported tells that asking again is useless until the driver changes.
func (r Return) Unsupported() bool {
	return r == NotSupported || r == FunctionNotFound || r == InvalidArgument || r == DeprecatedVersion ||
		r == Deprecated || r == NoPermission
}

// Gone tells that the whole driver is gone: it must be opened again.
func (r Return) Gone() bool { return r == DriverNotLoaded || r == Uninitialized }

// Lost tells that the GPU itself is gone or unusable.
func (r Return) Lost() bool { return r == GPUIsLost || r == ResetRequired || r == GPUNotFound }
