//! The cast against an appliance in another process: nothing of the demo reaches into it.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use waag::{
    chain::{self, Client},
    cli::demo::{cast::cast, play::Stage, report, settle},
    clock::SystemClock,
    ids::SystemEntropy,
    server,
};

/// The subnet.
pub const NETUID: u16 = 7;
const BLOCK_MS: u64 = 100;

/// A process that ends with the test.
pub struct Appliance {
    child: Child,
    /// Where it answers.
    pub api: String,
    /// Where its chain answers.
    pub chain: String,
}

impl Drop for Appliance {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Starts `waag up --dev` with these profiles (the embedded one if there are none) and reads from its first document
/// where it answers.
pub fn start(dir: &Path, block_ms: u64, profiles: &[PathBuf]) -> Appliance {
    let challenges = if profiles.is_empty() { String::new() } else { format!("challenges = {profiles:?}\n") };
    let settings = format!(
        "{challenges}data_dir = \"{dir}/data\"\n[network]\nnetuid = {NETUID}\nname = \"devnet\"\n[wallet]\npath = \"{dir}/none\"\n\
         [server]\nlisten = \"127.0.0.1:0\"\n[devnet]\nlisten = \"127.0.0.1:0\"\nblock_ms = {block_ms}\n",
        dir = dir.display()
    );
    std::fs::write(dir.join("waag.toml"), settings).expect("the settings are written");
    let mut child = Command::new(env!("CARGO_BIN_EXE_waag"))
        .args(["up", "--dev", "--json", "--log", "error", "--config"])
        .arg(dir.join("waag.toml"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut text = String::new();
    let mut lines = BufReader::new(child.stdout.take().expect("piped"));
    let document: serde_json::Value = loop {
        assert!(lines.read_line(&mut text).expect("readable") > 0, "it ended early: {text}");
        if let Ok(document) = serde_json::from_str(&text) {
            break document;
        }
    };
    let field = |name: &str| document[name].as_str().expect("the document has it").to_owned();
    Appliance { api: field("api"), chain: field("chain"), child }
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_ends_where_they_deserve_and_the_weights_are_read_back() {
    // Two providers of TLS are linked; the first test that connects chooses.
    drop(rustls::crypto::ring::default_provider().install_default());
    let dir = tempfile::tempdir().expect("a temporary directory");
    let appliance = start(dir.path(), BLOCK_MS, &[]);
    let stage = Stage {
        netuid: NETUID,
        challenge: waag::config::profile::EMBEDDED_DEFAULT.parse().expect("a slug"),
        chain: Client::connect(chain::Options::new(vec![appliance.chain.clone()])).await.expect("the chain answers"),
        chain_url: appliance.chain.clone(),
        block_ms: BLOCK_MS,
        api: server::Client::new(&appliance.api).expect("an address"),
        folder: dir.path().to_owned(),
        clock: SystemClock::shared(),
    };
    let quiet = |_: &str| {};
    let members = cast();
    let parts = stage.play(&members, &SystemEntropy, &quiet).await.expect("the cast plays");
    settle(&stage, &quiet).await.expect("everything comes to rest");
    let report = report::gather(&stage, &members, parts).await.expect("everything can be asked");
    for line in &report.members {
        assert!(line.as_deserved, "{} ended as {:?} {:?} {:?}", line.name, line.status, line.fault, line.door_refused);
    }
    assert!(report.weights.equal, "{:?}", report.weights);
    assert!(report.evidence.verified);
    let verified = Command::new(env!("CARGO_BIN_EXE_waag"))
        .arg("verify")
        .arg(&report.evidence.file)
        .current_dir(dir.path())
        .output()
        .expect("the binary starts");
    let said = String::from_utf8_lossy(&verified.stdout);
    assert!(verified.status.success(), "{said}");
    let backend =
        said.lines().find(|line| line.contains(": backend: ")).expect("the bundle says what ran the policies");
    assert!(backend.starts_with("ok    quickstart: backend: embedded ") && backend.contains("fused "), "{backend}");
}
