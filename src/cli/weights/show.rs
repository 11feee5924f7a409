//! `waag weights show`: what stands on chain for a validator.

use serde::Serialize;

use super::super::{
    Context, Failure, Outcome,
    appliance::weight_policy,
    exit::{answer, table},
};
use crate::chain::{Account, CommitForm, Hiding, OpenCommit, Validator, Way, WeightRules};

/// Arguments of `waag weights show`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag weights show --netuid 12                      the wallet's own hotkey
  waag weights show --netuid 12 --of 5F… --mechanism 1
  waag weights show --json                           also stake, threshold, version key, rounds of open commits

All of it is read at one finalized block. Weights may be set again one block later than the chain's rate limit asks for.")]
pub struct Args {
    /// Show this hotkey [default: the one of the wallet]
    #[arg(long, value_name = "SS58")]
    of: Option<Account>,
    /// Show this mechanism [default: `weights.mechanism` of the settings]
    #[arg(long, value_name = "M")]
    mechanism: Option<u8>,
}

/// What stands on chain for a validator, in one mechanism of a subnet.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct View {
    netuid: u16,
    mechanism: u8,
    mechanisms: u8,
    hotkey: Account,
    /// The finalized block that all of this is of.
    block: u64,
    uid: Option<u16>,
    permit: bool,
    stake_rao: Option<u64>,
    stake_threshold_rao: u64,
    weights: Vec<Entry>,
    /// The block of the last weights or commit; 0 for never.
    last_update: u64,
    rate_limit_blocks: u64,
    /// The first block in which the weight setter would set weights again.
    may_set_block: u64,
    /// How weights are set here.
    way: Way,
    version_key: u64,
    next_epoch_block: Option<u64>,
    epoch: u64,
    open_commits: Vec<Commit>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Entry {
    uid: u16,
    weight: u16,
    /// Its part of the sum.
    share: f64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Commit {
    way: Way,
    block: u64,
    epoch: u64,
    reveal_epoch: u64,
    round: Option<u64>,
}

/// Runs the verb.
///
/// # Errors
/// When nobody is named, or the chain cannot be read.
pub async fn run(context: &Context, args: &Args) -> Outcome {
    let configured = context.configured()?;
    let settings = configured.settings();
    let hotkey = match args.of {
        Some(hotkey) => hotkey,
        None => context
            .wallet(settings)?
            .hotkey_account()
            .ok_or_else(|| Failure::usage("there is no hotkey in the wallet; say whose weights with `--of`"))?,
    };
    let mechanism = args.mechanism.unwrap_or(settings.weights.mechanism);
    let netuid = settings.network.netuid;
    let client = context.chain(settings).await?;
    let head = client.finalized_head().await?;
    let rules = client.weight_rules(netuid, head.hash).await?;
    if mechanism >= rules.mechanisms {
        return Err(Failure::usage(format!("subnet {netuid} has the mechanisms 0 to {}", rules.mechanisms - 1)));
    }
    let validator = client.validator(netuid, mechanism, &hotkey, head.hash).await?;
    let view = View::new(&rules, validator, weight_policy(settings, false).hiding);
    answer(context.json(), &view, || view.in_words());
    Ok(())
}

impl View {
    fn new(rules: &WeightRules, validator: Validator, hiding: Hiding) -> Self {
        let sum: u64 = validator.row.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let entry = |(uid, weight): (u16, u16)| Entry { uid, weight, share: share(weight, sum) };
        let may_set_block = rules.next_set_block(validator.last_update);
        Self {
            netuid: validator.netuid,
            mechanism: validator.mechanism,
            mechanisms: rules.mechanisms,
            hotkey: validator.hotkey,
            block: rules.block,
            uid: validator.uid,
            permit: validator.permit,
            stake_rao: validator.stake_rao,
            stake_threshold_rao: rules.stake_threshold_rao,
            weights: validator.row.into_iter().map(entry).collect(),
            last_update: validator.last_update,
            rate_limit_blocks: rules.rate_limit_blocks,
            may_set_block,
            way: rules.way(hiding),
            version_key: rules.version_key,
            next_epoch_block: rules.next_epoch_block(),
            epoch: rules.epoch_index,
            open_commits: validator.commits.iter().map(|commit| Commit::new(rules, commit)).collect(),
        }
    }

    fn in_words(&self) -> String {
        let mut lines = vec![
            format!("{} in subnet {}, mechanism {}, at block {}", self.hotkey, self.netuid, self.mechanism, self.block),
            match self.uid {
                Some(uid) => format!("uid {uid}, {} permit", if self.permit { "with a" } else { "without a" }),
                None => "not registered".to_owned(),
            },
        ];
        lines.push(match self.may_set_block {
            0 => "weights may be set".to_owned(),
            block if block <= self.block => format!("last set in block {}; weights may be set", self.last_update),
            block => format!("last set in block {}; weights may be set from block {block} on", self.last_update),
        });
        let epoch = self.next_epoch_block.map_or_else(|| "none".to_owned(), |block| format!("in block {block}"));
        lines.push(format!("weights are set {}; next epoch: {epoch}", in_words(self.way)));
        for commit in &self.open_commits {
            lines.push(format!(
                "committed ({}) in block {}, epoch {}; revealed in epoch {}",
                commit.way.as_str(),
                commit.block,
                commit.epoch,
                commit.reveal_epoch
            ));
        }
        let row = |entry: &Entry| {
            vec![entry.uid.to_string(), entry.weight.to_string(), format!("{:.2} %", entry.share * 100.0)]
        };
        let rows: Vec<Vec<String>> = self.weights.iter().map(row).collect();
        lines.push(String::new());
        lines.push(match rows.as_slice() {
            [] => "no weights".to_owned(),
            rows => table(&["uid", "weight", "share"], rows),
        });
        lines.join("\n")
    }
}

impl Commit {
    const fn new(rules: &WeightRules, commit: &OpenCommit) -> Self {
        let (way, round) = match &commit.form {
            CommitForm::Hash { .. } => (Way::Hash, None),
            CommitForm::Timelocked { round } => (Way::Timelocked, Some(*round)),
        };
        let reveal_epoch = commit.epoch.saturating_add(rules.reveal_period_epochs);
        Self { way, block: commit.block, epoch: commit.epoch, reveal_epoch, round }
    }
}

/// A way to set weights, for people.
pub(super) const fn in_words(way: Way) -> &'static str {
    match way {
        Way::Plain => "plainly",
        Way::Timelocked => "sealed, and opened by the chain in a later epoch",
        Way::Hash => "by hash, and revealed in a later epoch",
    }
}

/// A weight's part of the sum.
#[expect(clippy::cast_precision_loss, reason = "shown, never computed with")]
pub(super) fn share(weight: u16, sum: u64) -> f64 {
    if sum == 0 { 0.0 } else { f64::from(weight) / sum as f64 }
}
