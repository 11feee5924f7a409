//! The facts of a bundle that only a chain can confirm.

use std::{collections::BTreeMap, sync::Arc};

use super::check;
use crate::{
    chain::{BlockRef, Client, Error, Metagraph, Options, ReadBack, read_back},
    cli::{Context, Failure},
    fault::Class,
    ids::{Digest, Hotkey, Priority},
    weights::{
        Limits, Vector,
        bundle::{Bundle, ChainFact, Check, Finding},
    },
};

/// What became of one fact.
type Found = (Finding, String);

/// Asks a node for every fact.
///
/// # Errors
/// When the node does not answer at all.
pub async fn run(context: &Context, bundle: &Bundle, facts: &[ChainFact], url: &str) -> Result<Vec<Check>, Failure> {
    let options = Options { clock: Arc::clone(&context.clock), ..Options::new(vec![url.to_owned()]) };
    let client = Client::connect(options).await?;
    let mut witness = Witness { client, bundle, metagraphs: BTreeMap::new() };
    let mut checks = Vec::new();
    let mut registered = Vec::new();
    for fact in facts {
        let (finding, detail) = match witness.look(fact).await {
            Ok(found) => found,
            // What the node does not tell is nobody's lie.
            Err(error) if error.code().class == Class::Provider => (Finding::NotChecked, error.to_string()),
            Err(error) => (Finding::Failed, error.to_string()),
        };
        // Two hundred neurons that are right need one line.
        if matches!(fact, ChainFact::Registered { .. }) && finding == Finding::Passed {
            registered.push(detail);
            continue;
        }
        checks.push(check(format!("chain {}", subject(fact)), finding, detail));
    }
    if !registered.is_empty() {
        let detail = format!("{} hotkeys are as recorded", registered.len());
        checks.push(check("chain registrations", Finding::Passed, detail));
    }
    Ok(checks)
}

fn subject(fact: &ChainFact) -> String {
    match fact {
        ChainFact::Genesis { .. } => "genesis".to_owned(),
        ChainFact::BlockHash { block, .. } => format!("block {block}"),
        ChainFact::Commitment { hotkey, at, .. } => format!("commitment of {} in block {}", hotkey.short(), at.block),
        ChainFact::Registered { uid, .. } => format!("uid {uid}"),
        ChainFact::Limits { block, .. } => format!("limits at block {block}"),
        ChainFact::Weights { .. } => "weights".to_owned(),
    }
}

struct Witness<'a> {
    client: Client,
    bundle: &'a Bundle,
    metagraphs: BTreeMap<u64, Metagraph>,
}

fn same<T: PartialEq>(found: &T, recorded: &T, words: impl Fn(&T) -> String) -> Found {
    if found == recorded {
        (Finding::Passed, words(found))
    } else {
        (Finding::Failed, format!("the chain says {}, recorded is {}", words(found), words(recorded)))
    }
}

