//! The arguments: what every verb takes, and the list of verbs.
//!
//! Owns spellings. Refuses to know what a verb does. Each verb's own arguments stand beside it.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Parser, Subcommand};

use crate::config::Given;

const FILES: &str = "Settings";

/// Weighs what miners send: a Bittensor subnet's whole way from chain to weights, in one binary.
#[derive(Debug, Parser)]
#[command(
    name = "waag",
    version,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "\
Start with `waag demo`. Then `waag help` lists the pages of the handbook, `waag help exit-codes` the exit codes, and \
`waag help CODE` explains any error code. Stdout is data, stderr is conversation; with --json stdout is one JSON \
document."
)]
pub struct Args {
    /// What every verb takes.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What every verb takes.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Globals {
    /// Print one JSON document on stdout and nothing else
    #[arg(long, global = true, help_heading = FILES)]
    pub json: bool,
    /// Settings file [default: waag.toml, if there is one]
    #[arg(long, global = true, value_name = "FILE", help_heading = FILES)]
    pub config: Option<PathBuf>,
    /// What is logged to stderr: a level, or directives such as info,waag::chain=debug
    #[arg(long, global = true, value_name = "FILTER", help_heading = FILES)]
    pub log: Option<String>,
    /// Where everything is kept
    #[arg(long, global = true, value_name = "DIR", help_heading = FILES)]
    pub data_dir: Option<String>,
    /// Number of the subnet
    #[arg(long, global = true, value_name = "N", help_heading = FILES)]
    pub netuid: Option<String>,
    /// devnet, test, finney, archive, local, or a ws:// or wss:// address
    #[arg(
        long = "subtensor.network", global = true, value_name = "NAME", help_heading = FILES,
        aliases = ["network", "subtensor-network", "subtensor_network"]
    )]
    pub network: Option<String>,
    /// Addresses of nodes in place of the network's usual ones, separated by commas
    #[arg(
        long = "subtensor.chain-endpoint", global = true, value_name = "URL", help_heading = FILES,
        aliases = ["endpoint", "subtensor.chain_endpoint", "subtensor-chain-endpoint", "chain-endpoint"]
    )]
    pub endpoint: Option<String>,
    /// Name of the wallet
    #[arg(
        long = "wallet.name", global = true, value_name = "NAME", help_heading = FILES,
        aliases = ["wallet-name", "wallet_name"]
    )]
    pub wallet_name: Option<String>,
    /// Name of the hotkey in the wallet
    #[arg(
        long = "wallet.hotkey", global = true, value_name = "NAME", help_heading = FILES,
        aliases = ["hotkey", "wallet-hotkey", "wallet_hotkey"]
    )]
    pub hotkey: Option<String>,
    /// Folder of the wallets
    #[arg(
        long = "wallet.path", global = true, value_name = "DIR", help_heading = FILES,
        aliases = ["wallet-path", "wallet_path"]
    )]
    pub wallet_path: Option<String>,
    /// File with the password of encrypted keys, in place of BT_PW_ variables and the terminal
    #[arg(
        long, global = true, value_name = "FILE", help_heading = FILES,
        aliases = ["wallet.password-file", "password_file"]
    )]
    pub password_file: Option<PathBuf>,
    /// Address of the appliance, for the miner's verbs [default: the one of the settings]
    #[arg(long, global = true, value_name = "URL", help_heading = FILES)]
    pub api: Option<String>,
}

impl Globals {
    /// The flags that are settings, as the outermost layer.
    #[must_use]
    pub fn given(&self) -> Vec<Given> {
        [
            ("--data-dir", "data_dir", &self.data_dir),
            ("--netuid", "network.netuid", &self.netuid),
            ("--subtensor.network", "network.name", &self.network),
            ("--subtensor.chain-endpoint", "network.endpoints", &self.endpoint),
            ("--wallet.name", "wallet.name", &self.wallet_name),
            ("--wallet.hotkey", "wallet.hotkey", &self.hotkey),
            ("--wallet.path", "wallet.path", &self.wallet_path),
        ]
        .into_iter()
        .filter_map(|(name, key, value)| Some(Given::new(name, key, value.as_deref()?)))
        .collect()
    }
}

impl Globals {
    /// The same flags again, for a child of this program. Whether it answers in JSON is its own affair.
    #[must_use]
    pub fn flags(&self) -> Vec<String> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        [
            ("--config", path(&self.config)),
            ("--log", self.log.clone()),
            ("--data-dir", self.data_dir.clone()),
            ("--netuid", self.netuid.clone()),
            ("--subtensor.network", self.network.clone()),
            ("--subtensor.chain-endpoint", self.endpoint.clone()),
            ("--wallet.name", self.wallet_name.clone()),
            ("--wallet.hotkey", self.hotkey.clone()),
            ("--wallet.path", self.wallet_path.clone()),
            ("--password-file", path(&self.password_file)),
            ("--api", self.api.clone()),
        ]
        .into_iter()
        .filter_map(|(flag, value)| Some([flag.to_owned(), value?]))
        .flatten()
        .collect()
    }
}

