# What a person does here, by name. `make` lists it; INSTALL_AND_USAGE.md explains it.
# Each target is one call: the work is done in scripts/ and in the packages.

.DEFAULT_GOAL := help
.PHONY: help install local-start local-stop local-status local-logs local-test-medium \
	local-test-github local-ingest-data local-test-retriever demo test test-faults lint bench

# Given words reach the scripts through the environment, so that quotes, dollars and ampersands
# in a link stay what they are. USER counts only when given here: every shell has one of its own.
export CRAWL_USER := $(if $(filter command line,$(origin USER)),$(value USER),Paul Iusztin)
export CRAWL_LINK := $(value LINK)
export SEARCH_QUERY := $(value QUERY)
export STACK SAMPLE TORCH

FILE := data/links.txt
ARGS :=

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-22s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: ## make .venv with every service's dependencies and the twin command (TORCH=cpu|cuda|...)
	@scripts/install

local-start: ## start everything, in Docker where it answers, else as processes (STACK=docker|local, SAMPLE=1)
	@scripts/stack start

local-stop: ## stop what local-start has started; the data stays
	@scripts/stack stop

local-status: ## which services run, what is where, what waits
	@scripts/stack status

local-logs: ## follow what the services print (SERVICE=data_cdc)
	@scripts/stack logs "$(SERVICE)"

local-test-medium: ## crawl a Medium article through port 9010 (LINK=, USER="First Last")
	@scripts/crawl-link medium

local-test-github: ## crawl a GitHub repository through port 9010 (LINK=, USER="First Last")
	@scripts/crawl-link github

local-ingest-data: ## crawl each link of a file (FILE=data/links.txt, USER="First Last")
	@scripts/ingest-links "$(FILE)"

local-test-retriever: ## search what was crawled and show the passages (QUERY="...")
	@scripts/stack search

demo: ## watch text go from the web to search, with an edit and a delete; installs first
	@scripts/demo

test: ## install what tests need, then run all but the slow ones (ARGS="-k name")
	@scripts/test not-slow $(ARGS)

test-faults: ## kill and stop things, long forms included, and check that nothing is lost
	@scripts/test faults $(ARGS)

lint: ## ruff check, ruff format --check, mypy
	@scripts/lint

bench: ## measure what README quotes, on a stack of its own, in ten minutes or more (ARGS="--quick")
	@scripts/bench $(ARGS)
