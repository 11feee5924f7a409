//! The stage `duplicates` of models: whose weights they are, in the order of commitment.
//!
//! Owns which models are held against one another and what becomes of a verdict. Refuses to compare: `dedup` does. The
//! catalogue makes it; the pipeline gives it the peers.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Models,
    codes::{DERIVATIVE, DUPLICATE, FINGERPRINT_FAILED, FOREIGN_TENSORS},
    fetched::{named, outcome},
    neighbours::Neighbours,
};
use crate::{
    dedup::model::{
        Fingerprint, compat,
        corpus::{self, Corpus, Entry, Verdict},
        verdict::Relation,
    },
    engine::Contestant,
    fault::Fault,
    ids::{Digest, Hotkey, SubmissionId},
    stage::{Exposed, JobResult, Outcome, Peer, Plan, Scope, Stage, Work},
};

/// How long an elder may keep its youngers waiting, where the profile says nothing: longer than fetching a large model
/// takes.
const WAIT_MS: u64 = 2 * 60 * 60 * 1000;
/// Share of the base's matrices that a model must have. Fine-tunes have all; what is folded away or left out of a file
/// because it is tied to another is little.
const SHARED_MIN: f64 = 0.9;
/// The longest such wait.
const WAIT_MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// By what models are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdicts {
    /// By what they add to their base, whatever the disguise.
    #[default]
    Added,
    /// By norms and public samples of their tensors, as the method `layer_norms_v2_with_samples` has it.
    Norms,
}

/// What becomes of a model that was built from an elder one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Derivatives {
    /// It goes on; its verdict names the elder.
    #[default]
    Pass,
    /// It is refused.
    Reject,
}

/// What the profile says of the stage.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// By what models are compared.
    pub verdict: Verdicts,
    /// With `verdict = "norms"`: the similarity from which a model is a duplicate.
    pub similarity: f64,
    /// What becomes of a model that was built from an elder one.
    pub derivatives: Derivatives,
    /// How long an elder that has not come so far keeps its youngers waiting, in milliseconds.
    pub wait_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            verdict: Verdicts::default(),
            similarity: compat::DUPLICATE_SIMILARITY,
            derivatives: Derivatives::default(),
            wait_ms: WAIT_MS,
        }
    }
}

impl Options {
    /// Reads and checks a profile's options.
    ///
    /// # Errors
    /// Says in words which option is wrong.
    pub fn parse(options: &Value) -> Result<Self, String> {
        let given = if options.is_null() { json!({}) } else { options.clone() };
        let parsed: Self = serde_json::from_value(given).map_err(|source| source.to_string())?;
        if !(parsed.similarity > 0.0 && parsed.similarity <= 1.0) {
            return Err(format!("`similarity` is {}, it must be above 0 and at most 1", parsed.similarity));
        }
        if parsed.wait_ms > WAIT_MS_MAX {
            return Err(format!("`wait_ms` is {}, it must be at most {WAIT_MS_MAX}", parsed.wait_ms));
        }
        Ok(parsed)
    }
}

/// Compares models.
pub struct Duplicates {
    models: Models,
    options: Options,
    neighbours: Neighbours,
}

/// A peer with its fingerprint, where there is one under this key.
struct Known {
    peer: Peer,
    name: String,
    owner: String,
    print: Fingerprint,
}

/// What was found about one model.
struct Found {
    /// Whether it may not go on, and for what.
    fault: Option<Fault>,
    /// Younger peers that are its copies.
    exposed: Vec<Exposed>,
    /// What was seen.
    evidence: Value,
}

impl Duplicates {
    /// The stage with these options, for these models.
    #[must_use]
    pub fn new(models: Models, options: Options) -> Self {
        Self { models, options, neighbours: Neighbours::default() }
    }

    /// Its own fingerprint; made again where it is not kept, as after a change of the key.
    async fn own(&self, work: &Work, artifact: Digest) -> Result<Fingerprint, Outcome> {
        if let Some(print) = self.models.parts.prints.get(artifact).await.map_err(Outcome::Retry)? {
            return Ok(print);
        }
        let (repo, digest) = named(work).map_err(Outcome::Retry)?;
        let looked = self.models.look(repo, digest).await.map_err(outcome)?;
        self.models.print(artifact, &looked).await.map_err(outcome)
    }

