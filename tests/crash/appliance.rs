//! The processes of a crash test: a devnet that lives through it, and an appliance that does not.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;
use waag::pipeline::points::Point;

/// Where everything of one test is kept.
pub struct Place {
    pub dir: PathBuf,
    netuid: u16,
    block_ms: u64,
    port: u16,
}

impl Place {
    /// The same port at every start: whoever asks need not be told.
    pub fn new(dir: &Path, netuid: u16, block_ms: u64) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("it is bound").port();
        Self { dir: dir.to_owned(), netuid, block_ms, port }
    }

    pub fn api(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub fn wallets(&self) -> PathBuf {
        self.dir.join("validators")
    }

    pub fn write_profile(&self, text: &str) {
        fs::write(self.dir.join("profile.toml"), text).expect("it is written");
    }

    fn write_settings(&self, chain: Option<&str>) {
        let endpoints = chain.map(|url| format!("endpoints = [\"{url}\"]\n")).unwrap_or_default();
        let settings = format!(
            "data_dir = \"{dir}/data\"\nchallenges = [\"./profile.toml\"]\n\
             [network]\nnetuid = {netuid}\nname = \"devnet\"\n{endpoints}\
             [wallet]\npath = \"{wallets}\"\nname = \"owner\"\nhotkey = \"validator\"\n\
             [server]\nlisten = \"127.0.0.1:{port}\"\n\
             [weights]\ninterval_blocks = 1000000\nrecheck_ms = 100\n\
             [devnet]\nlisten = \"127.0.0.1:0\"\nblock_ms = {block_ms}\n",
            dir = self.dir.display(),
            wallets = self.wallets().display(),
            netuid = self.netuid,
            port = self.port,
            block_ms = self.block_ms,
        );
        fs::write(self.dir.join("waag.toml"), settings).expect("it is written");
    }

    /// The settings of an appliance that brings its chain along.
    pub fn write_own(&self) {
        self.write_settings(None);
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_waag"));
        command
            .args(args)
            .args(["--json", "--log", "error", "--config", "waag.toml"])
            .current_dir(&self.dir)
            .env_clear()
            .env("HOME", &self.dir)
            // A parked thread must not take the others' work with it.
            .env("TOKIO_WORKER_THREADS", "6");
        command
    }

    /// Runs the binary to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("it starts")
    }

    /// Starts the chain; from then on the settings name it.
    pub fn start_devnet(&mut self) -> Devnet {
        self.write_settings(None);
        let (process, said) = Process::start(self, &["devnet", "--state", "dev.chain"]);
        let url = said["url"].as_str().expect("it says where it listens").to_owned();
        self.write_settings(Some(&url));
        Devnet { _process: process, url }
    }
}

pub struct Devnet {
    _process: Process,
    pub url: String,
}

/// A process that ends with the test at the latest.
pub struct Process {
    child: Child,
}

impl Drop for Process {
    fn drop(&mut self) {
        // Either it runs still or it has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Process {
    /// Starts the binary and waits for the document in which it says that it is there.
    pub fn start(place: &Place, args: &[&str]) -> (Self, Value) {
        let mut child = place.command(args).stdout(Stdio::piped()).spawn().expect("the binary starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped"));
        let process = Self { child };
        let mut text = String::new();
        loop {
            assert!(lines.read_line(&mut text).expect("it is text") > 0, "it ended early: {text}");
            if let Ok(document) = serde_json::from_str(&text) {
                return (process, document);
            }
        }
    }

    /// Starts the appliance, armed or not.
    pub fn up(place: &Place, armed: Option<(Point, &Path)>) -> Self {
        let stop_at = armed.map(|(point, marker)| format!("{point}:0:{}", marker.display()));
        let mut args = vec!["up"];
        if let Some(stop_at) = &stop_at {
            args.extend(["--stop-at", stop_at]);
        }
        Self::start(place, &args).0
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it can be asked").is_some()
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        assert!(!self.has_ended(), "it ended by itself");
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Asks it to stop, and answers with its exit code.
    pub fn stop(mut self) -> Option<i32> {
        let asked = Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(asked.expect("kill is there").success());
        self.child.wait().expect("it ends").code()
    }
}
