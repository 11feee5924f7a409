//! A challenge as the pipeline runs it: its profile with the parts that the profile picked.
//!
//! Owns the assembled steps, the rule and the policies for runs and retries. Refuses to know what any stage does.
//! `cli/` assembles challenges at the start; the rest of the pipeline reads them.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use crate::{
    clock::UnixMs,
    config::profile::{Incumbents, Opens, Profile},
    fault::Class,
    intake::{Fee, Form},
    score::Rule,
    stage::{Scope, Stage},
};

/// How often a stage is tried again, and how long it waits in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Retries after faults of class `infra`.
    pub infra: u32,
    /// Retries after faults of class `provider`.
    pub provider: u32,
    /// Retries after faults of class `bug`.
    pub bug: u32,
    /// The first back-off.
    pub backoff_ms_min: u64,
    /// The longest back-off.
    pub backoff_ms_max: u64,
}

impl RetryPolicy {
    /// How long the `count`-th retry waits: doubling from the shortest to the longest. An operator's fault always
    /// waits the longest, because only a person ends it.
    #[must_use]
    pub fn backoff_ms(&self, count: u32, class: Class) -> UnixMs {
        let doubled = self.backoff_ms_min.saturating_mul(1_u64 << count.saturating_sub(1).min(32));
        let wait_ms = if class == Class::Operator { self.backoff_ms_max } else { doubled.min(self.backoff_ms_max) };
        UnixMs::try_from(wait_ms).unwrap_or(UnixMs::MAX)
    }
}

/// One stage of a challenge.
#[derive(Clone)]
pub struct Step {
    /// Its name in the profile.
    pub name: String,
    /// What it does.
    pub stage: Arc<dyn Stage>,
    /// How it is tried again.
    pub retries: RetryPolicy,
    /// How long an attempt may be silent, in milliseconds.
    pub lease_ms: u64,
}

/// What opens and closes a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunPolicy {
    /// What closes it.
    pub opens: Opens,
    /// For `blocks`: a run closes at the blocks this number divides.
    pub every_blocks: u64,
    /// The most contestants of one run.
    pub contestants_max: u32,
    /// Which finished submissions play again.
    pub incumbents: Incumbents,
    /// The seeds come from the block this much later; 0 when the run needs none.
    pub seed_delay_blocks: u64,
    /// Runs without arrivals that follow one with arrivals.
    pub rounds_after_arrival: u32,
    /// Whether the fold is void when the ranking changed since the freeze.
    pub guarded: bool,
}

/// When the two halves of a submission must meet, and what else its doors ask for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IntakePolicy {
    /// A later upload than this counts from its upload block.
    pub reveal_within_blocks: u64,
    /// Without an upload by then the submission is rejected.
    pub artifact_within_blocks: u64,
    /// Uploads by one hotkey in an hour.
    pub uploads_per_hour: u32,
    /// Bytes of one artifact.
    pub artifact_bytes_max: u64,
    /// Whether artifacts are fetched from where their commitments say, and not uploaded.
    pub is_fetched: bool,
    /// How its commitments are written.
    pub form: Form,
    /// Whether a hotkey is done with once a submission of it was evaluated.
    pub one_per_hotkey: bool,
    /// Whoever committed up to this block is done with too; 0 for nobody.
    pub ledger_from_block: u64,
    /// What an upload costs; `None` for nothing.
    pub fee: Option<Fee>,
}

/// A challenge ready to run.
#[derive(Clone)]
pub struct Challenge {
    /// Its slug.
    pub slug: String,
    /// Its part of the subnet's emission, 0 to 1.
    pub share: f64,
    /// The profile, word for word.
    pub profile_text: String,
    /// Its stages in order.
    pub steps: Vec<Step>,
    /// What opens and closes its runs.
    pub run: RunPolicy,
    /// How its doors behave.
    pub intake: IntakePolicy,
    /// Its ranking rule.
    pub rule: Arc<dyn Rule>,
    /// The rule's options.
    pub rule_options: Value,
}

impl Challenge {
    /// Puts a profile and its parts together.
    #[must_use]
    pub fn assemble(profile: &Profile, stages: Vec<Arc<dyn Stage>>, rule: Arc<dyn Rule>) -> Self {
        let steps = profile
            .stages
            .iter()
            .zip(stages)
            .map(|(entry, stage)| Step {
                name: entry.name.to_string(),
                stage,
                retries: RetryPolicy {
                    infra: entry.retries.infra,
                    provider: entry.retries.provider,
                    bug: entry.retries.bug,
                    backoff_ms_min: entry.retries.backoff_ms_min,
                    backoff_ms_max: entry.retries.backoff_ms_max,
                },
                lease_ms: entry.lease_ms,
            })
            .collect();
        Self {
            slug: profile.slug.to_string(),
            share: profile.share,
            profile_text: profile.text().to_owned(),
            steps,
            run: RunPolicy {
                opens: profile.run.opens,
                every_blocks: profile.run.every_blocks,
                contestants_max: profile.run.contestants_max,
                incumbents: profile.run.incumbents,
                seed_delay_blocks: profile.run.seed_delay_blocks,
                rounds_after_arrival: profile.run.rounds_after_arrival,
                guarded: profile.run.guard.is_some(),
            },
            intake: IntakePolicy {
                reveal_within_blocks: profile.intake.reveal_within_blocks,
                artifact_within_blocks: profile.intake.artifact_within_blocks,
                uploads_per_hour: profile.intake.uploads_per_hour,
                artifact_bytes_max: profile.artifact.bytes_max,
                is_fetched: profile.artifact.is_fetched(),
                form: Form { source: profile.intake.source, pattern: profile.intake.pattern.clone() },
                one_per_hotkey: profile.intake.one_per_hotkey,
                ledger_from_block: profile.intake.ledger_from_block,
                fee: profile.intake.fee_to.map(|to| Fee {
                    rao: profile.intake.fee_rao,
                    to,
                    within_blocks: profile.intake.fee_within_blocks,
                }),
            },
            rule,
            rule_options: profile.ranking.options.clone(),
        }
    }

    /// The step at this index.
    #[must_use]
    pub fn step(&self, stage: usize) -> Option<&Step> {
        self.steps.get(stage)
    }

    /// Whether the stage at this index looks at whole runs.
    #[must_use]
    pub fn is_run_stage(&self, stage: usize) -> bool {
        self.step(stage).is_some_and(|step| step.stage.scope() == Scope::Run)
    }

    /// The stages at which a submission waits to be taken into a run.
    #[must_use]
    pub fn run_entries(&self) -> Vec<usize> {
        (0..self.steps.len())
            .filter(|stage| self.is_run_stage(*stage) && (*stage == 0 || !self.is_run_stage(stage - 1)))
            .collect()
    }

    /// Whether this is the last stage.
    #[must_use]
    pub const fn is_last(&self, stage: usize) -> bool {
        stage + 1 >= self.steps.len()
    }
}

/// The challenges of the subnet, by slug.
pub type Challenges = BTreeMap<String, Arc<Challenge>>;
