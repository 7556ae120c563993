//! Compares what users can name with `runtime/public-api.txt`, or writes it with `--bless`.

use std::{
    env, fs,
    path::Path,
    process::{Command, ExitCode},
};

use public_api::Builder;

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let committed = root.join("runtime/public-api.txt");
    let public_api = public_api(&root);
    if env::args().any(|argument| argument == "--bless") {
        fs::write(committed, public_api).expect("the text can be written");
        return ExitCode::SUCCESS;
    }
    let expected = fs::read_to_string(committed).unwrap_or_default();
    let (old, new): (Vec<_>, Vec<_>) = (expected.lines().collect(), public_api.lines().collect());
    let mut changes = 0;
    for (sign, these, others) in [("-", &old, &new), ("+", &new, &old)] {
        for line in these.iter().filter(|line| !others.contains(line)) {
            println!("{sign} {line}");
            changes += 1;
        }
    }
    if changes > 0 {
        println!(
            "The public API is not the one of runtime/public-api.txt. If that is meant: `just public-api`."
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Every public item, one to a line, without what each type has by itself.
fn public_api(root: &Path) -> String {
    let target = root.join("target");
    let status = Command::new(env!("CARGO"))
        .current_dir(root)
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTDOC", root.join(".ci/rustdoc-json"))
        // With other flags than those of documentation to read, this is documentation of its own for cargo.
        .env("RUSTDOCFLAGS", "--cfg=public_api")
        // Of the whole workspace, whose dependencies are checked already.
        .args([
            "doc",
            "--quiet",
            "--workspace",
            "--no-deps",
            "--all-features",
        ])
        .status();
    assert!(status.expect("cargo runs").success(), "rustdoc fails");
    let json = target.join("doc/session_refresh.json");
    let public_api = Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build();
    let public_api = public_api.expect("public-api reads this compiler's JSON");
    public_api.to_string()
}
