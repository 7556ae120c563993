#!/usr/bin/env bash
# What annotated handlers cost the build: CPU seconds of `cargo check` and of a release build, and bytes of machine code.
#
#     tests/cost/compile-time.sh [handlers] [rounds]
#
# The same handlers plain, annotated, under `#[debug_handler]` and under `#[tracing::instrument]`, interleaved, medians.
set -euo pipefail
handlers=${1:-1000} rounds=${2:-3}
root=$(cd "$(dirname "$0")/../.." && pwd)
folder=$root/target/compile-time
variants=(plain refresh debug_handler instrument)

declare -A attribute=(
  [plain]=''
  [refresh]='#[session_refresh::session_refresh(interval = "24h")]'
  [debug_handler]='#[axum::debug_handler(state = AppState)]'
  [instrument]='#[tracing::instrument(skip_all)]'
)

generate() { # variant, handlers, file
  local i
  printf '#[derive(Clone)] pub struct AppState;\nuse axum::{Router, extract::{Path, Query, State}, http::HeaderMap, routing::get};\nuse std::collections::HashMap;\n'
  for ((i = 0; i < $2; i++)); do
    printf '%s\npub async fn h%d(State(_): State<AppState>, Path(id): Path<u64>, Query(q): Query<HashMap<String, String>>, headers: HeaderMap) -> String { format!("{id} {} {} %d", q.len(), headers.len()) }\n' "${attribute[$1]}" $i $i
  done
  printf 'fn main() { let router: Router = Router::new()\n'
  for ((i = 0; i < $2; i++)); do printf '.route("/%d/{id}", get(h%d))\n' $i $i; done
  printf '.with_state(AppState); let _ = std::hint::black_box(router); }\n'
}

rm -rf "$folder" && mkdir -p "$folder/src"
for variant in "${variants[@]}"; do
  for n in "$handlers" $((handlers / 2)); do generate "$variant" "$n" >"$folder/src/$variant-$n.rs"; done
done
cat >"$folder/Cargo.toml" <<TOML
[package]
name = "compile-time"
version = "0.0.0"
edition = "2024"
[dependencies]
axum = { version = "0.8", features = ["macros"] }
session-refresh = { path = "$root/runtime" }
tracing = "0.1"
$(for file in "$folder"/src/*.rs; do name=$(basename "$file" .rs); printf '[[bin]]\nname = "%s"\npath = "src/%s.rs"\n' "$name" "$name"; done)
[workspace]
TOML
cp "$root/Cargo.lock" "$folder/"
cd "$folder"

cpu() { # What a command costs, in user and system seconds.
  local TIMEFORMAT='%U %S'
  { time "$@" >/dev/null 2>>"$folder/log"; } 2>&1 | awk '{ print $1 + $2 }'
}
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

cargo build -q --release --bin "plain-$((handlers / 2))" && cargo check -q --bin "plain-$((handlers / 2))"
for ((round = 0; round < rounds; round++)); do
  for variant in "${variants[@]}"; do
    touch "src/$variant-$handlers.rs"
    cpu cargo check --bin "$variant-$handlers" >>"$variant.check"
    touch "src/$variant-$handlers.rs"
    cpu cargo build --release --bin "$variant-$handlers" >>"$variant.release"
  done
done
printf '%d handlers, medians of %d\n%-14s %8s %10s %22s\n' "$handlers" "$rounds" '' 'check s' 'release s' 'code bytes a handler'
code() { size -A "target/release/$1" | awk '$1 == ".text" { print $2 }'; }
for variant in "${variants[@]}"; do
  cargo build -q --release --bin "$variant-$((handlers / 2))"
  # Of two sizes' difference, so that what is there once does not count.
  bytes=$((($(code "$variant-$handlers") - $(code "$variant-$((handlers / 2))")) / (handlers - handlers / 2)))
  printf '%-14s %8s %10s %22s\n' "$variant" "$(median <"$variant.check")" "$(median <"$variant.release")" "$bytes"
done
