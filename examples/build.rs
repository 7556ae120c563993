//! Tells the browser's test whether there is a browser. Where there is none it is ignored, with the reason.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The first of these programs that is installed.
fn installed(names: &[&str]) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let folders: Vec<_> = env::split_paths(&path).collect();
    let candidates = names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    candidates.into_iter().find(|program| program.is_file())
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PATH");
    // Debian's list of what is installed. Of a file that is not there, cargo thinks that it has just changed.
    if Path::new("/var/lib/dpkg/status").exists() {
        println!("cargo::rerun-if-changed=/var/lib/dpkg/status");
    }
    println!("cargo::rustc-check-cfg=cfg(without_browser)");
    for (variable, names) in [
        (
            "CHROMIUM",
            ["chromium", "chromium-browser", "google-chrome"].as_slice(),
        ),
        ("CHROMEDRIVER", &["chromedriver"]),
    ] {
        let program = installed(names);
        if program.is_none() {
            println!("cargo::rustc-cfg=without_browser");
        }
        let program = program.unwrap_or_default();
        println!("cargo::rustc-env={variable}={}", program.display());
    }
}
