//! The processes of a crash test: a devnet that lives through it, and an appliance that does not.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU16, Ordering},
};

use serde_json::Value;
use waag::pipeline::points::Point;

/// The ports that this process has handed out. Below those that the system gives to whoever connects somewhere, so
/// that nobody takes one while its process is being killed and started again.
static NEXT_PORT: AtomicU16 = AtomicU16::new(0);
const FIRST_PORT: u16 = 15_000;
const PORTS: u16 = 17_000;

fn free_port() -> u16 {
    let process = u16::try_from(std::process::id() % u32::from(PORTS)).expect("it is smaller");
    for _ in 0..PORTS {
        let offset = NEXT_PORT.fetch_add(1, Ordering::Relaxed).wrapping_add(process.wrapping_mul(31)) % PORTS;
        let port = FIRST_PORT + offset;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

/// Where everything of one test is kept.
pub struct Place {
    pub dir: PathBuf,
    pub wallet: &'static str,
    /// What the processes log, and to which file; by default only errors, to where the test's own words go.
    pub log: (&'static str, Option<PathBuf>),
    data: PathBuf,
    netuid: u16,
    block_ms: u64,
    port: u16,
    chain_port: u16,
}

impl Place {
    /// The same ports at every start: whoever asks need not be told.
    pub fn new(dir: &Path, netuid: u16, block_ms: u64) -> Self {
        let (port, chain_port) = (free_port(), free_port());
        let data = dir.join("data");
        Self { dir: dir.to_owned(), wallet: "owner", log: ("error", None), data, netuid, block_ms, port, chain_port }
    }

    pub fn api(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Keeps its data elsewhere.
    pub fn with_data(mut self, data: &Path) -> Self {
        self.data = data.to_owned();
        self
    }

    pub fn wallets(&self) -> PathBuf {
        self.dir.join("validators")
    }

    pub fn profile(&self) -> PathBuf {
        self.dir.join("profile.toml")
    }

    /// Writes the profile and the settings of an appliance that brings its chain along.
    pub fn write(&self, profile: &str) {
        fs::write(self.profile(), profile).expect("it is written");
        self.write_settings(None);
    }

    fn write_settings(&self, chain: Option<&str>) {
        let endpoints = chain.map(|url| format!("endpoints = [\"{url}\"]\n")).unwrap_or_default();
        let settings = format!(
            "data_dir = \"{data}\"\nchallenges = [\"./profile.toml\"]\n\
             [network]\nnetuid = {netuid}\nname = \"devnet\"\n{endpoints}\
             [wallet]\npath = \"{wallets}\"\nname = \"{wallet}\"\nhotkey = \"validator\"\n\
             [server]\nlisten = \"127.0.0.1:{port}\"\n\
             [weights]\ninterval_blocks = 1000000\nrecheck_ms = 100\n\
             [devnet]\nlisten = \"127.0.0.1:{chain_port}\"\nblock_ms = {block_ms}\n",
            data = self.data.display(),
            wallets = self.wallets().display(),
            wallet = self.wallet,
            netuid = self.netuid,
            port = self.port,
            chain_port = self.chain_port,
            block_ms = self.block_ms,
        );
        fs::write(self.dir.join("waag.toml"), settings).expect("it is written");
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_waag"));
        command
            .args(args)
            .args(["--json", "--log", self.log.0, "--config", "waag.toml"])
            .current_dir(&self.dir)
            .env_clear()
            .env("HOME", &self.dir)
            // A parked thread must not take the others' work with it.
            .env("TOKIO_WORKER_THREADS", "6");
        if let Some(file) = &self.log.1 {
            let file = fs::OpenOptions::new().create(true).append(true).open(file).expect("it can be written");
            command.stderr(file);
        }
        command
    }

    /// Runs the binary to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("it starts")
    }

    /// Starts the chain, whose blocks come only when they are asked for. From then on the settings name it. Started
    /// again, it has the same address and goes on with the same blocks.
    pub fn start_devnet(&self) -> Devnet {
        // On a slow machine more blocks are made than usually keep their state, and a replay reads them all.
        self.start_chain(&["devnet", "--manual", "--state", "dev.chain", "--state-blocks", "1000000"])
    }

    /// The same with blocks that come by themselves.
    pub fn start_ticking_devnet(&self) -> Devnet {
        self.start_chain(&["devnet", "--state", "dev.chain"])
    }

    /// The same without a subnet, and forgetful.
    pub fn start_bare_devnet(&self) -> Devnet {
        self.start_chain(&["devnet", "--manual", "--bare"])
    }

    fn start_chain(&self, args: &[&str]) -> Devnet {
        self.write_settings(None);
        let (process, said) = Process::start(self, args);
        let url = said["url"].as_str().expect("it says where it listens").to_owned();
        self.write_settings(Some(&url));
        Devnet { process, url }
    }
}

pub struct Devnet {
    pub process: Process,
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

    /// Fails the test when the process is not there any more: nothing that is waited for can happen then.
    pub fn assert_runs(&mut self) {
        let ended = self.child.try_wait().expect("it can be asked");
        assert!(ended.is_none(), "it ended by itself: {ended:?}");
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.assert_runs();
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
