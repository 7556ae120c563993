//! Tells the tests what is missing here. Those that need it are ignored, with the reason: they do not pass.

use std::{env, path::Path, process::Command};

fn main() {
    // Three packages share this file.
    for script in ["build.rs", "../build.rs"] {
        rerun_if_changed(Path::new(script));
    }
    for (missing, variable) in [
        ("without_redis", "REDIS_URL"),
        ("without_postgres", "POSTGRES_URL"),
        ("without_mysql", "MYSQL_URL"),
        ("without_valkey", "VALKEY_SERVER"),
        ("without_soak", "SOAK_SECONDS"),
    ] {
        println!("cargo::rerun-if-env-changed={variable}");
        set_if(
            missing,
            env::var_os(variable).is_none_or(|value| value.is_empty()),
        );
    }
    for (missing, program) in [
        ("without_own_redis", "/usr/bin/redis-server"),
        ("without_own_postgres", "/usr/lib/postgresql"),
        ("without_own_mariadb", "/usr/sbin/mariadbd"),
    ] {
        set_if(missing, !Path::new(program).exists());
    }
    // Debian's list of what is installed.
    rerun_if_changed(Path::new("/var/lib/dpkg/status"));
    set_if("with_rust_src", quotes_std());
}

/// Whether the compiler finds the standard library's sources, and so quotes them. Editors install them.
fn quotes_std() -> bool {
    let rustc = env::var_os("RUSTC").expect("cargo says which");
    let printed = Command::new(rustc).args(["--print", "sysroot"]).output();
    let sysroot = printed.expect("the compiler runs").stdout;
    let sysroot = String::from_utf8(sysroot).expect("its path is text");
    let rustlib = Path::new(sysroot.trim()).join("lib/rustlib");
    // rustup's list of what is installed.
    rerun_if_changed(&rustlib.join("components"));
    rustlib.join("src/rust/library").is_dir()
}

/// Of a path that is not there, cargo thinks that it has just changed: all that depends on this would be built each time.
fn rerun_if_changed(path: &Path) {
    if path.exists() {
        println!("cargo::rerun-if-changed={}", path.display());
    }
}

fn set_if(cfg: &str, is_set: bool) {
    println!("cargo::rustc-check-cfg=cfg({cfg})");
    if is_set {
        println!("cargo::rustc-cfg={cfg}");
    }
}
