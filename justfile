# What takes long, each by a command of its own. Short forms of it are in `.ci/run`.

# What there is.
default:
    @just --list

# Everything a change must pass.
ci:
    .ci/run

# What is quick to find: formatting, spelling, lints, and the crates' own tests.
quick:
    cargo fmt --all --check
    if command -v typos >/dev/null; then typos; fi
    cargo clippy --all-features -p session-refresh -p session-refresh-macros --all-targets -- -D warnings
    cargo test --all-features -p session-refresh -p session-refresh-macros --lib

# Writes down what users can name. Read the diff.
public-api:
    cargo run -p session-refresh-public-api -- --bless

# Known vulnerabilities of what is built here. The list of them is fetched from GitHub.
advisories:
    cargo deny check advisories

# 1,000 users for half an hour on PostgreSQL and on Redis, while processes and stores are killed; the results are drawn.
soak:
    SOAK_SECONDS=1800 SOAK_USERS=1000 SOAK_RESULTS={{justfile_directory()}}/tests/load/results \
        cargo test -p session-refresh-tests --test machine soak::on -- --nocapture
    just plot

# A million hostile requests to each kind of layer.
hostile:
    HOSTILE_REQUESTS=1000000 cargo test -p session-refresh-tests --test machine -- hostile --nocapture --test-threads 1

# The application against its model: 20,000 sequences and as many races for each store.
machine:
    MACHINE_CASES=20000 cargo test -p session-refresh-tests --test machine -- sequences histories --nocapture

# Each promise's line of code taken out: the machine has to find it.
mutants:
    MACHINE_CASES=200 cargo test -p session-refresh-tests --test machine mutants -- --ignored --nocapture

# 100,000 orders of each test's tasks.
interleavings:
    SHUTTLE_ITERATIONS=100000 CARGO_TARGET_DIR=target/interleavings \
        cargo test --manifest-path tests/interleavings/Cargo.toml

# Every mutant that a tool makes of a room, such as `schedule`: which of them does no test find?
survivors room:
    cargo mutants -p session-refresh --all-features --test-workspace true -f 'runtime/src/{{room}}.rs'

# Lines and branches that no test runs. Branches need a compiler that lets itself be asked for them.
coverage:
    RUSTC_BOOTSTRAP=1 cargo llvm-cov test --workspace --all-features --branch --html \
        --ignore-filename-regex '/(tests|examples)/'

# Draws what was measured.
plot:
    CARGO_TARGET_DIR=target/load cargo run --release --manifest-path tests/load/Cargo.toml --bin plot
