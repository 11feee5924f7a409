//! The stage `duplicates` of models: whose weights they are, in the order of commitment.
//!
//! Owns which models are held against one another and what becomes of a verdict. Refuses to compare: `dedup` does. The
//! catalogue makes it; the pipeline gives it the peers.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{
    Models,
    codes::{BASE_UNAVAILABLE, DERIVATIVE, DUPLICATE, FINGERPRINT_FAILED},
    fetched::{named, outcome},
};
use crate::{
    artifact::model::{Why, cache::key_of},
    dedup::model::{
        Fingerprint, compat,
        corpus::{self, Corpus, Entry, Verdict},
        verdict::Relation,
    },
    engine::Contestant,
    fault::Fault,
    ids::{Digest, SubmissionId},
    stage::{Exposed, JobResult, Outcome, Owner, Peer, Plan, Scope, Stage, Work},
};

/// How long an elder may keep its youngers waiting, where the profile says nothing: longer than fetching a large model
/// takes.
const WAIT_MS: u64 = 2 * 60 * 60 * 1000;
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
    base: OnceCell<Fingerprint>,
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
        Self { models, options, base: OnceCell::new() }
    }

    /// The fingerprint of the base that the profile names.
    async fn base(&self) -> Result<Option<&Fingerprint>, Fault> {
        let named = self.models.options.base().map_err(|why| BASE_UNAVAILABLE.because(why))?;
        let Some(reference) = named else { return Ok(None) };
        let digest = key_of(&reference);
        let base = self.base.get_or_try_init(|| async {
            if let Some(print) = self.models.parts.prints.get(digest).await? {
                return Ok(print);
            }
            // The base may be called as it likes; everything else is asked of it too.
            let mut models = self.models.clone();
            models.options.naming = None;
            let (repo, digest_text) = (reference.repo().to_owned(), reference.revision().to_string());
            let made = match models.look(&repo, &digest_text).await {
                Ok(looked) => models.print(digest, &looked).await,
                Err(refused) => Err(refused),
            };
            made.map_err(|refused| match *refused.why {
                Why::Rejected(rejection) => BASE_UNAVAILABLE.because(format!("{reference}: {}", rejection.detail)),
                Why::Trouble(fault) => fault,
            })
        });
        base.await.map(Some)
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

    async fn known(&self, peers: &[Peer]) -> Result<(Vec<Known>, usize), Fault> {
        let (mut known, mut unknown) = (Vec::new(), 0);
        for peer in peers {
            match self.models.parts.prints.get(peer.artifact).await? {
                None => unknown += 1,
                Some(print) => known.push(Known {
                    peer: peer.clone(),
                    name: peer.submission.to_string(),
                    owner: peer.coldkey.to_string(),
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
        let Some(owner) = work.owner.clone() else {
            return Outcome::Retry(FINGERPRINT_FAILED.because("the submission has no owner"));
        };
        if let Some(first) = &work.first
            && let Some(outcome) = taken(contestant, &owner, first)
        {
            return outcome;
        }
        let own = match self.own(work, contestant.artifact).await {
            Ok(own) => own,
            Err(outcome) => return outcome,
        };
        let gathered = async { Ok::<_, Fault>((self.base().await?.cloned(), self.known(&work.peers).await?)) };
        let (base, (known, unknown)) = match gathered.await {
            Ok(gathered) => gathered,
            Err(fault) => return Outcome::Retry(fault),
        };
        let (options, contestant) = (self.options.clone(), contestant.clone());
        let compared = tokio::task::spawn_blocking(move || {
            let owner = owner.coldkey.unwrap_or(owner.hotkey).to_string();
            let model = Model { contestant: &contestant, owner: &owner, print: &own };
            match options.verdict {
                Verdicts::Added => by_what_is_added(&options, &model, base.as_ref(), &known),
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

/// Somebody else was first to commit to this very digest: what it holds need not be looked at. Of a first one whose
/// owner nobody knows nothing is said.
fn taken(contestant: &Contestant, own: &Owner, first: &Owner) -> Option<Outcome> {
    let is_elder = first.at < contestant.priority && first.hotkey != contestant.hotkey;
    if !is_elder || first.coldkey.is_none() || first.coldkey == own.coldkey {
        return None;
    }
    let detail = format!(
        "{} committed to it in block {}, {} in block {}",
        first.hotkey, first.at.block, contestant.hotkey, contestant.priority.block
    );
    let evidence = json!({
        "reason": "same_digest", "duplicate_of": contestant.artifact, "duplicate_of_hotkey": first.hotkey,
        "committed_at": first.at,
    });
    Some(Outcome::Reject(DUPLICATE.because(detail), evidence))
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
        let prints: Vec<_> = known.iter().map(|one| &one.print).chain([model.print]).collect();
        corpus::middle(&prints)
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
            let verdict =
                corpus.judge(&Entry { id: &one.name, owner: &one.owner, priority: entry(one), print: &one.print });
            if verdict.finding.relation == Relation::Copy && verdict.victim.as_deref() == Some(name.as_str()) {
                let detail = format!("{:?} of {name} by {}", verdict.finding.kind, model.contestant.hotkey);
                let mut evidence = json!({ "reference": reference, "verdict": verdict });
                name_self(&mut evidence, model.contestant);
                exposed.push(Exposed { submission: one.peer.submission, fault: DUPLICATE.because(detail), evidence });
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
    let word = |value: Value| value.as_str().map(ToOwned::to_owned).unwrap_or_default();
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
