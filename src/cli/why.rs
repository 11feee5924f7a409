//! `waag why`: the story of one submission, in words.

use serde_json::Value;

use super::{
    Context, Outcome,
    exit::answer,
    words::{shortened, time_of},
};
use crate::{
    fault::Fault,
    ids::SubmissionId,
    pipeline::life,
    score::outcomes::RolloutEvidence,
    server::{
        client::Client,
        views::{Event, Story, VerdictLine},
    },
};

/// Characters of evidence that has no words of its own.
const EVIDENCE_CHARS: usize = 200;

/// Arguments of `waag why`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag why s12
  waag why s12 --api https://subnet.example
  waag why s12 --json                       every event, attempt and verdict as the appliance records them")]
pub struct Args {
    /// The submission's id, as `waag publish` and `waag status` show it
    id: SubmissionId,
}

/// Runs the verb.
///
/// # Errors
/// When there is no such submission, or the appliance does not answer.
pub async fn run(context: &Context, args: &Args) -> Outcome {
    let configured = context.configured()?;
    let api = Client::new(&context.api(configured.settings())).map_err(|error| error.fault())?;
    let story = api.story(args.id).await.map_err(|error| error.fault())?;
    answer(context.json(), &story, || in_words(&story));
    Ok(())
}

fn in_words(story: &Story) -> String {
    let one = &story.submission;
    let mut lines = vec![
        format!("{} in challenge {}", one.id, one.challenge),
        format!("  hotkey {}{}", one.hotkey, one.uid.map_or_else(String::new, |uid| format!(", uid {uid}"))),
        format!("  committed in block {}, extrinsic {}", one.committed.block, one.committed.index),
    ];
    if one.priority != one.committed {
        lines.push(format!("  counts from block {}, because the upload came late", one.priority.block));
    }
    if let Some(artifact) = &one.artifact {
        let bytes = one.artifact_bytes.map_or_else(String::new, |bytes| format!(", {bytes} bytes"));
        lines.push(format!("  artifact {artifact}{bytes}"));
    }
    lines.push(String::new());
    lines.extend(story.events.iter().flat_map(told));
    if !story.verdicts.is_empty() {
        lines.push(String::new());
        lines.push("verdicts:".to_owned());
        lines.extend(story.verdicts.iter().flat_map(judged));
    }
    lines.push(String::new());
    lines.push(standing(story));
    if let Some(row) = &story.place {
        lines.push(format!("{:.2} % of the challenge's emission: {}", row.share * 100.0, row.reason));
        lines.extend(row.results.iter().map(|(environment, rate)| {
            let [rate_of, low, high] = [rate.rate, rate.low, rate.high].map(|part| part * 100.0);
            format!("  {environment}: {rate_of:.1} % of {} episodes, {low:.1} to {high:.1} %", rate.episodes)
        }));
    }
    if let Some(fault) = &one.fault {
        lines.extend(because(fault));
    }
    lines.join("\n")
}

/// Where the submission stands now, and what it waits for.
fn standing(story: &Story) -> String {
    use life::Status;

    let one = &story.submission;
    let stage = if one.stage_name.is_empty() { "its stage" } else { one.stage_name.as_str() };
    let words = match one.status {
        Status::Awaiting => "waits for its artifact: `waag publish` sends it".to_owned(),
        Status::Queued => format!("waits for {stage}"),
        Status::Running => format!("is looked at by {stage}"),
        Status::Waiting => format!("waits for the run at {stage} to be decided"),
        Status::Retry => format!("will be tried again at {stage}; that is no fault of the miner"),
        Status::Held => format!("waits for the operator's decision at {stage}"),
        Status::Ranked => "is in the ranking and paid".to_owned(),
        Status::Lost => "was not good enough to be paid".to_owned(),
        Status::Rejected => "was rejected".to_owned(),
        Status::Failed => "could not be judged; that is no fault of the miner".to_owned(),
        Status::Withdrawn => "was replaced by a newer submission of its hotkey".to_owned(),
    };
    format!("now: {} {words}", one.id)
}

/// One event in words, with its fault.
fn told(event: &Event) -> Vec<String> {
    let said = life::Event::parse(&event.kind).map_or_else(|| other(event), |kind| words(kind).to_owned());
    let stage = event.data["stage"].as_u64().map_or_else(String::new, |stage| format!(" (stage {stage})"));
    let mut lines = vec![format!("{}  {said}{stage}", time_of(event.at_ms))];
    if let Some(note) = event.data.get("note").filter(|note| !note.is_null()) {
        lines.push(format!("{:22}{}", "", flat(note)));
    }
    if let Ok(fault) = serde_json::from_value::<Fault>(event.data["fault"].clone()) {
        lines.extend(because(&fault).into_iter().map(|line| format!("{:20}{line}", "")));
    }
    lines
}

fn other(event: &Event) -> String {
    match event.kind.as_str() {
        "committed" => "its commitment was seen in a final block".to_owned(),
        kind => kind.replace('_', " "),
    }
}

