//! The life of a submission as one table: state × event → state.
//!
//! Owns which transitions exist and what each means. Refuses to know SQL, clocks or who asks. Everything that moves a
//! submission goes through [`next`]; the handbook's diagram and the dashboard are generated from [`TABLE`].

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word in records, tables and JSON.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The value of a recorded word.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == word)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(super) use words;

words! {
    /// Where a submission stands at its present stage.
    Status {
        /// One half is here (the commitment, the artifact or the payment); the other is awaited.
        Awaiting = "awaiting",
        /// Waits for its stage, or for a run to take it in.
        Queued = "queued",
        /// An attempt holds a lease.
        Running = "running",
        /// Its jobs are out, its run has not closed, or the ranking has not been made.
        Waiting = "waiting",
        /// Waits for its back-off after a fault that was not the miner's.
        Retry = "retry",
        /// Waits for a person's decision.
        Held = "held",
        /// Finished and paid.
        Ranked = "ranked",
        /// Finished and not good enough to be paid.
        Lost = "lost",
        /// Ended by the miner's fault.
        Rejected = "rejected",
        /// Ended by ours; never held against the miner.
        Failed = "failed",
        /// Replaced by a newer submission of the same hotkey.
        Withdrawn = "withdrawn",
    }
}

impl Status {
    /// Whether nothing but an operator's rejudge moves it again.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Rejected | Self::Failed | Self::Withdrawn)
    }

    /// Whether it took part in a ranking and may be an incumbent of the next run.
    #[must_use]
    pub const fn is_finished(self) -> bool {
        matches!(self, Self::Ranked | Self::Lost)
    }
}

words! {
    /// What can happen to a submission.
    Event {
        /// The other half arrived and matches.
        Matched = "matched",
        /// The other half did not come in time.
        DeadlinePassed = "deadline_passed",
        /// A runner took it for its stage.
        Claimed = "claimed",
        /// It passed a stage and goes to the next.
        Passed = "passed",
        /// It passed the last stage; the ranking decides now.
        PassedLast = "passed_last",
        /// Its stage planned jobs.
        Planned = "planned",
        /// A run was frozen with it as a contestant.
        Frozen = "frozen",
        /// It passed a stage of its run and stays in the run.
        Advanced = "advanced",
        /// Its run was void: nothing was decided and nobody is to blame.
        RunVoid = "run_void",
        /// A rule was broken by the miner.
        MinerFault = "miner_fault",
        /// Something failed that was not the miner's doing.
        OtherFault = "other_fault",
        /// The retries of this stage and class are spent.
        BudgetSpent = "budget_spent",
        /// The attempt's lease ended without an answer.
        LeaseLapsed = "lease_lapsed",
        /// The process that held the attempt died; another takes it up at once.
        Released = "released",
        /// The run's or plan's deadline passed.
        DeadlineLapsed = "deadline_lapsed",
        /// The back-off is over.
        BackoffDue = "backoff_due",
        /// The stage asks for a person.
        NeedsPerson = "needs_person",
        /// A person approved.
        Approved = "approved",
        /// A person refused.
        Refused = "refused",
        /// A person took an approval back.
        Unapproved = "unapproved",
        /// The ranking pays it.
        Ranked = "ranked",
        /// The ranking does not pay it.
        Lost = "lost",
        /// A newer submission of the same hotkey took its place.
        Superseded = "superseded",
        /// An operator gives it another chance.
        Rejudged = "rejudged",
    }
}

/// Which stage the submission stands at after a transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// The same stage.
    Stay,
    /// The next stage.
    Next,
    /// The first stage.
    First,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// The status before.
    pub from: Status,
    /// What happened.
    pub on: Event,
    /// The status after.
    pub to: Status,
    /// The stage after.
    pub stage: Move,
}

const fn row(from: Status, on: Event, to: Status, stage: Move) -> Transition {
    Transition { from, on, to, stage }
}

