//! The runtime's rooms, held against the arrows that `ARCHITECTURE.md` draws.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Each room, and the rooms that it may name.
type Arrows = BTreeMap<String, BTreeSet<String>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The table's rows: `| room | .. | names, of, others |`.
fn drawn() -> Vec<(String, BTreeSet<String>)> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("the house is drawn");
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<_> = line.strip_prefix("| `")?.split('|').collect();
        let [room, _, others, ""] = cells.as_slice() else {
            return None;
        };
        let room = room.trim().trim_end_matches('`').to_owned();
        let others = others.split('`').skip(1).step_by(2).map(str::to_owned);
        Some((room, others.collect()))
    });
    rows.collect()
}

/// A file's room: its name, `store/..` for those of the stores.
fn room(path: &Path) -> String {
    let path = path.with_extension("");
    path.to_str().expect("a name of ASCII").replace("/mod", "")
}

fn sources(folder: &Path, below: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder.join(below)).expect("a folder of sources") {
        let path = below.join(entry.expect("an entry").file_name());
        if folder.join(&path).is_dir() {
            sources(folder, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The paths that a source names with `crate::` or `super::`, in code that is no test.
fn named(source: &str, room: &str, rooms: &BTreeSet<String>) -> BTreeSet<String> {
    let code = source.split("\nmod tests {").next();
    let lines: Vec<_> = code
        .unwrap_or_default()
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let code = lines.join("\n");
    let mut found = BTreeSet::new();
    for (begin, prefix) in [("crate::", ""), ("super::", parent(room))] {
        for (at, _) in code.match_indices(begin) {
            if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
                continue;
            }
            let rest = &code[at + begin.len()..];
            for path in paths(rest) {
                found.extend(resolve(&format!("{prefix}{path}"), rooms));
            }
        }
    }
    found.remove(room);
    found
}

/// What `super` is in a room.
fn parent(room: &str) -> &str {
    match room.split_once('/') {
        Some(("store", _)) => "store::",
        Some(("testing", _)) => "testing::",
        _ => "",
    }
}

/// The paths of a `use`, one for each name in its braces, or the one path that stands there.
fn paths(rest: &str) -> Vec<String> {
    let one = |text: &str| {
        let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
        text[..end.unwrap_or(text.len())].to_owned()
    };
    let Some(group) = rest.strip_prefix('{') else {
        let path = one(rest);
        // A group further on: its names are of one module.
        return match rest[path.len()..].strip_prefix('{') {
            Some(group) => members(group)
                .iter()
                .map(|member| format!("{path}{}", one(member)))
                .collect(),
            None => vec![path],
        };
    };
    let mut found = Vec::new();
    for member in members(group) {
        let path = one(&member);
        match member[path.len()..].strip_prefix('{') {
            Some(inner) => found.extend(
                members(inner)
                    .iter()
                    .map(|inner| format!("{path}{}", one(inner))),
            ),
            None => found.push(path),
        }
    }
    found
}

/// What stands between commas, up to the closing brace.
fn members(group: &str) -> Vec<String> {
    let (mut depth, mut current, mut found) = (0, String::new(), Vec::new());
    for character in group.chars() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(std::mem::take(&mut current));
                continue;
            }
            _ => {}
        }
        current.push(character);
    }
    found.push(current);
    found.retain(|member| !member.trim().is_empty());
    found
        .iter()
        .map(|member| member.trim_start().to_owned())
        .collect()
}

/// The room that a path leads to.
fn resolve(path: &str, rooms: &BTreeSet<String>) -> Option<String> {
    let mut names: Vec<_> = path.split("::").filter(|name| !name.is_empty()).collect();
    while !names.is_empty() {
        let name = names.join("/");
        if rooms.contains(&name) {
            return Some(name);
        }
        names.pop();
    }
    None
}

fn found() -> Arrows {
    let folder = root().join("runtime/src");
    let mut files = Vec::new();
    sources(&folder, Path::new(""), &mut files);
    let rooms: BTreeSet<_> = files.iter().map(|file| room(file)).collect();
    let arrows = files.iter().map(|file| {
        let source = fs::read_to_string(folder.join(file)).expect("a source");
        let room = room(file);
        let named = named(&source, &room, &rooms);
        (room, named)
    });
    arrows.collect()
}

