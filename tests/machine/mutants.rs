//! Each promise's line of code, taken out: the machine finds that it is missing, or it is no machine.
//!
//! `cargo test -p session-refresh-tests --test machine mutants -- --ignored --nocapture` makes each mutant in a copy of the
//! sources below `target/mutants`, and prints how long the machine has needed to find it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

/// What is put in the place of what.
struct Mutant {
    /// The number in the README's table of promises, and what the mutant does to it.
    breaks: (u8, &'static str),
    file: &'static str,
    /// Stands once in the file.
    was: &'static str,
    is: &'static str,
    /// The tests that are to find it.
    found_by: &'static [&'static str],
}

const BOTH: &[&str] = &["memory", "sqlite"];

const MUTANTS: &[Mutant] = &[
    Mutant {
        breaks: (1, "a save brings a session back"),
        file: "store/serialized.rs",
        was: "None => Ok(()),",
        is: "None => store.save(record).await,",
        found_by: &["memory"],
    },
    Mutant {
        breaks: (
            1,
            "a save of a session that has ended by the database's clock is done",
        ),
        file: "store/sqlite.rs",
        was: "set data = ?, expiry_date = ? where id = ? and {EXPIRY} > {NOW}\").into()",
        is: "set data = ?, expiry_date = ? where id = ?\").into()",
        found_by: &["sqlite"],
    },
    Mutant {
        breaks: (
            1,
            "a touch that comes late brings a session back that has ended by the database's clock",
        ),
        file: "store/postgres.rs",
        was: "where id = $1 and {is_as_seen} and {is_due} and {IS_LIVE}",
        is: "where id = $1 and {is_as_seen} and {is_due}",
        found_by: &["sequences::postgres"],
    },
    Mutant {
        breaks: (
            1,
            "a page that was refreshed writes its data, whatever others have written since",
        ),
        file: "store/request_session.rs",
        was: "NextSave::Extended | NextSave::CookieOnly => Save::Nothing,",
        is: "NextSave::Extended | NextSave::CookieOnly => Save::Write { expiry, kept, is_passive },",
        found_by: BOTH,
    },
    Mutant {
        breaks: (
            1,
            "the cookie of a session that has ended meanwhile is sent again",
        ),
        file: "lifetimes.rs",
        was: "let look = if sends_cookie && self.may_have_ended() {",
        is: "let look = if false {",
        found_by: BOTH,
    },
    Mutant {
        breaks: (
            1,
            "a first touch takes back what another request has said of the lifetime",
        ),
        file: "store/touch.rs",
        was: "if found != self.was.as_deref() {",
        is: "if false {",
        found_by: &["regressions::once::memory", "regressions::once::sqlite"],
    },
    Mutant {
        breaks: (
            2,
            "a look at a session that is not there removes its cookie",
        ),
        file: "store/request_session.rs",
        was: "if is_there {",
        is: "{",
        found_by: BOTH,
    },
    Mutant {
        breaks: (2, "a page that does nothing saves the session"),
        file: "lifetimes.rs",
        was: "if settled.keeps_another {",
        is: "{",
        found_by: BOTH,
    },
    Mutant {
        breaks: (
            3,
            "an extension passes the fixed end and the absolute limit",
        ),
        file: "schedule.rs",
        was: "expiry: limit.map_or(rolling, |limit| limit.min(rolling)),",
        is: "expiry: rolling,",
        found_by: BOTH,
    },
    Mutant {
        breaks: (3, "a write passes the fixed end and the absolute limit"),
        file: "lifetime.rs",
        was: "let ends = [extended, self.end, self.latest];",
        is: "let ends = [extended, None, self.latest];",
        found_by: BOTH,
    },
    Mutant {
        breaks: (3, "a session that is past its limit is loaded"),
        file: "store/request_session.rs",
        was: "let is_over = self.common.has_ended(expiry) || end.is_some_and(|end| end <= now);",
        is: "let is_over = self.common.has_ended(expiry); let _ = now;",
        found_by: BOTH,
    },
    Mutant {
        breaks: (3, "what `set_expiry` said is forgotten"),
        file: "store/request_session.rs",
        was: "expiry: expiry.unwrap_or(self.own.expiry),",
        is: "expiry: expiry.and(self.own.expiry),",
        found_by: BOTH,
    },
    Mutant {
        breaks: (3, "a restart of the limit is forgotten"),
        file: "store/request_session.rs",
        was: "started: started.or(self.own.started),",
        is: "started: self.own.started.or(started),",
        found_by: BOTH,
    },
    Mutant {
        breaks: (3, "a session's own limit does not count"),
        file: "lifetime.rs",
        was: "let both = [self.max_lifetime, settings.max_lifetime];",
        is: "let both = [None, settings.max_lifetime];",
        found_by: BOTH,
    },
    Mutant {
        breaks: (3, "a session whose id is renewed begins anew"),
        file: "store/request_session.rs",
        was: "if renews {",
        is: "if renews && false {",
        found_by: BOTH,
    },
    Mutant {
        breaks: (
            3,
            "a session that begins after a logout goes on with the old one's lifetime",
        ),
        file: "store/request_session.rs",
        was: "} else {\n                state.own = OwnLifetime::default();",
        is: "} else if false {\n                state.own = OwnLifetime::default();",
        found_by: BOTH,
    },
    Mutant {
        breaks: (
            3,
            "a first touch shortens the session to what the limit leaves of its idle time",
        ),
        file: "store/request_session.rs",
        was: "let expiry = expiry.max(state.kept_end(known.expiry, &self.common.settings));",
        is: "let expiry = expiry;",
        found_by: BOTH,
    },
    Mutant {
        breaks: (
            3,
            "a refresh takes back that another request has shortened the session",
        ),
        file: "store/serialized.rs",
        was: "if record.expiry_date < *due.start() {",
        is: "if false {",
        found_by: &["memory"],
    },
    Mutant {
        breaks: (3, "the same, in SQLite"),
        file: "store/sqlite.rs",
        was: "where id = ?1 and {is_as_seen} and {is_due}",
        is: "where id = ?1 and {is_due}",
        found_by: &["sqlite"],
    },
    Mutant {
        breaks: (3, "the same, of a handler's save that changes nothing"),
        file: "store/request_session.rs",
        was: "seen: known.expiry,",
        is: "seen: Millis::clamp(0),",
        found_by: BOTH,
    },
    Mutant {
        breaks: (3, "the same, in Redis"),
        file: "store/redis.rs",
        was: "if now < tonumber(ARGV[1]) then return 2 end",
        is: "",
        found_by: &["redis"],
    },
    Mutant {
        breaks: (4, "each of several racing touches is done"),
        file: "store/serialized.rs",
        was: "if record.expiry_date > *due.end() || record.expiry_date >= expiry {",
        is: "if false {",
        found_by: &["memory"],
    },
    Mutant {
        breaks: (4, "the same, in SQLite"),
        file: "store/sqlite.rs",
        was: "and {is_as_seen} and {is_due} and {EXPIRY} > {NOW}",
        is: "and {is_as_seen} and {EXPIRY} < julianday(?4) and {EXPIRY} > {NOW}",
        found_by: &["sqlite"],
    },
    Mutant {
        breaks: (4, "the same, in Redis"),
        file: "store/redis.rs",
        was: "if now == -1 or now > tonumber(ARGV[2]) or now >= tonumber(ARGV[3]) then return 0 end",
        is: "if now == -1 then return 0 end",
        found_by: &["redis"],
    },
    Mutant {
        breaks: (4, "what was refreshed is touched once more at the end"),
        file: "store/request_session.rs",
        was: "NextSave::Extended | NextSave::CookieOnly => Save::Nothing,",
        is: "NextSave::Extended | NextSave::CookieOnly => Save::Touch { expiry },",
        found_by: BOTH,
    },
    Mutant {
        breaks: (5, "the handler's load is one more"),
        file: "store/request_session.rs",
        was: "self.state().ahead = Some((id, record));\n        if is_there {",
        is: "let _ = record;\n        if is_there {",
        found_by: BOTH,
    },
    Mutant {
        breaks: (5, "data that is as it was is written"),
        file: "store/request_session.rs",
        was: "if state.keeps_another(known) || !known.original.is(record.data) {",
        is: "if state.keeps_another(known) || known.original.is(record.data) || true {",
        found_by: BOTH,
    },
    Mutant {
        breaks: (5, "a write of a passive route extends the session"),
        file: "store/request_session.rs",
        was: "let is_passive = state.is_passive && has_same_expiry;",
        is: "let is_passive = state.is_passive && has_same_expiry && false;",
        found_by: BOTH,
    },
    Mutant {
        breaks: (
            5,
            "a write of a passive route takes back what another request has extended meanwhile",
        ),
        file: "store/serialized.rs",
        was: "record.expiry_date = record.expiry_date.max(found.expiry_date);",
        is: "let _ = found;",
        found_by: &["memory"],
    },
    Mutant {
        breaks: (5, "a session is due too early"),
        file: "schedule.rs",
        was: "due_before: rolling.saturating_sub(interval),",
        is: "due_before: rolling.saturating_sub(interval / 2),",
        found_by: BOTH,
    },
    Mutant {
        breaks: (
            5,
            "a superuser's session is extended where the policy says no",
        ),
        file: "decide.rs",
        was: "policy.skip_superuser.unwrap_or(false) && identity.is_superuser",
        is: "false && identity.is_superuser",
        found_by: BOTH,
    },
    Mutant {
        breaks: (8, "a shared cache may keep the cookie"),
        file: "lifetimes.rs",
        was: "&& !cache_headers::may_be_shared(response.headers(), SystemTime::now());",
        is: "&& (!cache_headers::may_be_shared(response.headers(), SystemTime::now()) || true);",
        found_by: BOTH,
    },
    Mutant {
        breaks: (9, "a touch that failed is told as done"),
        file: "touching.rs",
        was: "TouchResult::Failed => self.unrefreshed.with(Outcome::Unavailable),",
        is: "TouchResult::Failed => self.unrefreshed.with(Outcome::NotDue),",
        found_by: BOTH,
    },
    Mutant {
        breaks: (
            9,
            "the session of a visitor who was faster is said to end when it was due",
        ),
        file: "touching.rs",
        was: ".max(Some(self.extension.at_least().into())),",
        is: ".max(None),",
        found_by: BOTH,
    },
    Mutant {
        breaks: (
            9,
            "a session that has been shortened is said to end when it would have",
        ),
        file: "touching.rs",
        was: "TouchResult::Shortened => self.seen_again().await,",
        is: "TouchResult::Shortened => self.unrefreshed.clone(),",
        found_by: BOTH,
    },
    Mutant {
        breaks: (9, "a session that is gone is said to be there"),
        file: "touching.rs",
        was: "TouchResult::Gone => RefreshInfo::without_session(Outcome::Gone),",
        is: "TouchResult::Gone => self.unrefreshed.with(Outcome::NotDue),",
        found_by: BOTH,
    },
    Mutant {
        breaks: (9, "the activity is when the look-up has ended"),
        file: "touching.rs",
        was: "refreshed_at: Some(self.arrived.into()),",
        is: "refreshed_at: Some(request.now().into()),",
        found_by: BOTH,
    },
    Mutant {
        breaks: (
            9,
            "what a racing touch has found out is taken for the answer to another question",
        ),
        file: "store/attempt.rs",
        was: "if ends_at_least >= extension.at_least() {",
        is: "if ends_at_least >= extension.at_least() || true {",
        found_by: BOTH,
    },
    Mutant {
        breaks: (
            9,
            "a session that somebody else is writing is said to end when it was due",
        ),
        file: "store/postgres.rs",
        was: "Some((BUSY, _)) => Touched::Busy,",
        is: "Some((BUSY, _)) => Touched::NotDue,",
        found_by: &["histories::postgres"],
    },
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

impl Mutant {
    /// The file with what it has instead.
    fn source(&self) -> String {
        let path = root().join("runtime/src").join(self.file);
        let source = fs::read_to_string(path).expect("there is such a file");
        let found = source.matches(self.was).count();
        assert_eq!(found, 1, "{} in {}", self.was, self.file);
        source.replace(self.was, self.is)
    }
}

#[test]
fn each_can_be_made() {
    for mutant in MUTANTS {
        assert_ne!(mutant.is, mutant.was, "{}", mutant.breaks.1);
        mutant.source(); // which checks that there is one such place
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder can be made");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("it has a name");
        if path.is_file() {
            let there = to.join(name);
            let source = fs::read(&path).expect("a file");
            // One that is as it was is not compiled anew.
            if fs::read(&there).ok().as_ref() != Some(&source) {
                fs::write(there, source).expect("a file can be written");
            }
        } else if name != "target" && name != ".git" {
            copy(&path, &to.join(name));
        }
    }
}

/// Runs tests of the copy, and answers whether they pass; without names it only builds them.
fn passes(tree: &Path, tests: &[&str]) -> bool {
    let mut cargo = Command::new(env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    cargo
        .current_dir(tree)
        .env("CARGO_TARGET_DIR", tree.with_file_name("target"))
        .env("RUSTFLAGS", "--cap-lints allow")
        .env("PROPTEST_MAX_SHRINK_ITERS", "0")
        .args([
            "test",
            "--quiet",
            "--workspace",
            "--all-features",
            "--test",
            "machine",
        ]);
    if tests.is_empty() {
        cargo.arg("--no-run");
    } else {
        cargo.arg("--").args(tests).args(["--skip", "mutants"]);
    }
    let ran = cargo.output().expect("cargo runs");
    let words = String::from_utf8_lossy(&ran.stderr);
    assert!(!tests.is_empty() || ran.status.success(), "{words}");
    ran.status.success()
}

#[test]
#[ignore = "it takes a quarter of an hour"]
fn each_is_found() {
    let tree = root().join("target/mutants/tree");
    let wanted = env::var("MUTANT").unwrap_or_default();
    copy(&root(), &tree);
    let stores = ["memory", "sqlite", "postgres", "redis"];
    assert!(
        passes(&tree, &stores),
        "without any mutant there is something to find"
    );
    let mut missed = Vec::new();
    println!("| promise | mutant | found by | seconds |\n|---|---|---|---|");
    for mutant in MUTANTS
        .iter()
        .filter(|mutant| mutant.breaks.1.contains(&wanted))
    {
        copy(&root().join("runtime"), &tree.join("runtime"));
        let file = tree.join("runtime/src").join(mutant.file);
        fs::write(file, mutant.source()).expect("a file can be written");
        passes(&tree, &[]);
        let began = Instant::now();
        let is_found = !passes(&tree, mutant.found_by);
        let (promise, breaks) = mutant.breaks;
        let (by, seconds) = (mutant.found_by.join(", "), began.elapsed().as_secs_f32());
        let verdict = if is_found { "" } else { "**not** " };
        println!("| {promise} | {breaks} | {verdict}{by} | {seconds:.1} |");
        missed.extend((!is_found).then_some(breaks));
    }
    assert!(missed.is_empty(), "not found: {missed:#?}");
}
