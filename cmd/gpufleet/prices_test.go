// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
)

// priceFile writes a file of prices; the command must be given its whole path.
func priceFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPrices(t *testing.T) {
	db, address := database(t)
	file := priceFile(t, "feed.csv", "type,cost,region\np5.48xlarge,55.04,us-east-1\np4d.24xlarge,0,us-east-1\nx.large,1,us-east-1\n")
	imported := []string{"prices", "import", file, "--provider", "aws", "--column", "type=instance_type,cost=price_per_hour", "--clickhouse", address}
	gpufleet(t, "", imported...).want(t, exitFailed, "", "to import INSERT too") // the reader may not
	t.Setenv(passwordEnv, db.Writer.Password)
	imported[len(imported)-1] = fmt.Sprintf("http://%s@%s/%s", db.Writer.User, db.Writer.HTTPAddress(), db.Name)
	gpufleet(t, "", append(imported, "--dry-run")...).want(t, 0, "feed.csv: 1 prices usable (not stored: a dry run), 2 in quarantine, 0 twice in the file\n       1  unknown_instance\n", "")
	gpufleet(t, "", append(imported, "--as-of", "2026-07-20")...).want(t, 0, "(1 new, 0 known), 2 in quarantine", "")
	gpufleet(t, "", append(imported, "--as-of", "2026-07-21")...).want(t, 0, "(0 new, 1 known), 2 in quarantine", "")
	t.Setenv(passwordEnv, db.Reader.Password)
	gpufleet(t, "", "prices", "list", "--clickhouse", address, "--provider", "AWS", "--instance", "P5.48xlarge").want(t, 0,
		"\n6.88\tUSD\tlist\tH100 SXM 80GB\taws\tp5.48xlarge\tus-east-1\t\ton_demand\t8\t55.04\t2026-07-20 00:00:00.000\t\\N\tfeed.csv\n", "")
	gpufleet(t, "", "prices", "import", "--known", "--dry-run").want(t, 0, "aws-2026-07-20.csv: ", "")
	gpufleet(t, "", "prices", "list", "--clickhouse", address, "--instance", "'; DROP", "--format", "CSV").want(t, 0, "", "")
	gpufleet(t, "", "prices", "quarantine", "--clickhouse", address, "--instance", "p4d.24xlarge", "--format", "CSV").want(t, 0, `"zero_price","a price of 0","feed.csv",3`, "")
}

func TestPricesOfOtherFormats(t *testing.T) {
	azure := priceFile(t, "azure.json", `{"Items":[{"currencyCode":"USD","retailPrice":98.32,"armRegionName":"eastus","skuName":"x","unitOfMeasure":"1 Hour","type":"Consumption","armSkuName":"Standard_ND96isr_H100_v5"}]}`)
	gpufleet(t, "", "prices", "import", azure, "--format", "azure", "--dry-run").want(t, 0, "azure.json: 1 prices usable", "")
	oci := priceFile(t, "oci.json", `{"items":[{"partNumber":"B98415","metricName":"GPU Per Hour","currencyCodeLocalizations":[{"currencyCode":"USD","prices":[{"model":"PAY_AS_YOU_GO","value":0}]}]}]}`)
	gpufleet(t, "", "prices", "import", oci, "--format", "oci", "--dry-run").want(t, exitNothing, "1  zero_price\n          oci BM.GPU.H100.8 in every region, on_demand, list: a price of 0\n", "")
}

func TestPricesErrors(t *testing.T) {
	db, address := database(t)
	file := priceFile(t, "feed.csv", "provider,instance_type,price_per_hour\naws,p5.48xlarge,55.04\n")
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"none.csv"}, "none.csv"},
		{nil, "give a file of prices"},
		{[]string{file, "--known"}, "give one or the other"},
		{[]string{file, "--format", "xml"}, "want one of csv (with a header), aws"},
		{[]string{file, "--format", "oci"}, "read OCI prices from feed.csv"},
		{[]string{file, "--as-of", "soon"}, "--as-of"},
		{[]string{file, "--as-of", "2999-01-01"}, "has not come yet"},
		{[]string{file}, "no pipeline has run"},
		{[]string{file, "--column", "cost=price"}, `"price" is no column of prices`},
	} {
		gpufleet(t, "", append([]string{"prices", "import"}, tt.args...)...).want(t, exitFailed, "", tt.want)
	}
	clickhousetest.Exec(t, db.Writer, "DROP TABLE prices")
	gpufleet(t, "", "prices", "import", file, "--clickhouse", address).want(t, exitFailed, "", "prices")
}

// TestQueriesOfTheDocuments runs what docs/prices.md and docs/bills.md show.
func TestQueriesOfTheDocuments(t *testing.T) {
	docs, err := filepath.Abs(filepath.Join("..", "..", "docs")) // a command runs in a folder of its own
	if err != nil {
		t.Fatal(err)
	}
	_, address := database(t)
	for name, least := range map[string]int{"prices.md": 3, "bills.md": 2} {
		text, err := os.ReadFile(filepath.Join(docs, name))
		if err != nil {
			t.Fatal(err)
		}
		blocks := strings.Split(string(text), "```sql\n")[1:]
		if len(blocks) < least {
			t.Errorf("%s: %d queries", name, len(blocks))
		}
		for _, block := range blocks {
			sql, _, _ := strings.Cut(block, "```")
			gpufleet(t, sql, "query", "-", "--clickhouse", address).want(t, 0, "\n", "")
		}
	}
}