    /// The peers with their fingerprints: all, or those that may have anything to do with the model where all would not
    /// fit into memory. Answers how many have no fingerprint under this key, too.
    async fn known(
        &self,
        peers: &[Peer],
        own: &Arc<Fingerprint>,
        base: Option<&Arc<Fingerprint>>,
        most: usize,
    ) -> Result<(Vec<Known>, usize), Fault> {
        let (mut known, mut unknown) = (Vec::new(), 0);
        let nearest;
        let mut peers = peers;
        if peers.len() > most {
            match base {
                Some(base) => {
                    let prints = &self.models.parts.prints;
                    (nearest, unknown) = self.neighbours.nearest(prints, peers, own, base, most).await?;
                    peers = &nearest;
                }
                // Without a base there is nothing to be near in: the eldest, whom most would copy.
                None => peers = &peers[..most],
            }
        }
        for peer in peers {
            match self.models.parts.prints.get(peer.artifact).await? {
                None => unknown += 1,
                Some(print) => known.push(Known {
                    peer: peer.clone(),
                    name: peer.submission.to_string(),
                    owner: String::new(),
                    print,
                }),
            }
        }
        Ok((known, unknown))
    }
}

#[async_trait]
impl Stage for Duplicates {
    fn scope(&self) -> Scope {
        Scope::Submission
    }

    fn in_order(&self) -> Option<u64> {
        Some(self.options.wait_ms)
    }

    async fn run(&self, work: &Work) -> Outcome {
        let Some(contestant) = work.contestants.first() else { return Outcome::Pass(json!(null)) };
        let Some(coldkey) = work.coldkey else {
            return Outcome::Retry(FINGERPRINT_FAILED.because("the submission has no owner"));
        };
        let own = match self.own(work, contestant.artifact).await {
            Ok(own) => own,
            Err(outcome) => return outcome,
        };
        let own = Arc::new(own);
        let gathered = async {
            let base = self.models.base().await?;
            let known = self.known(&work.peers, &own, base.as_ref(), Neighbours::room(&own)).await?;
            Ok::<_, Fault>((base, known))
        };
        let (base, (known, unknown)) = match gathered.await {
            Ok(gathered) => gathered,
            Err(fault) => return Outcome::Retry(fault),
        };
        let (options, contestant) = (self.options.clone(), contestant.clone());
        let compared = tokio::task::spawn_blocking(move || {
            let mut known = known;
            let owner = name_owners(&contestant, coldkey, &mut known);
            let model = Model { contestant: &contestant, owner: &owner, print: &own };
            if let Some(found) = base.as_ref().and_then(|base| not_of(base, &own)) {
                return found;
            }
            match options.verdict {
                Verdicts::Added => by_what_is_added(&options, &model, base.as_deref(), &known),
                Verdicts::Norms => by_norms(&options, &model, &known),
            }
        });
        let mut found = match compared.await {
            Ok(found) => found,
            Err(source) => {
                return Outcome::Retry(FINGERPRINT_FAILED.because(format!("the comparison ended early: {source}")));
            }
        };
        found.evidence["not_comparable"] = json!(unknown);
        match found {
            Found { fault: Some(fault), evidence, .. } => Outcome::Reject(fault, evidence),
            Found { exposed, evidence, .. } if exposed.is_empty() => Outcome::Pass(evidence),
            Found { exposed, evidence, .. } => Outcome::Exposes(evidence, exposed),
        }
    }

    fn fold(&self, _: &Work, _: &Plan, _: &[JobResult]) -> BTreeMap<SubmissionId, Outcome> {
        BTreeMap::new()
    }
}

/// The model at hand.
struct Model<'a> {
    contestant: &'a Contestant,
    owner: &'a str,
    print: &'a Fingerprint,
}

/// Whose each is, by a name: all that share a hotkey or a coldkey are one owner's, also over a chain of such, because
/// both may change hands while their owner stays. Answers the owner of the model at hand.
fn name_owners(contestant: &Contestant, coldkey: Hotkey, known: &mut [Known]) -> String {
    let mut owners: BTreeMap<Hotkey, Hotkey> = BTreeMap::new();
    let pairs = known.iter().map(|one| (one.peer.hotkey, one.peer.coldkey)).chain([(contestant.hotkey, coldkey)]);
    for (hotkey, coldkey) in pairs.collect::<Vec<_>>() {
        let (one, other) = (root(&owners, hotkey), root(&owners, coldkey));
        owners.insert(one.max(other), one.min(other));
    }
    for one in known {
        one.owner = root(&owners, one.peer.hotkey).to_string();
    }
    root(&owners, contestant.hotkey).to_string()
}

/// The account that stands for all that are one owner's.
fn root(owners: &BTreeMap<Hotkey, Hotkey>, account: Hotkey) -> Hotkey {
    let mut account = account;
    while let Some(next) = owners.get(&account).filter(|next| **next != account) {
        account = *next;
    }
    account
}

