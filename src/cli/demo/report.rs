//! The report: what became of everybody, what was computed and what stands on chain.
//!
//! Owns the comparison that decides the exit status, the table, and the JSON document. Refuses to ask the appliance
//! what stands on chain: it reads the chain itself.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Serialize;

use super::{
    cast::Member,
    play::{Part, STUCK, Stage},
};
use crate::{
    chain::Account,
    cli::exit::{Failure, Outcome, table},
    fault::Fault,
    ids::{Digest, SubmissionId},
    pipeline::life::Status,
    score::{Rate, Row},
    server::views::{Filter, Refusal, Submission},
    weights::bundle::{self, Bundle},
};

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// The member's name.
    pub name: &'static str,
    /// Who it is, in words.
    pub who: &'static str,
    /// Its place in the subnet.
    pub uid: Option<u16>,
    /// Its hotkey.
    pub hotkey: Account,
    /// The block of its commitment.
    pub commit_block: Option<u64>,
    /// Its submission, if it has one.
    pub submission: Option<SubmissionId>,
    /// Where its submission ended.
    pub status: Option<Status>,
    /// Why, where there is a fault.
    pub fault: Option<Fault>,
    /// What the chain refused it.
    pub chain_refused: Option<Fault>,
    /// What the door refused it.
    pub door_refused: Option<Fault>,
    /// What was measured, by environment.
    pub results: BTreeMap<String, Rate>,
    /// Its points.
    pub points: f64,
    /// The weight that was computed.
    pub weight_computed: u16,
    /// The weight that stands on chain.
    pub weight_read_back: u16,
    /// The ranking's reason, in words.
    pub reason: String,
    /// Whether it ended where it deserves.
    pub as_deserved: bool,
}

/// The weights.
#[derive(Debug, Clone, Serialize)]
pub struct Weights {
    /// Who set them.
    pub validator_uid: u16,
    /// The finalized block at which they were read back.
    pub block: u64,
    /// What was computed from the evidence, by uid.
    pub computed: Vec<(u16, u16)>,
    /// What stands on chain, by uid.
    pub read_back: Vec<(u16, u16)>,
    /// Whether they are equal.
    pub equal: bool,
}

/// The evidence of the weights.
#[derive(Debug, Clone, Serialize)]
pub struct Evidence {
    /// Its digest.
    pub digest: Digest,
    /// The file, for `waag verify`.
    pub file: PathBuf,
    /// Whether recomputing from it gives the same ranking and vector.
    pub verified: bool,
}

/// Everything the demo has to say.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Whether the read-back equals what was computed and everybody ended where they deserve.
    pub ok: bool,
    /// The subnet.
    pub netuid: u16,
    /// The challenge.
    pub challenge: String,
    /// The twelve.
    pub members: Vec<Line>,
    /// What doors and chain follower turned away.
    pub refusals: Vec<Refusal>,
    /// The weights.
    pub weights: Weights,
    /// The evidence.
    pub evidence: Evidence,
    /// Where everything is kept.
    pub folder: PathBuf,
    /// Where the appliance answers.
    pub api: String,
    /// Where the chain answers.
    pub chain: String,
    /// How long it took.
    pub elapsed_ms: i64,
}

/// Asks appliance and chain what became of everybody.
///
/// # Errors
/// When one of them cannot be asked.
pub async fn gather(stage: &Stage, cast: &[Member], parts: Vec<Part>) -> Result<Report, Fault> {
    let submissions = stage.api.all_submissions(&Filter::default()).await.map_err(|error| error.fault())?;
    let slug = stage.challenge.as_str();
    let ranking = stage.api.ranking(slug, None).await.map_err(|error| error.fault())?;
    let refusals = stage.api.refusals(None).await.map_err(|error| error.fault())?.items;
    let (weights, evidence) = compare(stage).await?;
    let members: Vec<Line> = cast
        .iter()
        .zip(parts)
        .map(|(member, part)| {
            let submission = submissions.iter().find(|submission| submission.hotkey == part.hotkey);
            let row = ranking.ranking.rows.iter().find(|row| row.hotkey == part.hotkey);
            line(member, part, submission, row, &weights)
        })
        .collect();
    let ok = weights.equal && evidence.verified && members.iter().all(|line| line.as_deserved);
    Ok(Report {
        ok,
        netuid: stage.netuid,
        challenge: slug.to_owned(),
        members,
        refusals,
        weights,
        evidence,
        folder: PathBuf::new(),
        api: String::new(),
        chain: String::new(),
        elapsed_ms: 0,
    })
}

fn line(member: &Member, part: Part, submission: Option<&Submission>, row: Option<&Row>, weights: &Weights) -> Line {
    let weight = |list: &[(u16, u16)]| {
        let found = part.uid.and_then(|uid| list.iter().find(|(other, _)| *other == uid));
        found.map_or(0, |(_, weight)| *weight)
    };
    let status = submission.map(|submission| submission.status);
    let fault = submission.and_then(|submission| submission.fault.clone());
    let as_deserved = member.end.is(status, fault.as_ref()) && part.is_refused_as(member.refused);
    Line {
        name: member.name,
        who: member.who,
        uid: part.uid,
        hotkey: part.hotkey,
        commit_block: part.commit_block,
        submission: submission.map(|submission| submission.id),
        status,
        fault,
        results: row.map(|row| row.results.clone()).unwrap_or_default(),
        points: row.map_or(0.0, |row| row.points),
        weight_computed: weight(&weights.computed),
        weight_read_back: weight(&weights.read_back),
        reason: row.map(|row| row.reason.clone()).unwrap_or_default(),
        chain_refused: part.chain_refused,
        door_refused: part.door_refused,
        as_deserved,
    }
}

