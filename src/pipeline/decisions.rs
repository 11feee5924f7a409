//! Decisions: what a person says about a submission.
//!
//! Owns approval, refusal, taking an approval back and another chance, each recorded with who and why. Refuses to
//! check who may decide: the caller did. The operator's verbs call it.

use rusqlite::params;
use serde_json::json;

use super::{
    Error, Pipeline,
    error::NOT_APPROVED,
    life::Event,
    runs,
    submissions::{self, Because, Submission},
};
use crate::ids::SubmissionId;

impl Pipeline {
    /// Approves or refuses a submission that is held.
    ///
    /// # Errors
    /// `Impossible` when it is not held.
    pub async fn decide(
        &self,
        id: SubmissionId,
        approved: bool,
        by_whom: &str,
        note: &str,
    ) -> Result<Submission, Error> {
        let (pipeline, by_whom, note) = (self.clone(), by_whom.to_owned(), note.to_owned());
        let now_ms = self.clock().now_ms();
        let moved = self
            .store()
            .db()
            .write("decide", move |tx| {
                let submission = submissions::load(tx, id)?;
                let challenge = pipeline.challenge(&submission.challenge)?;
                let story = json!({ "by": by_whom, "note": note });
                let moved = if !approved {
                    let mut because = Because::fault(&NOT_APPROVED.because(note.clone()));
                    because.note = story;
                    submissions::apply(tx, now_ms, &submission, Event::Refused, because)?
                } else if challenge.is_last(submission.stage) {
                    runs::mark_dirty(tx, &challenge.slug)?;
                    submissions::apply(tx, now_ms, &submission, Event::PassedLast, Because::note(story))?
                } else {
                    submissions::apply(tx, now_ms, &submission, Event::Approved, Because::note(story))?
                };
                tx.execute(
                    "INSERT INTO decisions (submission, approved, by_whom, note, at_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![id.0, approved, by_whom, note, now_ms],
                )?;
                Ok::<_, Error>(moved)
            })
            .await?;
        self.nudge();
        Ok(moved)
    }

    /// Takes an approval back: the submission is held again and the challenge ranked without it.
    ///
    /// # Errors
    /// `Impossible` when it is not ranked.
    pub async fn unapprove(&self, id: SubmissionId, by_whom: &str, note: &str) -> Result<Submission, Error> {
        let (by_whom, note) = (by_whom.to_owned(), note.to_owned());
        let now_ms = self.clock().now_ms();
        let moved = self
            .store()
            .db()
            .write("unapprove", move |tx| {
                let submission = submissions::load(tx, id)?;
                let because = Because::note(json!({ "by": by_whom, "note": note }));
                let moved = submissions::apply(tx, now_ms, &submission, Event::Unapproved, because)?;
                tx.execute(
                    "INSERT INTO decisions (submission, approved, by_whom, note, at_ms) VALUES (?1, 0, ?2, ?3, ?4)",
                    params![id.0, by_whom, note, now_ms],
                )?;
                runs::mark_dirty(tx, &submission.challenge)?;
                Ok::<_, Error>(moved)
            })
            .await?;
        self.nudge();
        Ok(moved)
    }

    /// Gives a submission that ended another chance from its first stage, with fresh retry budgets.
    ///
    /// # Errors
    /// `Impossible` when it has not ended; `Missing` when its artifact never came.
    pub async fn requeue(&self, id: SubmissionId, by_whom: &str) -> Result<Submission, Error> {
        let by_whom = by_whom.to_owned();
        let now_ms = self.clock().now_ms();
        let moved = self
            .store()
            .db()
            .write("requeue", move |tx| {
                let submission = submissions::load(tx, id)?;
                if submission.artifact.is_none() {
                    return Err(Error::Missing { what: format!("artifact of {id}") });
                }
                tx.execute("DELETE FROM retries WHERE submission = ?1", [id.0])?;
                let because = Because::note(json!({ "by": by_whom }));
                submissions::apply(tx, now_ms, &submission, Event::Rejudged, because)
            })
            .await?;
        self.nudge();
        Ok(moved)
    }
}
