# Everything a contributor or a stranger types. Nothing is asked of you beyond a Rust toolchain: what is absent is
# installed, and what cannot be installed is said.

SHELL := /bin/bash
.DEFAULT_GOAL := help
# The tools of filesystems are where only root looks; a fresh rustup is where only a new shell looks.
export PATH := $(PATH):/usr/sbin:/sbin:$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

FUZZ_SECONDS ?= 60
SOAK_MINUTES ?= 30
export FUZZ_SECONDS SOAK_MINUTES

.PHONY: help build demo test bench scale fuzz soak deny clean cargo peers

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

build: cargo ## build the three programs (release)
	cargo build --release --workspace --bins

demo: cargo peers ## watch a real volume being replicated, changed, replicated again and attached
	cargo build --release --workspace --bins
	target/release/understudy-tools demo

test: cargo peers ## the gate: format, lints, unit tests, end-to-end tests
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	@# Half of the end-to-end tests wait for something most of the time.
	RUST_TEST_THREADS=$$((2 * $$(nproc))) cargo test --workspace

bench: cargo peers ## measure against qemu-img, nbdcopy, nbdkit and dd; plots go to target/plots
	cargo build --release --workspace --bins
	target/release/understudy-tools bench --plots target/plots

scale: cargo ## measure 20 million unique blocks, 10,000 points, 64 TiB, and the cost of increments
	cargo build --release --workspace --bins
	target/release/understudy-tools scale

fuzz: cargo ## run every fuzz target for FUZZ_SECONDS (60) each
	.ci/fuzz

soak: cargo peers ## repeat the kill -9 tests and the simulation with new seeds for SOAK_MINUTES (30)
	cargo build --workspace --bins
	.ci/soak

deny: cargo ## check licences, advisories and sources of all dependencies
	@cargo deny --version >/dev/null 2>&1 || cargo install --locked cargo-deny
	cargo deny check

clean: ## remove everything that was built
	cargo clean

cargo:
	@.ci/need-cargo

peers:
	@.ci/install-peers
