//! `waag weights set`: weights by hand, on the appliance's own way.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio::sync::watch;

use super::{
    super::{
        Context, Failure, Outcome,
        appliance::weight_policy,
        exit::{answer, confirm, note, table},
    },
    show::{in_words, share},
};
use crate::{
    actors::{Ground, Weigher, WeigherError},
    chain::Way,
    config::Settings,
    fault::{Class, Code},
    ids::SystemEntropy,
    pipeline::{Challenges, Pipeline, StoredVector, points::Points},
    store::{self, Store},
    weights::Vector,
};

/// Longest wait between two looks at the chain, in milliseconds: a fraction of a block.
const LOOK_MS_MAX: u64 = 1_000;
/// Entries of one call: as many as a subnet can have uids.
const ENTRIES_MAX: usize = 4096;

/// A vector is open already.
pub const UNDER_WAY: Code = Code::new(
    Class::Operator,
    "weights_under_way",
    "earlier weights of this data directory are not at their end",
    "`waag weights set --resume` carries them on, and so does the appliance; `waag weights history` shows them",
);
/// The vector came to nothing.
pub const NOT_SET: Code = Code::new(
    Class::Infra,
    "weights_not_set",
    "the weights did not come to stand on chain",
    "the detail says why; look with `waag weights show`, and set them again",
);

/// Arguments of `waag weights set`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag weights set --netuid 12 --uids 1,2 --weights 0.4,0.6
  waag weights set --netuid 12 --uids 1,2 --weights 0.4,0.6 --yes --wait --json
  waag weights set --resume --wait                   carry on what an earlier run has begun

It shows what will be set and asks. It refuses while an appliance works in the same data directory: that one sets \
weights by itself, and sets its own again when they are due. Where the subnet hides weights they are committed, and \
stand after the chain's next epochs. Exit code 1 when they did not come to stand.")]
pub struct Args {
    /// Who is weighted, separated by commas
    #[arg(long, value_name = "UIDS", value_delimiter = ',', required_unless_present = "resume")]
    uids: Vec<u16>,
    /// The weight of each; only their proportion counts
    #[arg(long, value_name = "WEIGHTS", value_delimiter = ',', required_unless_present = "resume")]
    weights: Vec<f64>,
    /// Set them without asking
    #[arg(long, short)]
    yes: bool,
    /// Wait until the chain has opened sealed weights, and read them back
    #[arg(long)]
    wait: bool,
    /// Carry on weights that an earlier run has begun
    #[arg(long, conflicts_with_all = ["uids", "weights"])]
    resume: bool,
}

impl From<WeigherError> for Failure {
    fn from(source: WeigherError) -> Self {
        match source {
            WeigherError::Chain(source) => source.into(),
            WeigherError::Pipeline(source) => source.into(),
            WeigherError::Store(source) => source.into(),
            WeigherError::Evidence(source) => source.fault().into(),
            WeigherError::Refused(fault) => fault.into(),
        }
    }
}

/// Runs the verb.
///
/// # Errors
/// When the weights make no vector, the wallet, the data directory or the chain does not allow them, or they do not
/// come to stand.
pub async fn run(context: &Context, args: &Args) -> Outcome {
    let chosen = if args.resume { None } else { Some(vector_of(&args.uids, &args.weights)?) };
    let configured = context.configured()?;
    let settings = configured.settings();
    let weigher = weigher(context, settings).await?;
    let open = weigher.pipeline.open_vector().await?;
    let id = match (chosen, open) {
        (None, Some(open)) => open.id,
        (None, None) => return Err(Failure::usage("there is nothing to resume")),
        (Some(_), Some(open)) => {
            return Err(UNDER_WAY.because(format!("vector {} is {}", open.id, open.state)).into());
        }
        (Some(vector), None) => {
            let ground = weigher.ground(settings.network.netuid).await?;
            // What a hand wrote is no mistake of this program.
            ground.check(&vector).map_err(|fault| match fault.class {
                Class::Bug => Failure::usage(fault.detail),
                _ => fault.into(),
            })?;
            if !context.json() {
                tell(&ground, &vector);
            }
            if !args.yes {
                confirm(&format!("set these weights in subnet {}?", settings.network.netuid))?;
            }
            weigher.set_by_hand(&ground, vector).await?
        }
    };
    let ended = carry_on(context, &weigher, id, args.wait).await?;
    match ended.state.as_str() {
        "confirmed" | "committed" => {
            answer(context.json(), &json!({ "vector": ended }), || end_in_words(&ended));
            Ok(())
        }
        _ => {
            let detail = ended.detail.unwrap_or_else(|| ended.state.clone());
            Err(Failure::check(NOT_SET.because(format!("vector {}: {detail}", ended.id))))
        }
    }
}

/// The weight setter, on this data directory alone: while an appliance works there, it sets weights by itself.
async fn weigher(context: &Context, settings: &Settings) -> Result<Weigher, Failure> {
    let hotkey = Arc::new(context.wallet(settings)?.validator()?);
    let kept = store::Options::from_settings(&settings.store).map_err(super::super::context::refused)?;
    let store = Store::open(&settings.data_dir, kept).await?;
    let pipeline = Pipeline::open(store, Arc::clone(&context.clock), Challenges::new(), Points::default()).await?;
    let client = context.chain(settings).await?;
    let (policy, entropy) = (weight_policy(settings, false), Arc::new(SystemEntropy));
    Ok(Weigher { client, hotkey, pipeline, facts: watch::channel(None).1, policy, entropy })
}

