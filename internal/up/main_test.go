// SPDX-License-Identifier: Apache-2.0

package up

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
)

// roleEnv has the test program play one of the programs that up starts.
const roleEnv = "GPUFLEET_UP_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) { //nolint:forbidigo // this is a main
	case "":
		clickhousetest.Main(m) // with a check for goroutines that are left behind
	case "say and end":
		fmt.Fprintln(os.Stdout, "here I was")
	case "stay":
		fmt.Fprintln(os.Stdout, "here I am")
		<-time.After(time.Hour)
	}
}