/// A model that is the base itself, or is not made of its tensors: then nothing can be said of what it adds, and a copy
/// would only have to rename what it copies.
fn not_of(base: &Fingerprint, own: &Fingerprint) -> Option<Found> {
    let refused = |fault: Fault, evidence: Value| Found { fault: Some(fault), exposed: Vec::new(), evidence };
    if own.contents == base.contents {
        let evidence = json!({ "reference": "base", "contents": hex::encode(own.contents) });
        return Some(refused(DUPLICATE.because("it is the challenge's base itself"), evidence));
    }
    let (shared, all) = (own.shared_with(base), base.matrices());
    if shared as f64 >= all as f64 * SHARED_MIN {
        return None;
    }
    let detail = format!("{shared} of the base's {all} matrices are there by name and shape");
    Some(refused(FOREIGN_TENSORS.because(detail), json!({ "reference": "base", "shared": shared, "of": all })))
}

/// The order of commitment as numbers, ties by account as everywhere.
fn ages<'a>(contestant: &'a Contestant, known: &'a [Known]) -> BTreeMap<SubmissionId, u64> {
    let mut order: Vec<_> = known.iter().map(|one| (one.peer.priority, one.peer.hotkey, one.peer.submission)).collect();
    order.push((contestant.priority, contestant.hotkey, contestant.submission));
    order.sort_unstable();
    order.into_iter().zip(0..).map(|((_, _, submission), age)| (submission, age)).collect()
}

fn by_what_is_added(options: &Options, model: &Model<'_>, base: Option<&Fingerprint>, known: &[Known]) -> Found {
    let ages = ages(model.contestant, known);
    let age = |submission: &SubmissionId| ages.get(submission).copied().unwrap_or(u64::MAX);
    let middle = base.is_none().then(|| {
        // One of each owner, so that nobody can move the middle by himself.
        let mut eldest: BTreeMap<&str, &Fingerprint> = BTreeMap::from([(model.owner, model.print)]);
        for one in known {
            eldest.entry(&one.owner).or_insert(&one.print);
        }
        corpus::middle(&eldest.into_values().collect::<Vec<_>>())
    });
    let middle = middle.flatten();
    let (against, reference) = match (base, &middle) {
        (Some(base), _) => (base, "base"),
        (None, Some(middle)) => (middle, "middle"),
        (None, None) => return by_contents(model, known, &ages),
    };
    let name = model.contestant.submission.to_string();
    let own = Entry { id: &name, owner: model.owner, priority: age(&model.contestant.submission), print: model.print };
    let entry = |one: &'_ Known| age(&one.peer.submission);
    let entries =
        known.iter().map(|one| Entry { id: &one.name, owner: &one.owner, priority: entry(one), print: &one.print });
    let corpus = Corpus::new(against, entries.chain([own]));
    let verdict = corpus.judge(&own);
    let victim = verdict.victim.as_ref().and_then(|id| known.iter().find(|one| one.name == *id));
    let mut evidence = json!({ "reference": reference, "verdict": verdict });
    let mut fault = None;
    if let Some(victim) = victim {
        name_victim(&mut evidence, &victim.peer);
        let told = told(&verdict, &victim.peer);
        match (verdict.finding.relation, options.derivatives) {
            (Relation::Copy, _) => fault = Some(DUPLICATE.because(told)),
            (Relation::Derivative, Derivatives::Reject) => fault = Some(DERIVATIVE.because(told)),
            (Relation::Derivative, Derivatives::Pass) | (Relation::Independent, _) => {}
        }
    }
    let mut exposed = Vec::new();
    if fault.is_none() {
        for one in known.iter().filter(|one| entry(one) > own.priority && one.owner != model.owner) {
            let younger = Entry { id: &one.name, owner: &one.owner, priority: entry(one), print: &one.print };
            // The pair alone first: nearly all have nothing to do with each other.
            if Corpus::new(against, [own]).judge(&younger).finding.relation == Relation::Independent {
                continue;
            }
            let verdict = corpus.judge(&younger);
            let code = match (verdict.finding.relation, options.derivatives) {
                (Relation::Copy, _) => DUPLICATE,
                (Relation::Derivative, Derivatives::Reject) => DERIVATIVE,
                _ => continue,
            };
            if verdict.victim.as_deref() == Some(name.as_str()) {
                let kind = word(json!(verdict.finding.kind));
                let detail = format!("{kind} of {name} by {}", model.contestant.hotkey);
                let mut evidence = json!({ "reference": reference, "verdict": verdict });
                name_self(&mut evidence, model.contestant);
                exposed.push(Exposed { submission: one.peer.submission, fault: code.because(detail), evidence });
            }
        }
    }
    Found { fault, exposed, evidence }
}

