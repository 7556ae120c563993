//! Database servers of a test's own, to be stopped, killed and configured without anybody else's harm.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    net::{TcpListener, TcpStream},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tempfile::TempDir;

/// A server with its data in a directory of its own. Both go with it.
#[derive(Debug)]
pub struct OwnServer {
    port: u16,
    run: Command,
    process: Child,
    directory: TempDir,
}

impl OwnServer {
    /// A Redis that writes every change to disk before it answers.
    #[must_use]
    pub fn redis(options: &[&str]) -> Self {
        Self::redis_of("redis-server", options)
    }

    /// The same, Valkey or another server that understands Redis' options: the one that `variable` names.
    ///
    /// # Panics
    /// If it names none.
    #[must_use]
    pub fn redis_named_by(variable: &str, options: &[&str]) -> Self {
        Self::redis_of(env::var_os(variable).expect("a server"), options)
    }

    fn redis_of(program: impl Into<OsString>, options: &[&str]) -> Self {
        let program = program.into();
        let directory = directory();
        Self::start(directory, |directory, port| {
            let mut run = Command::new(&program);
            run.args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
                .args(["--save", "", "--appendonly", "yes"])
                .args(["--appendfsync", "always", "--dir"])
                .arg(directory)
                .args(options);
            run
        })
    }

    /// A PostgreSQL that anybody on this machine may use.
    ///
    /// # Panics
    /// If it is not installed.
    #[must_use]
    pub fn postgres() -> Self {
        let programs =
            newest("/usr/lib/postgresql", "bin/postgres").expect("PostgreSQL is installed");
        let directory = directory();
        let initdb = programs.with_file_name("initdb");
        succeeds(
            as_user("postgres", directory.path(), &initdb)
                .args(["--no-sync", "--auth=trust", "--username=postgres", "-D"])
                .arg(directory.path().join("data")),
        );
        Self::start(directory, |directory, port| {
            let mut run = as_user("postgres", directory, &programs);
            run.args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k"])
                .arg(directory)
                .arg("-D")
                .arg(directory.join("data"));
            run
        })
    }

    /// A MariaDB that logs what is written for replicas, and whose root has no password.
    #[must_use]
    pub fn mariadb() -> Self {
        let server = Path::new("/usr/sbin/mariadbd");
        let directory = directory();
        // Servers that are being installed get into each other's way in a common folder for what is temporary.
        let folders = |directory: &Path| {
            [("--datadir=", "data"), ("--tmpdir=", "")].map(|(option, folder)| {
                let mut option = OsString::from(option);
                option.push(directory.join(folder));
                option
            })
        };
        let install = Path::new("/usr/bin/mariadb-install-db");
        succeeds(
            as_user("mysql", directory.path(), install)
                .args(["--no-defaults", "--auth-root-authentication-method=normal"])
                .args(folders(directory.path())),
        );
        Self::start(directory, |directory, port| {
            let mut socket = OsString::from("--socket=");
            socket.push(directory.join("socket"));
            let mut run = as_user("mysql", directory, server);
            run.args(["--no-defaults", "--bind-address=127.0.0.1"])
                .args(["--log-bin=log", "--server-id=1"])
                .arg(format!("--port={port}"))
                .arg(socket)
                .args(folders(directory));
            run
        })
    }

    fn start(directory: TempDir, run: impl FnOnce(&Path, u16) -> Command) -> Self {
        let port = free_port();
        let mut run = run(directory.path(), port);
        // In a file, since a server that nobody listens to stops in the end.
        let said = File::create(directory.path().join("said")).expect("a file can be made");
        let also = said.try_clone().expect("a file can be had twice");
        run.stdout(said).stderr(also);
        let process = run.spawn();
        let process = process.unwrap_or_else(|error| panic!("{run:?} starts: {error}"));
        let mut server = Self {
            port,
            run,
            process,
            directory,
        };
        server.wait();
        server
    }

    /// Where it listens, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    fn wait(&mut self) {
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.process.try_wait().expect("its process can be asked");
            if ended.is_some() {
                let said = fs::read_to_string(self.directory.path().join("said"));
                panic!("{:?} has ended, having said {said:?}", self.run);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops the server and all that it has started, `"-STOP"`, or has them go on, `"-CONT"`.
    ///
    /// # Panics
    /// If there is no such process any more.
    pub fn signal(&self, signal: &str) {
        let process = self.process.id().to_string();
        let children = Command::new("pgrep").args(["-P", &process]).output();
        let children = children.expect("processes can be listed").stdout;
        let children = String::from_utf8(children).expect("processes are numbers");
        // First the one that would mend the loss of the others.
        succeeds(Command::new("kill").args([signal, &process]));
        for child in children.lines() {
            // It may have ended meanwhile.
            let _sent = Command::new("kill").args([signal, child]).output();
        }
    }

    /// Ends the server as a loss of power would.
    ///
    /// # Panics
    /// If there is no such process any more.
    pub fn kill(&mut self) {
        self.signal("-KILL");
        self.process.wait().expect("it has been killed");
    }

    /// Starts it again after a [`kill`](Self::kill), with the data that it had.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn restart(&mut self) {
        self.process = self.run.spawn().expect("it starts again");
        self.wait();
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            self.kill();
        }
    }
}

/// A port that no connection is given by the system meanwhile, also while its server is down: it gives from 32768 on.
///
/// # Panics
/// If there is no such port.
#[must_use]
pub fn free_port() -> u16 {
    static TRIED: AtomicU32 = AtomicU32::new(0);

    loop {
        let tried = TRIED.fetch_add(1, Ordering::Relaxed);
        // Other processes begin elsewhere.
        let port = 20_000 + (std::process::id().wrapping_mul(97).wrapping_add(tried)) % 12_000;
        let port = u16::try_from(port).expect("it is below 32768");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory can be made")
}

/// The program in the folder of the highest number.
fn newest(folder: &str, program: &str) -> Option<PathBuf> {
    let versions = fs::read_dir(folder).ok()?.flatten();
    let newest = versions.max_by_key(|version| {
        let name = version.file_name();
        name.to_str().and_then(|name| name.parse::<u32>().ok())
    })?;
    Some(newest.path().join(program)).filter(|program| program.exists())
}

/// A program that refuses to run as root. Where the test does, it runs as this user, to whom the directory goes.
fn as_user(user: &str, directory: &Path, program: &Path) -> Command {
    let this = fs::metadata("/proc/self").expect("processes are listed");
    if this.uid() != 0 {
        return Command::new(program);
    }
    succeeds(Command::new("chown").arg("-R").arg(user).arg(directory));
    let mut run = Command::new("setpriv");
    run.args(["--reuid", user, "--regid", user, "--init-groups"])
        .arg(program)
        .current_dir(directory);
    run
}

fn succeeds(command: &mut Command) {
    let output = command.output().expect("the program can be run");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
