//! Counts what one request costs in every way, and compares it with what is written down in `counts.tsv`.
//!
//! `cargo run -p session-refresh-cost --bin counts` fails if any figure has grown by more than 3%; with `--bless` it
//! writes the figures down instead. Hash maps are seeded at random, and a map of a few entries may have bad luck: the
//! smallest figure of three runs counts.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use serde_json::Value;

/// How often everything is counted, unless it is known before that nothing has grown.
const RUNS: usize = 3;
/// How much a figure may grow.
const TOLERANCE: f64 = 0.03;
const WRITTEN_DOWN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/counts.tsv");
const HEAD: &str = "case\tinstructions\tallocations\n";

/// A benchmark's name, and what it counted.
type Counts = BTreeMap<String, Count>;

#[derive(Clone, Copy)]
struct Count {
    instructions: u64,
    allocations: u64,
}

impl Count {
    /// Keeps what is less.
    fn lower(&mut self, other: Self) {
        self.instructions = self.instructions.min(other.instructions);
        self.allocations = self.allocations.min(other.allocations);
    }
}

fn main() -> ExitCode {
    let bless = std::env::args().any(|argument| argument == "--bless");
    for (tool, from) in [
        ("valgrind", "your system's packages"),
        (
            "gungraun-runner",
            "cargo install gungraun-runner --version 0.20.0 --locked",
        ),
    ] {
        let runs = Command::new(tool).arg("--version").output();
        if !runs.is_ok_and(|output| output.status.success()) {
            println!("skipped: nothing is counted without {tool} ({from})");
            return ExitCode::SUCCESS;
        }
    }
    let before = (!bless).then(|| {
        let before = fs::read_to_string(WRITTEN_DOWN).expect("figures are written down");
        parse(&before)
    });
    let mut counts = count();
    for _ in 1..RUNS {
        if (before.as_ref()).is_some_and(|before| grown(before, &counts).is_empty()) {
            break;
        }
        for (case, again) in count() {
            counts.entry(case).and_modify(|count| count.lower(again));
        }
    }
    print!("{}", table(&counts));
    let Some(before) = before else {
        fs::write(WRITTEN_DOWN, written(&counts)).expect("the figures can be written down");
        return ExitCode::SUCCESS;
    };
    let grown = grown(&before, &counts);
    if grown.is_empty() {
        println!("\nNothing has grown by more than 3%.");
        return ExitCode::SUCCESS;
    }
    println!("\n{grown}If that is meant: run this with `--bless`, and commit `counts.tsv`.");
    ExitCode::FAILURE
}

/// Runs the benches and reads their summaries.
fn count() -> Counts {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(target, PathBuf::from);
    let summaries = target.join("gungraun/session-refresh-cost/requests/requests");
    // What earlier runs left there may be of benches that are gone.
    match fs::remove_dir_all(&summaries) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("{error}"),
        _ => {}
    }
    let bench = Command::new(env!("CARGO"))
        .args(["bench", "--quiet", "-p", "session-refresh-cost"])
        .args(["--bench", "requests", "--", "--save-summary=json"])
        .output()
        .expect("cargo runs");
    assert!(
        bench.status.success(),
        "{}",
        String::from_utf8_lossy(&bench.stderr)
    );
    let summaries = fs::read_dir(summaries).expect("the benches have written summaries");
    summaries
        .map(|folder| {
            let folder = folder.expect("the folder can be read").path();
            let name = folder.file_name().expect("it has a name").to_string_lossy();
            let summary = fs::read(folder.join("summary.json")).expect("there is a summary");
            let summary = serde_json::from_slice(&summary).expect("a summary is JSON");
            let count = Count {
                instructions: metric(&summary, "Callgrind", "Ir"),
                allocations: metric(&summary, "DHAT", "TotalBlocks"),
            };
            (name.replace('.', "/"), count)
        })
        .collect()
}

fn metric(summary: &Value, tool: &str, name: &str) -> u64 {
    let profiles = summary["profiles"].as_array().expect("there are profiles");
    let profile = profiles.iter().find(|profile| profile["tool"] == tool);
    let metrics = &profile.expect("the tool has run")["data"]["total"]["metrics"];
    metrics[name]["values"]["new"]
        .as_u64()
        .expect("the tool has counted")
}

fn written(counts: &Counts) -> String {
    let mut lines = HEAD.to_owned();
    for (case, count) in counts {
        let Count {
            instructions,
            allocations,
        } = count;
        let _ = writeln!(lines, "{case}\t{instructions}\t{allocations}");
    }
    lines
}

fn parse(lines: &str) -> Counts {
    lines
        .lines()
        .skip(1)
        .map(|line| {
            let fields: Vec<_> = line.split('\t').collect();
            let [case, instructions, allocations] = fields[..] else {
                panic!("not three fields: {line:?}");
            };
            let number = |text: &str| text.parse().expect("a count is a number");
            let count = Count {
                instructions: number(instructions),
                allocations: number(allocations),
            };
            (case.to_owned(), count)
        })
        .collect()
}

/// All figures, and what they are over those of the page that does nothing for its session.
fn table(counts: &Counts) -> String {
    let mut lines = format!(
        "{:<40} {:>12} {:>11}   over the floor\n",
        "case", "instructions", "allocations"
    );
    for (case, count) in counts {
        let _ = write!(
            lines,
            "{case:<40} {:>12} {:>11}",
            count.instructions, count.allocations
        );
        if let Some(floor) = floor(case).and_then(|floor| counts.get(&floor)) {
            let _ = write!(
                lines,
                " {:>+9} {:>+6}",
                count.instructions.cast_signed() - floor.instructions.cast_signed(),
                count.allocations.cast_signed() - floor.allocations.cast_signed()
            );
        }
        lines.push('\n');
    }
    lines
}

/// What a case is compared with: the same session on a page that only reads it.
fn floor(case: &str) -> Option<String> {
    let (group, name) = case.split_once('/')?;
    let size = name.rsplit('_').next()?;
    let login = if name.starts_with("login") {
        "login_"
    } else {
        ""
    };
    if group == "no_session" {
        return Some(format!("{group}/floor"));
    }
    let store = group
        .strip_suffix("not_due")
        .or_else(|| group.strip_suffix("due"))?;
    Some(format!("{store}not_due/{login}floor_{size}"))
}

/// A line for each figure that has grown, or that only one side has.
fn grown(before: &Counts, now: &Counts) -> String {
    let mut lines = String::new();
    for (case, count) in now {
        let Some(written) = before.get(case) else {
            let _ = writeln!(lines, "{case} is not written down");
            continue;
        };
        for (what, was, is) in [
            ("instructions", written.instructions, count.instructions),
            ("allocations", written.allocations, count.allocations),
        ] {
            #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
            let (was, is) = (was as f64, is as f64);
            if is > was * (1.0 + TOLERANCE) {
                let percent = (is / was - 1.0) * 100.0;
                let _ = writeln!(
                    lines,
                    "{case} has grown by {percent:.1}% in {what}: {was} before, {is} now"
                );
            }
        }
    }
    for case in before.keys().filter(|case| !now.contains_key(*case)) {
        let _ = writeln!(lines, "{case} is written down, but not counted any more");
    }
    lines
}