/// Every transition there is. What is not here cannot happen.
pub const TABLE: &[Transition] = &{
    use Event as E;
    use Move::{First, Next, Stay};
    use Status as S;
    [
        row(S::Awaiting, E::Matched, S::Queued, First),
        row(S::Awaiting, E::DeadlinePassed, S::Rejected, Stay),
        row(S::Awaiting, E::MinerFault, S::Rejected, Stay),
        row(S::Awaiting, E::Superseded, S::Withdrawn, Stay),
        row(S::Queued, E::Claimed, S::Running, Stay),
        row(S::Queued, E::MinerFault, S::Rejected, Stay),
        row(S::Queued, E::Frozen, S::Waiting, Stay),
        row(S::Queued, E::Superseded, S::Withdrawn, Stay),
        row(S::Running, E::Passed, S::Queued, Next),
        row(S::Running, E::PassedLast, S::Waiting, Stay),
        row(S::Running, E::Planned, S::Waiting, Stay),
        row(S::Running, E::MinerFault, S::Rejected, Stay),
        row(S::Running, E::OtherFault, S::Retry, Stay),
        row(S::Running, E::BudgetSpent, S::Failed, Stay),
        row(S::Running, E::LeaseLapsed, S::Retry, Stay),
        row(S::Running, E::Released, S::Queued, Stay),
        row(S::Running, E::NeedsPerson, S::Held, Stay),
        row(S::Running, E::Superseded, S::Withdrawn, Stay),
        row(S::Waiting, E::Advanced, S::Waiting, Next),
        row(S::Waiting, E::Passed, S::Queued, Next),
        row(S::Waiting, E::PassedLast, S::Waiting, Stay),
        row(S::Waiting, E::MinerFault, S::Rejected, Stay),
        row(S::Waiting, E::OtherFault, S::Retry, Stay),
        row(S::Waiting, E::BudgetSpent, S::Failed, Stay),
        row(S::Waiting, E::DeadlineLapsed, S::Retry, Stay),
        row(S::Waiting, E::RunVoid, S::Queued, Stay),
        row(S::Waiting, E::NeedsPerson, S::Held, Stay),
        row(S::Waiting, E::Ranked, S::Ranked, Stay),
        row(S::Waiting, E::Lost, S::Lost, Stay),
        row(S::Waiting, E::Superseded, S::Withdrawn, Stay),
        row(S::Retry, E::BackoffDue, S::Queued, Stay),
        row(S::Retry, E::BudgetSpent, S::Failed, Stay),
        row(S::Retry, E::MinerFault, S::Rejected, Stay),
        row(S::Retry, E::Superseded, S::Withdrawn, Stay),
        row(S::Held, E::Approved, S::Queued, Next),
        row(S::Held, E::PassedLast, S::Waiting, Stay),
        row(S::Held, E::Refused, S::Rejected, Stay),
        row(S::Held, E::MinerFault, S::Rejected, Stay),
        row(S::Held, E::Superseded, S::Withdrawn, Stay),
        row(S::Ranked, E::Ranked, S::Ranked, Stay),
        row(S::Ranked, E::Lost, S::Lost, Stay),
        row(S::Ranked, E::Unapproved, S::Held, Stay),
        row(S::Ranked, E::MinerFault, S::Rejected, Stay),
        row(S::Ranked, E::Superseded, S::Withdrawn, Stay),
        row(S::Lost, E::Ranked, S::Ranked, Stay),
        row(S::Lost, E::Lost, S::Lost, Stay),
        row(S::Lost, E::MinerFault, S::Rejected, Stay),
        row(S::Lost, E::Superseded, S::Withdrawn, Stay),
        row(S::Rejected, E::Rejudged, S::Queued, First),
        row(S::Failed, E::Rejudged, S::Queued, First),
        row(S::Withdrawn, E::Rejudged, S::Queued, First),
    ]
};

/// The transition for this event, or `None` when the table has none.
#[must_use]
pub fn next(from: Status, on: Event) -> Option<&'static Transition> {
    TABLE.iter().find(|transition| transition.from == from && transition.on == on)
}

/// The table as the handbook prints it: a state diagram and a row a transition.
#[must_use]
pub fn handbook_page() -> String {
    let mut page = String::from(
        "# The life of a submission\n\nThis page is generated from the table in the program; nothing else moves a \
         submission.\n\n```mermaid\nstateDiagram-v2\n    [*] --> awaiting\n",
    );
    for transition in TABLE {
        // Writing to a String cannot fail.
        let _ = writeln!(page, "    {} --> {}: {}", transition.from, transition.to, transition.on);
    }
    page.push_str("```\n\n| from | event | to | stage |\n|---|---|---|---|\n");
    for transition in TABLE {
        let stage = match transition.stage {
            Move::Stay => "same",
            Move::Next => "next",
            Move::First => "first",
        };
        let _ = writeln!(page, "| {} | {} | {} | {stage} |", transition.from, transition.on, transition.to);
    }
    page
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_state_and_event_pair_has_two_answers() {
        let pairs: BTreeSet<_> = TABLE.iter().map(|row| (row.from, row.on)).collect();
        assert_eq!(pairs.len(), TABLE.len());
    }

    #[test]
    fn every_status_that_is_not_terminal_can_be_left_without_a_person() {
        for status in Status::ALL.iter().filter(|status| !status.is_terminal() && **status != Status::Held) {
            let leaves = TABLE.iter().any(|row| row.from == *status && row.to != *status);
            assert!(leaves, "{status} is a trap");
        }
    }

    #[test]
    fn a_terminal_status_is_left_only_by_a_rejudge() {
        for row in TABLE.iter().filter(|row| row.from.is_terminal()) {
            assert_eq!(row.on, Event::Rejudged, "{row:?}");
        }
    }

    #[test]
    fn only_a_miners_fault_a_missed_deadline_or_a_refusal_rejects() {
        for row in TABLE.iter().filter(|row| row.to == Status::Rejected) {
            assert!(matches!(row.on, Event::MinerFault | Event::DeadlinePassed | Event::Refused), "{row:?}");
        }
    }

    #[test]
    fn every_event_moves_something() {
        for event in Event::ALL {
            assert!(TABLE.iter().any(|row| row.on == *event), "{event} is never used");
        }
    }

    #[test]
    fn the_handbook_shows_this_table() {
        let shown = include_str!("../../assets/handbook/life.md");
        assert_eq!(shown, handbook_page(), "write the new page to assets/handbook/life.md");
    }
}