/// Arguments of `waag up`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag up --dev                     an own chain with fast blocks; state is kept in ./waag-data
  waag up --config /etc/waag.toml   serve a real subnet
  waag up --netuid 12 --subtensor.network test --wallet.name owner --wallet.hotkey validator")]
pub struct UpArgs {
    /// Bring the chain along: an embedded devnet with a subnet and a validator, fast blocks, state kept
    #[arg(long)]
    pub dev: bool,
    /// Address and port of the HTTP interface
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Stop for good at a named point; only crash tests want this
    #[arg(long, hide = true, value_name = "POINT:PASSES:MARKER")]
    pub stop_at: Option<String>,
}

/// Arguments of `waag demo`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag demo                 real policies from chain to weights, in under a minute
  waag demo --fast          fewer episodes
  waag demo --keep          leave everything up afterwards, with the API
  waag demo --json          the same as one document")]
pub struct DemoArgs {
    /// Play fewer episodes
    #[arg(long)]
    pub fast: bool,
    /// Leave everything up afterwards
    #[arg(long)]
    pub keep: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Take real policies from chain to weights on this machine, and show it
    Demo(DemoArgs),
    /// Serve a subnet: read the chain, take in artifacts, evaluate, rank, set weights
    Up(UpArgs),
    /// Write a commented waag.toml
    Init(super::init::Args),
    /// Show the settings and where each came from
    Config(super::config::Args),
    /// Check, show and list profiles
    Profile(super::profile::Args),
    /// Run the embedded chain alone
    Devnet(super::devnet::Args),
    /// Miner: register a hotkey in the subnet
    Register(super::register::Args),
    /// Miner: make a policy archive from ONNX files
    Pack(super::pack::Args),
    /// Miner: check an archive as the operator would, and play its episodes
    Check(super::check::Args),
    /// Miner: commit to an artifact on chain
    Commit(super::commit::Args),
    /// Miner: check, commit and upload an artifact
    Publish(super::publish::Args),
    /// Miner: a console for publishing a model, step by step
    On(super::on::Args),
    /// Who committed what on chain, and whether it counts
    Commitments(super::commitments::Args),
    /// What the appliance is doing, and your submissions there
    Status(super::status::Args),
    /// Which models are kept on this machine and why; delete the others
    Collect(super::collect::Args),
    /// The whole story of one submission
    Why(super::why::Args),
    /// Who is registered in the subnet, at any block
    Metagraph(super::metagraph::Args),
    /// Recompute a ranking and its weights from their evidence
    Verify(super::verify::Args),
    /// Validator: what the weights on chain are, set them by hand, what was set from here
    Weights(super::weights::Args),
    /// The keys on this machine: list, show, make, sign, verify
    Wallet(super::wallet::Args),
    /// Look at everything that this machine needs, and say what is wrong
    Doctor(super::doctor::Args),
    /// Measure
    Bench(super::bench::Args),
    /// Print a completion script for a shell
    Completions(super::completions::Args),
    /// The handbook, and what an error code means
    Help(super::help::Args),
    /// The child process in which a foreign ONNX backend runs
    #[command(name = super::play::VERB, hide = true)]
    Play,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::config::ALIASES;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_spelling_of_bittensors_tools_reaches_its_setting() {
        for alias in ALIASES {
            for flag in [&alias.flag].into_iter().chain(alias.aliases) {
                let args = Args::try_parse_from(["waag", "status", &format!("--{flag}"), "7"]);
                let given = args.unwrap_or_else(|error| panic!("--{flag}: {error}")).globals.given();
                let found: Vec<_> = given.iter().map(|given| (given.key.as_str(), given.value.as_str())).collect();
                assert_eq!(found, [(alias.key, "7")], "--{flag}");
            }
        }
    }

    #[test]
    fn a_child_is_given_every_flag_but_the_form_of_its_answer() {
        let mut line = vec!["waag".to_owned(), "status".to_owned()];
        let command = Args::command();
        for arg in command.get_arguments().filter(|arg| arg.is_global_set() && arg.get_action().takes_values()) {
            line.extend([format!("--{}", arg.get_long().expect("it is a flag")), "7".to_owned()]);
        }
        let given = Args::try_parse_from(&line).unwrap().globals.flags();
        let sorted = |flags: &[String]| flags.iter().cloned().collect::<std::collections::BTreeSet<_>>();
        assert_eq!(sorted(&given), sorted(&line[2..]));
    }

    #[test]
    fn a_flag_counts_before_and_after_the_verb() {
        for line in [["waag", "--netuid", "3", "status"], ["waag", "status", "--netuid", "3"]] {
            let args = Args::try_parse_from(line).unwrap();
            assert_eq!(args.globals.given(), [Given::new("--netuid", "network.netuid", "3")]);
        }
    }
}