impl Witness<'_> {
    async fn look(&mut self, fact: &ChainFact) -> Result<Found, Error> {
        match fact {
            ChainFact::Genesis { hash } => {
                Ok(same(&Digest(self.client.genesis_hash()), hash, |hash: &Digest| hash.to_string()))
            }
            ChainFact::BlockHash { block, hash } => match self.client.block_hash(*block).await? {
                Some(found) => Ok(same(&found, hash, |hash: &Digest| hash.to_string())),
                None => Ok((Finding::NotChecked, "the chain has no such block yet".to_owned())),
            },
            ChainFact::Commitment { hotkey, at, text } => self.commitment(hotkey, at, text).await,
            ChainFact::Registered { block, uid, hotkey, since_block } => {
                let metagraph = self.metagraph(*block).await?;
                let found = metagraph.neurons.iter().find(|neuron| neuron.uid == *uid);
                let found = found.map(|neuron| (neuron.hotkey, neuron.registered_at));
                Ok(same(&found, &Some((*hotkey, *since_block)), |holder| match holder {
                    Some((hotkey, since)) => format!("{hotkey} since block {since}"),
                    None => "nobody".to_owned(),
                }))
            }
            ChainFact::Limits { block, limits } => {
                let at = self.block(*block).await?;
                let rules = self.client.weight_rules(self.bundle.netuid, at.hash).await?;
                let found = Limits {
                    n: rules.n,
                    min_allowed: rules.min_allowed,
                    max_limit: rules.max_limit,
                    version_key: rules.version_key,
                };
                Ok(same(&found, limits, |limits| format!("{limits:?}")))
            }
            ChainFact::Weights { vector } => self.weights(vector).await,
        }
    }

    async fn block(&self, number: u64) -> Result<BlockRef, Error> {
        let unknown = || Error::UnknownBlock { block: number.to_string() };
        let hash = self.client.block_hash(number).await?.ok_or_else(unknown)?;
        self.client.block(hash).await
    }

    async fn metagraph(&mut self, block: u64) -> Result<&Metagraph, Error> {
        if !self.metagraphs.contains_key(&block) {
            let at = self.block(block).await?;
            let metagraph = self.client.metagraph(self.bundle.netuid, at.hash).await?;
            self.metagraphs.insert(block, metagraph);
        }
        Ok(&self.metagraphs[&block])
    }

    /// The field was committed by that extrinsic, and did not stand there before.
    async fn commitment(&self, hotkey: &Hotkey, at: &Priority, text: &str) -> Result<Found, Error> {
        let block = self.block(at.block).await?;
        let made = self.client.block_commitments(self.bundle.netuid, &block).await?;
        let holds = |fields: &[crate::chain::Field]| fields.iter().any(|field| field.as_text() == Some(text));
        let Some(made) = made.iter().find(|made| made.hotkey == *hotkey && holds(&made.fields)) else {
            return Ok((Finding::Failed, "the block holds no such commitment".to_owned()));
        };
        // What stood on chain before the appliance's first block was taken from state, which knows no extrinsics.
        if at.index != u32::MAX && made.extrinsic_index != at.index {
            let detail = format!("it is extrinsic {}, recorded is {}", made.extrinsic_index, at.index);
            return Ok((Finding::Failed, detail));
        }
        let before = self.client.commitment_of(self.bundle.netuid, hotkey, block.parent).await?;
        if let Some(before) = before.filter(|before| holds(&before.fields)) {
            let detail = format!("it stood there before, since block {} or earlier", before.block);
            return Ok((Finding::Failed, detail));
        }
        Ok((Finding::Passed, format!("made by extrinsic {}", made.extrinsic_index)))
    }

    /// Some validator has these weights now. A vector that was replaced since cannot be seen any more, and that is
    /// said; one that nobody can have set is a difference.
    async fn weights(&self, vector: &Vector) -> Result<Found, Error> {
        let head = self.client.finalized_head().await?;
        let metagraph = self.client.metagraph(self.bundle.netuid, head.hash).await?;
        let sent: Vec<(u16, u16)> = vector.uids.iter().copied().zip(vector.values.iter().copied()).collect();
        let mut set_since = false;
        for validator in metagraph.neurons.iter().filter(|neuron| neuron.permit) {
            let stored = self.client.weights(self.bundle.netuid, validator.uid, head.hash).await?;
            if read_back(&sent, &stored) == ReadBack::Equal {
                return Ok((
                    Finding::Passed,
                    format!("set by {} and there at block {}", validator.hotkey, head.number),
                ));
            }
            set_since |= validator.last_update >= self.bundle.snapshot.block;
        }
        Ok(if set_since {
            let detail = format!("no validator has these weights at block {}; others were set since", head.number);
            (Finding::NotChecked, detail)
        } else {
            (Finding::Failed, "no validator has set any weights since the snapshot".to_owned())
        })
    }
}
