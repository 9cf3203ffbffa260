// SPDX-License-Identifier: Apache-2.0

package up

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// roleEnv has the test program play one of the programs that up starts.
const roleEnv = "GPUFLEET_UP_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "":
		goleak.VerifyTestMain(m)
	case "say and end":
		fmt.Println("here I was")
	case "stay":
		fmt.Println("here I am")
		<-time.After(time.Hour)
	}
}
