# Targets for users and contributors. `make help` lists them.

CLIENTS := target/clients
KAFKA := target/kafka
K8S := target/k8s
IDENTITY := target/identity
H2SPEC := target/h2spec
REGISTRY := target/registry
PEERS := target/peers
DENY := target/deny
MUTANTS := target/mutants
MUTANTS_VERSION := 27.1.0
# The files to change: code that decides what clients receive.
MUTANTS_FILES := src/cursor.rs src/rate.rs src/quota.rs src/hub/queue.rs src/hub/queue/*.rs src/codec/transport/*.rs
DENY_VERSION := 0.20.2
DOCS := target/docs
MDBOOK_VERSION := 0.5.4
# All; the advisories are fetched from GitHub.
DENY_CHECKS :=
export SIDESTREAM_CLIENTS := $(CURDIR)/$(CLIENTS)

.DEFAULT_GOAL := help
.PHONY: help demo build test check coverage mutants simulate protocol clients kafka registry k8s manifests docs rules deps bench bench-peers bench-operations bench-hostile fuzz soak reloads deny clean

help: ## List the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 10

# Without optimization, which takes most of the time of a release build: the demo has little to do. `make test` continues with most
# of the same files.
demo: deps ## Build and run the demo (ARGS="--listen 127.0.0.1:8080")
	cargo run --locked -- demo $(ARGS)

build: deps ## Build release: target/release/sidestream
	cargo build --release --locked

test: ## Run every test; the last line is a summary
	@tests/all

soak: kafka ## Inject faults and check what clients receive (DURATION=300 SEED=1 HISTORY=file)
	cargo test --locked --test soak -- --ignored --exact soak --nocapture

simulate: ## Run the simulation of faults (SEEDS=1000, or SEED=7 HISTORY=file)
	cargo test --release --locked --lib -- --exact simulation::no_seed_finds_a_violation --nocapture

protocol: ## Run the protocol cases against a server (URL=http://host:port BROKERS=host:port)
	SIDESTREAM_PROTOCOL_URL=$(URL) SIDESTREAM_PROTOCOL_BROKERS=$(BROKERS) \
		cargo test --locked --test integration -- --test-threads 1 protocol::

reloads: ## Run a hundred reloads with many open streams (STREAMS=5000)
	ulimit -n $$(ulimit -Hn) && SIDESTREAM_RELOAD_STREAMS=$(or $(STREAMS),5000) cargo test --locked --test integration -- --nocapture reload_load::

bench-operations: deps kafka ## Measure the cost of reloads, scrapes and the admin page for live clients
	ulimit -n $$(ulimit -Hn) && cargo bench --locked --bench operations

bench-hostile: deps ## Measure how flooding clients affect other clients
	cargo bench --locked --bench hostile

bench: deps kafka ## Compare with a baseline, and plot the scaling, into docs/performance.md (QUICK=1 takes minutes)
	@tests/packages bench
	cargo build --release --locked --example bare-pingora
	cargo bench --locked --bench pieces
	cargo bench --locked --bench end_to_end

bench-peers: deps kafka $(PEERS)/sketch $(PEERS)/mercure $(PEERS)/centrifugo $(PEERS)/venv/installed ## Compare with other servers as well
	@tests/packages bench
	@tests/packages bench-peers
	cargo build --release --locked --example bare-pingora
	cargo bench --locked --bench pieces
	cargo bench --locked --bench end_to_end -- --peers

check: ## Run the fast checks: format, lints, the core's tests
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	cargo test --no-default-features --lib --locked

coverage: ## Report which lines of the core its unit tests execute
	@tests/coverage

mutants: $(MUTANTS)/bin/cargo-mutants ## Change the core and report the changes that no unit test finds (MUTANTS_FILES="src/rate.rs")
	$(MUTANTS)/bin/cargo-mutants mutants --no-default-features --output $(MUTANTS) $(addprefix --file=,$(MUTANTS_FILES)) -- --lib

clients: $(CLIENTS)/installed ## Install the independent clients that the tests use

kafka: $(KAFKA)/installed ## Install Apache Kafka, which the tests start

registry: kafka clients $(REGISTRY)/installed ## Test with Apicurio, a schema registry (a download of 140 MB)
	cargo test --locked --test integration -- --ignored --exact \
		real_registry::schemas_of_apicurio_describe_what_official_serializers_wrote

k8s: $(K8S)/installed ## Install the validators of manifests: schemas, kustomize, Helm, the API server's admission, Docker Compose

.PHONY: identity
identity: $(IDENTITY)/installed ## Install Dex, an OpenID provider, and oauth2-proxy, which the tests start

.PHONY: h2spec
h2spec: $(H2SPEC)/installed ## Install the conformance tests of HTTP/2

.PHONY: keycloak
keycloak: $(IDENTITY)/keycloak/installed ## Test with Keycloak (a download of 160 MB, and a minute)
	cargo test --locked --test integration -- --ignored --exact providers::tokens_of_keycloak_open_the_streams_of_their_user

manifests: ## Regenerate the manifests of k8s/ from the binary
	cargo build --locked
	mkdir -p k8s/component
	target/debug/sidestream inject --print component > k8s/component/kustomization.yaml
	target/debug/sidestream inject --print helm > k8s/chart/charts/sidestream-sidecar/templates/_sidecar.tpl
	target/debug/sidestream inject --print policy > k8s/policy.yaml
	target/debug/sidestream inject < k8s/example/app.yaml > k8s/sidecar.yaml

# The pages link to each other and to other files by paths in the repository, so the site has all of it. The titles of the design
# decisions are those of their index.
docs: $(DOCS)/bin/mdbook ## Build the documentation as a site with a search: target/docs/site
	rm -rf $(DOCS)/src $(DOCS)/site
	mkdir -p $(DOCS)/src
	git ls-files -z | xargs -0 cp --parents -t $(DOCS)/src
	cp docs/book.toml $(DOCS)/
	sed -n 's|^- \[[0-9]*\](\(.*\)): \(.*\)|  - [\2](decisions/\1)|p' docs/decisions/README.md \
		| sed '/decisions.README.md/r /dev/stdin' docs/SUMMARY.md \
		| sed -e 's|](\([^.]\)|](docs/\1|' -e 's|](\.\./|](|' > $(DOCS)/src/SUMMARY.md
	$(DOCS)/bin/mdbook build $(DOCS)

rules: ## Check the alerts, the dashboard and the names of the metrics with promtool
	cargo build --locked
	tests/rules/run

deps: ## Install missing Debian packages that the build needs
	@tests/packages build

# npm and pip install into the build directory, never into the source tree.
$(CLIENTS)/installed: tests/clients/package.json tests/clients/package-lock.json tests/clients/.npmrc \
		tests/clients/requirements.txt
	tests/packages clients
	mkdir -p $(CLIENTS)
	cp tests/clients/package.json tests/clients/package-lock.json tests/clients/.npmrc $(CLIENTS)/
	cd $(CLIENTS) && npm ci
	python3 -m venv $(CLIENTS)/venv
	$(CLIENTS)/venv/bin/pip install --quiet --requirement tests/clients/requirements.txt
	touch $@

# Jars alone, from Maven Central; a newer pom replaces them all.
$(KAFKA)/installed: tests/kafka/pom.xml
	tests/packages kafka
	rm -rf $(KAFKA)
	mkdir -p $(KAFKA)
	mvn -q -B -f tests/kafka/pom.xml dependency:copy-dependencies -DincludeScope=runtime \
		-DoutputDirectory=$(CURDIR)/$(KAFKA)/lib
	touch $@

$(REGISTRY)/installed: tests/registry/pom.xml
	tests/packages kafka
	rm -rf $(REGISTRY)
	mvn -q -B -f tests/registry/pom.xml dependency:unpack-dependencies -DexcludeTransitive \
		-DoutputDirectory=$(CURDIR)/$(REGISTRY)
	touch $@

$(IDENTITY)/keycloak/installed: tests/identity/keycloak/pom.xml tests/identity/keycloak/realm.json
	tests/packages kafka
	rm -rf $(@D)
	mkdir -p $(IDENTITY)
	mvn -q -B -f tests/identity/keycloak/pom.xml dependency:unpack-dependencies -DexcludeTransitive \
		-DoutputDirectory=$(CURDIR)/$(IDENTITY)
	mv $(IDENTITY)/keycloak-* $(@D)
	mkdir -p $(@D)/data/import
	cp tests/identity/keycloak/realm.json $(@D)/data/import/
	touch $@

$(MUTANTS)/bin/cargo-mutants:
	cargo install --locked --version $(MUTANTS_VERSION) --root $(MUTANTS) --target-dir $(MUTANTS)/build cargo-mutants

$(DOCS)/bin/mdbook:
	cargo install --locked --version $(MDBOOK_VERSION) --root $(DOCS) --target-dir $(DOCS)/build \
		--no-default-features --features search mdbook

$(DENY)/bin/cargo-deny:
	cargo install --locked --version $(DENY_VERSION) --root $(DENY) --target-dir $(DENY)/build cargo-deny

# Built from modules of fixed versions, once; a Go older than the modules need fetches a newer one.
$(K8S)/installed: tests/k8s/go.mod tests/k8s/go.sum tests/k8s/admission/main.go tests/k8s/chart/main.go \
		tests/k8s/package.json tests/k8s/package-lock.json tests/k8s/.npmrc tests/k8s/requirements.txt
	tests/packages k8s
	mkdir -p $(K8S)/bin
	cd tests/k8s && GOTOOLCHAIN=auto go build -buildvcs=false -o $(CURDIR)/$(K8S)/bin/ \
		./admission ./chart sigs.k8s.io/kustomize/kustomize/v5
	cd tests/k8s && GOTOOLCHAIN=auto go build -buildvcs=false -o $(CURDIR)/$(K8S)/bin/compose \
		github.com/compose-spec/compose-go/v2/cmd
	cp tests/k8s/package.json tests/k8s/package-lock.json tests/k8s/.npmrc $(K8S)/
	cd $(K8S) && npm ci
	python3 -m venv $(K8S)/venv
	$(K8S)/venv/bin/pip install --quiet --requirement tests/k8s/requirements.txt
	touch $@

# Built from modules of fixed versions, once.
$(H2SPEC)/installed: tests/h2spec/go.mod tests/h2spec/go.sum
	tests/packages identity
	mkdir -p $(H2SPEC)
	cd tests/h2spec && GOTOOLCHAIN=auto go build -buildvcs=false \
		-o $(CURDIR)/$(H2SPEC)/h2spec github.com/summerwind/h2spec/cmd/h2spec
	touch $@

# Built from modules of fixed versions, once.
$(IDENTITY)/installed: tests/identity/dex/main.go tests/identity/dex/go.mod tests/identity/oauth2-proxy/go.mod
	tests/packages identity
	mkdir -p $(IDENTITY)
	cd tests/identity/dex && GOTOOLCHAIN=auto go build -buildvcs=false -o $(CURDIR)/$(IDENTITY)/dex .
	cd tests/identity/oauth2-proxy && GOTOOLCHAIN=auto go build -buildvcs=false \
		-o $(CURDIR)/$(IDENTITY)/oauth2-proxy github.com/oauth2-proxy/oauth2-proxy/v7
	touch $@

# Peers of the benchmark that Debian does not package.
$(PEERS)/sketch $(PEERS)/mercure: $(PEERS)/%: benches/peers/%/main.go benches/peers/%/go.mod
	tests/packages bench-peers
	cd benches/peers/$* && go build -mod=mod -o $(CURDIR)/$@ .

$(PEERS)/centrifugo: benches/peers/centrifugo/go.mod
	tests/packages bench-peers
	cd benches/peers/centrifugo && go build -mod=mod -o $(CURDIR)/$@ github.com/centrifugal/centrifugo/v5

$(PEERS)/venv/installed: benches/peers/requirements.txt
	tests/packages bench-peers
	python3 -m venv $(PEERS)/venv
	$(PEERS)/venv/bin/pip install --quiet --requirement benches/peers/requirements.txt
	touch $@

# No sanitizer: the code is safe Rust, and stable compilers have none. cargo-fuzz is not needed either.
FUZZ_FLAGS := -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cdebug-assertions --cfg fuzzing \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
FUZZ_SECONDS := 60
FUZZ_TARGETS := config cursor head path record since websocket
FUZZ_BINARIES := target/fuzz/x86_64-unknown-linux-gnu/release

fuzz: ## Fuzz what clients and producers send, and the configuration, two targets at a time (FUZZ_SECONDS=60 each)
	cd tests/fuzz && RUSTFLAGS="$(FUZZ_FLAGS)" cargo build --release --locked --target x86_64-unknown-linux-gnu \
		--target-dir $(CURDIR)/target/fuzz
	@printf '%s\n' $(FUZZ_TARGETS) | xargs -P 2 -I{} sh -c 'mkdir -p target/fuzz/corpus/{} && \
		$(FUZZ_BINARIES)/{} -max_total_time=$(FUZZ_SECONDS) -max_len=600 -artifact_prefix=target/fuzz/{}- \
		-print_final_stats=1 target/fuzz/corpus/{} tests/fuzz/seeds >target/fuzz/{}.log 2>&1 || \
		{ tail -n 40 target/fuzz/{}.log; exit 1; }; echo "{}: $$(grep -m 1 number_of_executed_units target/fuzz/{}.log)"'

deny: $(DENY)/bin/cargo-deny ## Check licenses, bans, sources and advisories of all dependencies (DENY_CHECKS="bans licenses sources")
	$(DENY)/bin/cargo-deny --locked check $(DENY_CHECKS)

clean: ## Remove all build output
	cargo clean
