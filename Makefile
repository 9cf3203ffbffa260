# SPDX-License-Identifier: Apache-2.0
#
# Every command of gpufleet. `make` lists them; CI runs `make ci` and nothing else.

.DEFAULT_GOAL := help
.NOTPARALLEL: # the go command uses all cores itself
.PHONY: help up test build check generate bench bench-peers bench-fleet bench-catchup fuzz chaos ci smoke deps fmt clean licenses vuln
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c

ARGS     ?=
FUZZTIME ?= 60s
CHAOSTIME ?= 20m
CHAOSSEED ?= 1

VERSION := $(shell git describe --always --dirty --tags 2>/dev/null || echo unknown)
LDFLAGS := -X github.com/gpufleet/gpufleet/internal/ops.version=$(VERSION)
GOBUILD := go build -trimpath
TOOL    := go tool -modfile=tools.mod

# The NVIDIA driver is loaded when the agent runs, so its symbols must not be bound when the program starts.
# Distributions whose linker binds early by default need to be told.
ifneq ($(shell uname -s),Darwin)
LAZY := -extldflags=-Wl,-z,lazy
endif

# go-nvml binds every call of NVML, the deprecated ones too. The rest is Go's default.
export CGO_CFLAGS ?= -O2 -g -Wno-deprecated-declarations

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

up: deps build ## run the whole pipeline until Ctrl-C, on this machine's GPUs or on simulated ones (ARGS="--nodes 8")
	@bin/gpufleet up $(ARGS)

test: deps ## run every test, with the race detector and in random order
	@go test -race -shuffle=on -timeout 25m ./...

build: deps ## build the programs into bin/
	CGO_ENABLED=1 $(GOBUILD) -ldflags '$(LDFLAGS) $(LAZY)' -o bin/gpufleet-agent ./cmd/gpufleet-agent
	CGO_ENABLED=0 $(GOBUILD) -ldflags '$(LDFLAGS)' -o bin/gpufleet-collector ./cmd/gpufleet-collector
	CGO_ENABLED=0 $(GOBUILD) -ldflags '$(LDFLAGS)' -o bin/gpufleet ./cmd/gpufleet

check: deps ## formatting, vet, lint, tidy go.mod, fresh generated files, shell syntax, the project's rules
	$(TOOL) golangci-lint fmt --diff
	go vet ./...
	$(TOOL) golangci-lint run
	go mod tidy -diff
	.ci/unchanged $(MAKE) --no-print-directory generate
	@for script in .ci/*; do bash -n "$$script"; done
	@if command -v shellcheck >/dev/null; then shellcheck .ci/*; fi
	go test ./internal/rules

generate: ## write all derived files anew
	go generate ./...

bench: deps build ## measure the budgets and write bench/results.json
	go run -ldflags '$(LDFLAGS)' ./bench $(ARGS)

bench-peers: deps build ## measure Prometheus, VictoriaMetrics and an OpenTelemetry Collector on the same readings
	@.ci/peers
	go run -ldflags '$(LDFLAGS)' ./bench --peers $(ARGS)

bench-fleet: deps build ## measure whether 100,000 GPUs at 1 Hz are kept up with, for ten minutes (ARGS="--fleet-for 1m")
	go run -ldflags '$(LDFLAGS)' ./bench --fleet $(ARGS)

bench-catchup: deps build ## measure how much faster than time a backlog is stored
	go run -ldflags '$(LDFLAGS)' ./bench --catchup $(ARGS)

fuzz: deps ## run every fuzz target for FUZZTIME (60s) each
	@.ci/fuzz $(FUZZTIME)

chaos: deps ## have everything go wrong for CHAOSTIME (20m), and count what is lost or doubled (CHAOSSEED)
	go test ./internal/e2e -run 'TestChaos$$' -v -count=1 -timeout 2h -args -chaos-for $(CHAOSTIME) -chaos-seed $(CHAOSSEED)

ci: check build smoke test ## all that CI runs

smoke: ## run the built programs for a few seconds
	bin/gpufleet-agent --version
	bin/gpufleet-collector --version
	@echo 'bin/gpufleet up --nodes 2 --for 10s --json'
	@data=$$(mktemp -d); trap 'rm -rf "$$data"' EXIT; \
		last=$$(bin/gpufleet up --nodes 2 --for 10s --data "$$data" --json | tail -n 1); \
		printf '%s\n' "$$last"; \
		case $$last in *'"lost":0,"duplicated":0'*) ;; *) echo 'smoke: batches were lost or doubled' >&2; exit 1 ;; esac

deps: ## install what is missing
	@.ci/deps

fmt: ## format the Go code
	$(TOOL) golangci-lint fmt

licenses: ## list the licence of every dependency; a licence that is not allowed fails
	@go test -count=1 -v -run 'Licences' ./internal/rules

vuln: ## look for known vulnerabilities (asks the Go vulnerability database)
	$(TOOL) govulncheck ./...

clean: ## remove what was built and the data of `make up`
	rm -rf bin .data