#[test]
fn the_rooms_and_their_arrows_are_those_that_are_drawn_and_all_point_down() {
    let drawn = drawn();
    let found = found();
    let rooms: BTreeSet<_> = drawn.iter().map(|(room, _)| room.as_str()).collect();
    for (room, others) in &found {
        println!("`{room}`: {others:?}");
    }
    let missing: Vec<_> = found
        .keys()
        .filter(|room| *room != "lib" && !rooms.contains(room.as_str()))
        .collect();
    assert!(missing.is_empty(), "not drawn: {missing:?}");
    for (index, (room, others)) in drawn.iter().enumerate() {
        let of_room = found
            .get(room)
            .unwrap_or_else(|| panic!("no room `{room}`"));
        assert_eq!(of_room, others, "the arrows of `{room}`, found and drawn");
        for other in others {
            let below = drawn[index + 1..].iter().any(|(room, _)| room == other);
            assert!(below, "`{room}` points up to `{other}`");
        }
    }
}

/// The tests of a folder, as `module::name`.
fn tests_of(folder: &str) -> BTreeSet<String> {
    let folder = root().join(folder);
    let mut files = Vec::new();
    sources(&folder, Path::new(""), &mut files);
    let mut found = BTreeSet::new();
    for file in files {
        let source = fs::read_to_string(folder.join(&file)).expect("a source");
        let module = room(&file).replace('/', "::");
        for line in source.lines() {
            // A function, or a module that has one for each store.
            let rest = line.split_once("fn ").or_else(|| line.split_once("mod "));
            let name = rest.and_then(|(_, rest)| rest.split(['(', '<', ' ']).next());
            found.extend(name.map(|name| format!("{module}::{name}")));
            // Names that a macro makes functions of.
            let pair = line
                .trim()
                .split_once(": ")
                .filter(|(_, to)| to.ends_with(','));
            found.extend(pair.map(|(name, _)| format!("{module}::{name}")));
        }
    }
    found
}

#[test]
fn the_tests_that_the_threat_model_names_are_there() {
    let text = fs::read_to_string(root().join("SECURITY.md")).expect("there is a threat model");
    let table = text.split("\n### ").next().unwrap_or_default();
    let named = table.split('`').skip(1).step_by(2);
    let named: Vec<_> = named
        .filter(|name| {
            name.contains("::") && !name.ends_with("::..") && !name.contains("Session::")
        })
        .collect();
    assert!(named.len() > 30, "{named:?}");
    // This program knows its own, by their whole names. A test for each store is a module.
    let program = std::env::current_exe().expect("it runs");
    let list = std::process::Command::new(program).arg("--list").output();
    let list = String::from_utf8(list.expect("it lists them").stdout).expect("text");
    let tests: Vec<_> = (list.lines())
        .filter_map(|line| line.strip_suffix(": test"))
        .collect();
    let is_of_behaviour = |name: &str| {
        let Some((module, function)) = name.rsplit_once("::") else {
            return false;
        };
        // The macros for stores and layers put theirs before it or after it.
        tests.iter().any(|test| {
            let rest = test
                .strip_prefix(module)
                .and_then(|rest| rest.strip_prefix("::"));
            rest.is_some_and(|rest| rest.split("::").any(|part| part == function))
        })
    };
    let (machine, interleavings) = (tests_of("tests/machine"), tests_of("tests/interleavings"));
    for name in named {
        let is_there = match name.split_once("::") {
            Some(("machine", rest)) => machine.contains(rest),
            Some(("interleavings", _)) => interleavings.contains(name),
            _ => is_of_behaviour(name),
        };
        assert!(is_there, "there is no test `{name}`");
    }
}

/// What stands in it between these lines, from the margin on.
fn region(source: &str, name: &str) -> String {
    let begin = format!("// region: {name}\n");
    let (_, region) = source.split_once(&begin).expect("the region begins");
    let (region, _) = region.split_once("// endregion").expect("it ends");
    region.to_owned()
}

/// So that what is pasted from it compiles as it stands.
#[test]
fn the_readme_shows_what_is_compiled_and_is_read_in_a_minute() {
    let readme = fs::read_to_string(root().join("README.md")).expect("there is one");
    let source = fs::read_to_string(root().join("examples/readme.rs")).expect("it is compiled");
    let shown: Vec<_> = readme
        .split("\n```")
        .filter_map(|block| block.strip_prefix("rust\n"))
        .map(|block| format!("{block}\n"))
        .collect();
    assert_eq!(shown, [region(&source, "application")]);
    assert!(readme.lines().count() <= 150);
}