/// What was computed, from the evidence, against what stands on chain at the finalized head.
async fn compare(stage: &Stage) -> Result<(Weights, Evidence), Fault> {
    let status = stage.api.status().await.map_err(|error| error.fault())?;
    let vector = status.vector.ok_or_else(|| STUCK.because("no weights were decided"))?;
    let bytes = stage.api.evidence(&vector.evidence).await.map_err(|error| error.fault())?;
    let bundle = Bundle::parse(&bytes).map_err(|error| error.fault())?;
    let file = stage.folder.join(format!("evidence-{}.json", vector.evidence.short()));
    std::fs::write(&file, &bytes).map_err(|source| STUCK.because(format!("{}: {source}", file.display())))?;
    let verified = bundle::verify(&bundle).is_passed();
    let computed = bundle.vector.clone().unwrap_or_default();
    let computed: Vec<(u16, u16)> = computed.uids.iter().copied().zip(computed.values.iter().copied()).collect();
    let read = async {
        let head = stage.chain.finalized_head().await?;
        let metagraph = stage.chain.metagraph(stage.netuid, head.hash).await?;
        let validator =
            metagraph.neurons.iter().find(|neuron| neuron.permit && neuron.uid > 0).map_or(0, |one| one.uid);
        let row = stage.chain.weights(stage.netuid, validator, head.hash).await?;
        Ok((head.number, validator, row))
    };
    let (block, validator_uid, mut read_back) = read.await.map_err(|error: crate::chain::Error| error.fault())?;
    read_back.sort_unstable();
    let equal = computed == read_back;
    let weights = Weights { validator_uid, block, computed, read_back, equal };
    Ok((weights, Evidence { digest: vector.evidence, file, verified }))
}

impl Report {
    /// The table, and the words for everybody who is not paid.
    #[must_use]
    pub fn table(&self) -> String {
        let environments: Vec<&String> = self
            .members
            .iter()
            .flat_map(|line| line.results.keys())
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect();
        let mut header = vec!["uid", "hotkey", "who", "commit"];
        header.extend(environments.iter().map(|name| name.trim_end_matches("-v1").trim_end_matches("-v0")));
        header.extend(["points", "weight", "read back"]);
        let rows: Vec<Vec<String>> = self.members.iter().map(|line| self.row(line, &environments)).collect();
        let mut text = table(&header, &rows);
        text.push_str("\n\n");
        for line in &self.members {
            text.push_str(&format!("{:<11} {}\n", line.name, line.words()));
        }
        let verdict = if self.weights.equal { "equal" } else { "DIFFERENT" };
        text.push_str(&format!(
            "\nweights computed and weights read back at block {}: {verdict}; the evidence {} again\n",
            self.weights.block,
            if self.evidence.verified { "gives them" } else { "DOES NOT GIVE THEM" },
        ));
        text
    }

    fn row(&self, line: &Line, environments: &[&String]) -> Vec<String> {
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
        let mut row = vec![
            or_dash(line.uid.map(|uid| uid.to_string())),
            line.hotkey.short(),
            line.name.to_owned(),
            or_dash(line.commit_block.map(|block| block.to_string())),
        ];
        for environment in environments {
            row.push(or_dash(
                line.results
                    .get(*environment)
                    .map(|rate| format!("{:.2} [{:.2} {:.2}]", rate.rate, rate.low, rate.high)),
            ));
        }
        row.extend([format!("{}", line.points), line.weight_computed.to_string(), line.weight_read_back.to_string()]);
        row
    }

    /// Where things lie and what to try next.
    #[must_use]
    pub fn afterwards(&self, keep: bool) -> String {
        let mut text = format!(
            "evidence  {}\nfolder    {}\ntook      {:.1} s\nnext      waag verify {}\n",
            self.evidence.file.display(),
            self.folder.display(),
            // Milliseconds of a demo fit a float exactly.
            self.elapsed_ms as f64 / 1000.0,
            self.evidence.file.display(),
        );
        if keep {
            text.push_str(&format!(
                "          waag status --api {api}\n          waag why s2 --api {api}\nstop it with Ctrl-C",
                api = self.api
            ));
        } else {
            text.push_str("          waag demo --keep, then waag status and waag why s2\n          waag up --dev, and a policy of your own: waag help miner");
        }
        text
    }

    /// The exit status.
    ///
    /// # Errors
    /// When something ended otherwise than it deserves.
    pub fn verdict(&self) -> Outcome {
        if self.ok {
            return Ok(());
        }
        let astray: Vec<&str> = self.members.iter().filter(|line| !line.as_deserved).map(|line| line.name).collect();
        Err(Failure::mismatch(format!(
            "read-back equal: {}, evidence verified: {}, not where they deserve: {astray:?}",
            self.weights.equal, self.evidence.verified
        )))
    }
}

impl Line {
    /// What became of it, in words.
    fn words(&self) -> String {
        let mut words = Vec::new();
        if let Some(status) = self.status {
            words.push(status.to_string());
        }
        if !self.reason.is_empty() {
            words.push(self.reason.clone());
        }
        for (who, fault) in
            [("", &self.fault), ("chain refused: ", &self.chain_refused), ("door refused: ", &self.door_refused)]
        {
            if let Some(fault) = fault {
                words.push(format!("{who}{} ({}), {}", fault.code, fault.class, fault.detail));
            }
        }
        if words.is_empty() {
            words.push("nothing is known of it".to_owned());
        }
        words.join("; ")
    }
}
