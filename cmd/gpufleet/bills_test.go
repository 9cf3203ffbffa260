// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"testing"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
)

func TestBillsCommands(t *testing.T) {
	db, address := database(t)
	bill := priceFile(t, "focus.csv", "ProviderName,BillingAccountId,BillingCurrency,BillingPeriodStart,BillingPeriodEnd,ChargePeriodStart,ChargePeriodEnd,ChargeCategory,ServiceCategory,ResourceId,RegionId,ConsumedQuantity,ConsumedUnit,SkuPriceDetails,EffectiveCost,BilledCost\n"+
		`AWS,a,USD,2026-10-01,2026-11-01,2026-10-02 00:00:00,2026-10-02 01:00:00,Usage,Compute,i-01,us-east-1,1,Hours,"{""InstanceType"":""p5.48xlarge""}",60.544,60.544`+"\n"+
		"AWS,a,USD,2026-10-01,2026-11-01,never,2026-10-02 01:00:00,Usage,Compute,i-01,us-east-1,1,Hours,,60,60\n")
	gpufleet(t, "", "bills", "import", bill, "--dry-run").want(t, 0, "1 rows count (not stored: a dry run), 1 of them of machines, 1 in quarantine\n  cost 60.544 USD, invoiced 60.544\n  quarantined       1  bad_period\n", "")
	gpufleet(t, "", "bills", "drift", "--most", "5", "--clickhouse", address).want(t, exitNothing, "", "")
	t.Setenv(passwordEnv, db.Writer.Password)
	writer := fmt.Sprintf("http://%s@%s/%s", db.Writer.User, db.Writer.HTTPAddress(), db.Name)
	gpufleet(t, "", "bills", "import", bill, "--clickhouse", writer).want(t, 0, "aws 2026-10, account a: 1 rows count (stored)", "")
	gpufleet(t, "", "bills", "import", bill, "--clickhouse", writer).want(t, 0, "(known already, row by row)", "")
	clickhousetest.Exec(t, db.Writer, "INSERT INTO prices (provider, instance_type, region, life_cycle, basis, currency, valid_from, price_per_hour, price_per_gpu_hour) VALUES ('aws', 'p5.48xlarge', 'us-east-1', 'on_demand', 'list', 'USD', '2026-01-01', 55.04, 6.88)")
	t.Setenv(passwordEnv, db.Reader.Password)
	gpufleet(t, "", "bills", "drift", "--clickhouse", address, "--format", "CSV").want(t, 0, `"aws","2026-10-01 00:00:00","USD",1,1,8,60.544,8,60.544,55.04,10`, "")
	gpufleet(t, "", "bills", "drift", "--most", "10", "--clickhouse", address).want(t, 0, "", "")
	gpufleet(t, "", "bills", "drift", "--most", "5", "--clickhouse", address).want(t, exitFound, "", "")
	empty := priceFile(t, "empty.csv", "BilledCost,BillingCurrency,BillingPeriodStart,ChargeCategory,ChargePeriodStart,ChargePeriodEnd\n")
	gpufleet(t, "", "bills", "import", empty, "--dry-run").want(t, exitNothing, "", "")
	gpufleet(t, "", "bills", "import", priceFile(t, "x.csv", "a,b\n"), "--dry-run").want(t, exitFailed, "", "it is no bill in FOCUS 1.0 to 1.3: it lacks BilledCost")
	gpufleet(t, "", "bills", "import").want(t, exitFailed, "", "arg")
}