/// Takes step after step until the vector is at its end, or is committed and the chain has the next word.
async fn carry_on(context: &Context, weigher: &Weigher, id: i64, wait: bool) -> Result<StoredVector, Failure> {
    let gone = || NOT_SET.because(format!("vector {id} is gone"));
    let pause = Duration::from_millis(weigher.policy.recheck_ms.min(LOOK_MS_MAX));
    let mut told = String::new();
    loop {
        let again = match weigher.carry_on().await {
            Ok(again) => again.unwrap_or_default(),
            // It is kept, so whatever may pass is waited for; what is signed dies by itself.
            Err(WeigherError::Chain(error)) if error.code().class.is_retried() => {
                if !context.json() {
                    note(format_args!("{}; trying again", error.fault().detail));
                }
                false
            }
            Err(error) => return Err(error.into()),
        };
        let vector = weigher.pipeline.vector(Some(id)).await?.ok_or_else(gone)?;
        if vector.state != told && !context.json() {
            note(format_args!("{}", state_in_words(&vector)));
        }
        told.clone_from(&vector.state);
        let is_waiting = match vector.state.as_str() {
            "decided" => true,
            // Nobody else reveals what was committed by hash.
            "committed" => wait || vector.sending.way == Way::Hash,
            _ => false,
        };
        if !is_waiting {
            return Ok(vector);
        }
        if !again {
            context.clock.sleep(pause).await;
        }
    }
}

fn tell(ground: &Ground, vector: &Vector) {
    let sum: u64 = vector.values.iter().map(|weight| u64::from(*weight)).sum();
    let row = |(uid, weight): (&u16, &u16)| {
        vec![uid.to_string(), weight.to_string(), format!("{:.2} %", share(*weight, sum) * 100.0)]
    };
    let rows: Vec<Vec<String>> = vector.uids.iter().zip(&vector.values).map(row).collect();
    let (netuid, mechanism) = (ground.rules.netuid, ground.caller.mechanism);
    note(format_args!("subnet {netuid}, mechanism {mechanism}, hotkey {}", ground.caller.hotkey));
    note(table(&["uid", "weight", "share"], &rows));
    note(format_args!("they replace all {} entries that stand now", ground.caller.row.len()));
    note(format_args!("they are set {}", in_words(ground.way)));
}

fn state_in_words(vector: &StoredVector) -> String {
    match (vector.state.as_str(), vector.commit_block, vector.confirmed_block) {
        ("decided", ..) => format!("vector {}: signed and written down; waiting for finality", vector.id),
        ("committed", Some(block), _) => format!("vector {}: committed in block {block}", vector.id),
        (_, _, Some(block)) => format!("vector {}: read back at block {block}", vector.id),
        (state, ..) => format!("vector {}: {state}", vector.id),
    }
}

fn end_in_words(vector: &StoredVector) -> String {
    match vector.confirmed_block {
        Some(block) => format!("the weights stand as they were set, read back at block {block}"),
        None => "the weights are committed; the chain opens them in a later epoch: `waag weights set --resume --wait` \
                 waits for it, `waag weights show` looks"
            .to_owned(),
    }
}

/// The vector of these weights, in order of uid; the largest becomes 65535, as the chain stores it.
fn vector_of(uids: &[u16], weights: &[f64]) -> Result<Vector, Failure> {
    let wrong = |detail: String| Err(Failure::usage(detail));
    if uids.len() != weights.len() {
        return wrong(format!("{} uids and {} weights", uids.len(), weights.len()));
    }
    if uids.len() > ENTRIES_MAX {
        return wrong(format!("{} uids, at most {ENTRIES_MAX}", uids.len()));
    }
    if let Some(weight) = weights.iter().find(|weight| !weight.is_finite() || **weight < 0.0) {
        return wrong(format!("{weight} is no weight"));
    }
    let largest = weights.iter().copied().fold(0.0, f64::max);
    if largest <= 0.0 {
        return wrong("no weight is above 0".to_owned());
    }
    let mut pairs: Vec<(u16, u16)> =
        uids.iter().copied().zip(weights.iter().map(|weight| scaled(*weight, largest))).collect();
    pairs.sort_unstable();
    if let Some(pair) = pairs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return wrong(format!("uid {} is given twice", pair[0].0));
    }
    let (uids, values) = pairs.into_iter().unzip();
    Ok(Vector { uids, values })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it lies between 0 and 65535")]
fn scaled(weight: f64, largest: f64) -> u16 {
    (weight / largest * f64::from(u16::MAX)).round() as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_proportions_count_and_the_largest_is_full() {
        let vector = vector_of(&[7, 2], &[0.4, 0.6]).unwrap();
        assert_eq!((vector.uids, vector.values), (vec![2, 7], vec![65535, 43690]));
        assert_eq!(vector_of(&[1, 2], &[3.0, 0.0]).unwrap().values, [65535, 0]);
        assert_eq!(vector_of(&[1], &[f64::MIN_POSITIVE]).unwrap().values, [65535]);
    }

    #[test]
    fn what_is_no_vector_is_refused() {
        for (uids, weights) in [
            (&[1_u16][..], &[1.0, 2.0][..]),
            (&[1, 1], &[1.0, 2.0]),
            (&[1], &[0.0]),
            (&[], &[]),
            (&[1], &[-1.0]),
            (&[1], &[f64::NAN]),
            (&[1], &[f64::INFINITY]),
        ] {
            assert_eq!(vector_of(uids, weights).map_err(|failure| failure.exit), Err(2), "{uids:?} {weights:?}");
        }
        let many: Vec<u16> = (0..=4096).collect();
        assert_eq!(vector_of(&many, &vec![1.0; 4097]).map_err(|failure| failure.exit), Err(2));
        assert!(vector_of(&many[..4096], &vec![1.0; 4096]).is_ok());
    }
}
