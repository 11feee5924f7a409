//! `waag devnet` as a process of its own.

use std::{
    path::Path,
    process::{Child, Stdio},
};

use serde_json::Value;

use super::{folder, run, waag};

/// A devnet that ends with the test.
pub struct Devnet {
    child: Child,
    pub url: String,
    pub ground: Value,
}

impl Devnet {
    /// Starts one on a free port, and waits until it says where.
    pub fn start(dir: &Path, more: &[&str]) -> Self {
        let mut command = std::process::Command::from_binary(dir);
        command.args(["devnet", "--listen", "127.0.0.1:0", "--json"]).args(more);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let stdout = child.stdout.take().expect("it is piped");
        let said = serde_json::Deserializer::from_reader(stdout).into_iter::<Value>().next();
        let said = said.expect("it says where it listens").expect("one document");
        let url = said["url"].as_str().expect("text").to_owned();
        Self { child, url, ground: said["ground"].clone() }
    }

    /// The flags by which a verb reaches it.
    pub fn flags(&self) -> [&str; 4] {
        ["--subtensor.network", "devnet", "--subtensor.chain-endpoint", &self.url]
    }

    /// Asks it to stop, and answers with its exit code.
    pub fn stop(mut self) -> Option<i32> {
        let asked = std::process::Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(asked.expect("kill is there").success());
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Devnet {
    fn drop(&mut self) {
        // Either it runs still or it has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

trait FromBinary {
    fn from_binary(dir: &Path) -> Self;
}

impl FromBinary for std::process::Command {
    fn from_binary(dir: &Path) -> Self {
        let mut command = Self::new(waag(dir).get_program());
        command.current_dir(dir).env_clear().env("HOME", dir);
        command
    }
}

#[test]
fn it_prepares_a_subnet_and_keeps_its_chain() {
    let dir = folder();
    let args = ["--block-ms", "50", "--state", "dev.chain"];
    let devnet = Devnet::start(dir.path(), &args);
    assert_eq!(devnet.ground["netuid"], 1);
    let doctor = run(dir.path(), &[&devnet.flags()[..], &["doctor", "--json"]].concat());
    assert_eq!(doctor.exit, 0, "{}", doctor.stdout);
    let lines = doctor.json()["checks"].as_array().expect("a list").clone();
    let found = |what: &str| lines.iter().find(|line| line["what"] == what).expect("it was looked at").clone();
    assert_eq!(found("chain")["health"], "ok");
    assert_eq!(found("subnet")["health"], "ok");
    let genesis = found("chain")["found"].as_str().expect("text").rsplit(' ').next().expect("a hash").to_owned();
    assert_eq!(devnet.stop(), Some(0));

    let again = Devnet::start(dir.path(), &args);
    let doctor = run(dir.path(), &[&again.flags()[..], &["doctor", "--json"]].concat());
    assert!(doctor.stdout.contains(&genesis), "the same chain goes on");
}

#[test]
fn a_bare_one_has_no_subnet() {
    let dir = folder();
    let devnet = Devnet::start(dir.path(), &["--bare"]);
    assert!(devnet.ground.is_null());
    let doctor = run(dir.path(), &[&devnet.flags()[..], &["doctor", "--json"]].concat());
    assert_eq!(doctor.exit, 1);
    assert!(doctor.stdout.contains("chain_subnet_missing"), "{}", doctor.stdout);
}

#[test]
fn it_listens_on_loopback_only_and_says_when_a_port_is_taken() {
    let dir = folder();
    let said = run(dir.path(), &["devnet", "--listen", "0.0.0.0:0", "--json"]);
    assert_eq!(said.exit, 4);
    assert_eq!(said.json()["error"]["code"], "devnet_address");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let said = run(dir.path(), &["devnet", "--listen", &address, "--json"]);
    assert_eq!(said.json()["error"]["code"], "devnet_address");
}