/// Where no base is known and too few models tell one, nothing but equal contents is held against anybody.
fn by_contents(model: &Model<'_>, known: &[Known], ages: &BTreeMap<SubmissionId, u64>) -> Found {
    let own_age = ages.get(&model.contestant.submission).copied().unwrap_or(u64::MAX);
    let is_elder = |one: &&Known| ages.get(&one.peer.submission).is_some_and(|age| *age < own_age);
    let same = || known.iter().filter(|one| one.owner != model.owner && one.print.contents == model.print.contents);
    let mut evidence = json!({ "reference": "none", "contents": hex::encode(model.print.contents) });
    if let Some(victim) = same().find(is_elder) {
        name_victim(&mut evidence, &victim.peer);
        let detail = format!("it holds the very contents of {} by {}", victim.name, victim.peer.hotkey);
        return Found { fault: Some(DUPLICATE.because(detail)), exposed: Vec::new(), evidence };
    }
    let expose = |one: &Known| {
        let mut evidence = evidence.clone();
        name_self(&mut evidence, model.contestant);
        let detail = format!("it holds the very contents of {}", model.contestant.submission);
        Exposed { submission: one.peer.submission, fault: DUPLICATE.because(detail), evidence }
    };
    let exposed = same().map(expose).collect();
    Found { fault: None, exposed, evidence }
}

fn by_norms(options: &Options, model: &Model<'_>, known: &[Known]) -> Found {
    let ages = ages(model.contestant, known);
    let own_age = ages.get(&model.contestant.submission).copied().unwrap_or(u64::MAX);
    let others = || known.iter().filter(|one| one.owner != model.owner);
    let is_elder = |one: &&Known| ages.get(&one.peer.submission).is_some_and(|age| *age < own_age);
    let like = |one: &Known| compat::similarity(&model.print.layer_norms, &one.print.layer_norms);
    let mut best: Option<(f64, &Known)> = None;
    for one in others().filter(is_elder) {
        let similarity = like(one);
        // Of equals the eldest stays.
        if best.is_none_or(|(most, _)| similarity > most) {
            best = Some((similarity, one));
        }
    }
    let mut evidence = json!({
        "reason": compat::METHOD, "similarity": best.map(|(similarity, _)| similarity),
        "threshold": options.similarity, "candidates_checked": others().filter(is_elder).count(),
    });
    let mut fault = None;
    if let Some((similarity, victim)) = best.filter(|(similarity, _)| *similarity >= options.similarity) {
        name_victim(&mut evidence, &victim.peer);
        let detail = format!("{similarity:.4} of its tensors are those of {} by {}", victim.name, victim.peer.hotkey);
        fault = Some(DUPLICATE.because(detail));
    }
    let mut exposed = Vec::new();
    if fault.is_none() {
        for one in others().filter(|one| !is_elder(one)) {
            let similarity = like(one);
            if similarity >= options.similarity {
                let detail = format!("{similarity:.4} of its tensors are those of {}", model.contestant.submission);
                let mut evidence = json!({
                    "reason": compat::METHOD, "similarity": similarity, "threshold": options.similarity,
                });
                name_self(&mut evidence, model.contestant);
                exposed.push(Exposed { submission: one.peer.submission, fault: DUPLICATE.because(detail), evidence });
            }
        }
    }
    Found { fault, exposed, evidence }
}

fn name_victim(evidence: &mut Value, victim: &Peer) {
    evidence["duplicate_of"] = json!(victim.field);
    evidence["duplicate_of_hotkey"] = json!(victim.hotkey);
    evidence["duplicate_of_submission"] = json!(victim.submission);
}

fn name_self(evidence: &mut Value, elder: &Contestant) {
    evidence["duplicate_of"] = json!(elder.artifact);
    evidence["duplicate_of_hotkey"] = json!(elder.hotkey);
    evidence["duplicate_of_submission"] = json!(elder.submission);
}

/// The verdict in a line.
fn told(verdict: &Verdict, victim: &Peer) -> String {
    let (relation, kind) = (word(json!(verdict.finding.relation)), word(json!(verdict.finding.kind)));
    let figures = &verdict.finding.summary;
    format!(
        "{relation} ({kind}) of {} by {}, committed in block {}: {:.0} of 100 changed matrices found again, probability {}",
        victim.submission,
        victim.hotkey,
        victim.priority.block,
        figures.matched * 100.0,
        verdict.finding.probability
    )
}

/// A word as it stands in evidence.
fn word(value: Value) -> String {
    value.as_str().map(ToOwned::to_owned).unwrap_or_default()
}