const fn words(event: life::Event) -> &'static str {
    use life::Event;

    match event {
        Event::Matched => "its artifact came and opens the commitment",
        Event::DeadlinePassed => "its artifact did not come in time",
        Event::Claimed => "a stage began to look at it",
        Event::Passed => "it passed the stage",
        Event::PassedLast => "it passed the last stage",
        Event::Planned => "its stage planned jobs",
        Event::Frozen => "a run was closed with it as a contestant",
        Event::Advanced => "it passed a stage of its run",
        Event::RunVoid => "its run was void: nothing was decided and nobody is to blame",
        Event::MinerFault => "it broke a rule",
        Event::OtherFault => "something failed that was not the miner's doing",
        Event::BudgetSpent => "it was tried as often as its profile allows",
        Event::LeaseLapsed => "whoever looked at it fell silent",
        Event::Released => "whoever looked at it died, and it is looked at again",
        Event::DeadlineLapsed => "its jobs showed no progress",
        Event::BackoffDue => "it is tried again",
        Event::NeedsPerson => "its stage asks for a person",
        Event::Approved => "the operator approved it",
        Event::Refused => "the operator refused it",
        Event::Unapproved => "the operator took the approval back",
        Event::Ranked => "the ranking pays it",
        Event::Lost => "the ranking does not pay it",
        Event::Superseded => "a newer submission of the same hotkey took its place",
        Event::Rejudged => "the operator gave it another chance",
    }
}

fn because(fault: &Fault) -> Vec<String> {
    let whose = match fault.class {
        crate::fault::Class::Miner => "the miner's",
        crate::fault::Class::Operator => "the operator's",
        crate::fault::Class::Provider => "an outside service's",
        crate::fault::Class::Infra | crate::fault::Class::Bug => "the appliance's",
    };
    let mut lines = vec![format!("  {} ({whose}): {}", fault.code, fault.detail)];
    if !fault.hint.is_empty() {
        lines.push(format!("  hint: {}", fault.hint));
    }
    lines
}

fn judged(verdict: &VerdictLine) -> Vec<String> {
    let run = verdict.run.map_or_else(String::new, |run| format!(" in run {run}"));
    let mut lines = vec![format!("  {}{run}: {}", verdict.stage, verdict.outcome)];
    if let Some(fault) = &verdict.fault {
        lines.push(format!("    {}: {}", fault.code, fault.detail));
    }
    match serde_json::from_value::<RolloutEvidence>(verdict.evidence.clone()) {
        Ok(rollouts) => lines.extend(rollouts.environments.iter().map(|(environment, result)| {
            let (solved, played) = (result.successes.count(), result.successes.episodes());
            let mean = result.mean_return.map_or_else(String::new, |mean| format!(", mean return {mean:.2}"));
            format!("    {environment}: {solved} of {played} episodes solved{mean}")
        })),
        Err(_other) if verdict.evidence.is_null() => {}
        Err(_other) => lines.push(format!("    {}", flat(&verdict.evidence))),
    }
    lines
}

/// Evidence that has no words of its own, on one line.
fn flat(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    shortened(&text, EVIDENCE_CHARS)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        fault::{Class, Code},
        ids::{Digest, Hotkey, Priority, RunId},
    };

    const COPY: Code = Code::new(Class::Miner, "copy", "a copy", "send your own");

    fn story() -> Story {
        let event = |seq, kind: &str, data| Event {
            seq,
            at_ms: 1_795_257_322_000 + seq,
            kind: kind.to_owned(),
            subject: "s3".to_owned(),
            data,
            prev: Digest([0; 32]),
            hash: Digest([0; 32]),
        };
        let fault = COPY.because("equal to s1");
        let at = Priority { block: 7, index: 2 };
        Story {
            submission: crate::server::views::Submission {
                id: SubmissionId(3),
                challenge: "gym".to_owned(),
                hotkey: Hotkey([1; 32]),
                coldkey: Hotkey([2; 32]),
                uid: Some(4),
                committed: at,
                priority: at,
                artifact: Some(Digest([9; 32])),
                artifact_bytes: Some(10),
                upload_block: Some(8),
                stage: 1,
                stage_name: "duplicates".to_owned(),
                status: life::Status::Rejected,
                fault: Some(fault.clone()),
                created_ms: 0,
                updated_ms: 0,
            },
            events: vec![
                event(1, "committed", json!({})),
                event(2, "miner_fault", json!({ "stage": 1, "fault": fault })),
                event(3, "somebody_else", json!({ "note": "x" })),
            ],
            attempts: Vec::new(),
            verdicts: vec![VerdictLine {
                run: Some(RunId(1)),
                stage: "rollouts".to_owned(),
                outcome: "pass".to_owned(),
                fault: None,
                evidence: json!({ "run": 1, "environments": { "CartPole-v1": { "successes": "4:b0", "mean_return": 12.5 } } }),
                at_ms: 0,
            }],
            place: None,
        }
    }

    #[test]
    fn a_story_names_every_event_its_fault_and_the_hint() {
        let text = in_words(&story());
        for part in [
            "s3 in challenge gym",
            "its commitment was seen in a final block",
            "it broke a rule (stage 1)",
            "copy (the miner's): equal to s1",
            "hint: send your own",
            "somebody else",
            "CartPole-v1: 3 of 4 episodes solved, mean return 12.50",
            "now: s3 was rejected",
        ] {
            assert!(text.contains(part), "`{part}` is missing in\n{text}");
        }
    }
}
