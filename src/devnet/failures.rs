//! Failures on request: what the next submissions, requests or calls are to suffer.
//!
//! Owns the kinds and how many of each are left. Refuses to know how one looks: who carries it out does. The node
//! holds one; the control fills it.

use std::sync::{Mutex, PoisonError};

macro_rules! kinds {
    ($($(#[$says:meta])* $kind:ident = $name:literal;)*) => {
        /// A kind of failure.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Kind { $($(#[$says])* $kind,)* }

        impl Kind {
            /// Every kind with its name.
            pub const ALL: &[(Self, &'static str)] = &[$((Self::$kind, $name),)*];
        }
    };
}

kinds! {
    /// A submission is refused by the pool.
    SubmitRefused = "submit_refused";
    /// A submission is answered as if it had been taken, and is thrown away.
    SubmitLost = "submit_lost";
    /// A submission is taken, and every connection is cut before the answer.
    SubmitUnanswered = "submit_unanswered";
    /// A signed extrinsic goes into a block, pays, and its call fails.
    CallFailed = "call_failed";
    /// Timelocked weights are dropped without a word when they are due.
    RevealDropped = "reveal_dropped";
    /// A request is refused because there were too many.
    RateLimited = "rate_limited";
    /// A request is answered with an internal error.
    RequestFailed = "request_failed";
    /// A request is never answered; the connection stays open.
    RequestUnanswered = "request_unanswered";
    /// A read of state is told that the state was forgotten.
    StateDiscarded = "state_discarded";
}

/// How many of each kind are still to come.
#[derive(Debug, Default)]
pub struct Failures(Mutex<[u32; Kind::ALL.len()]>);

impl Failures {
    /// The kind of a name.
    pub fn kind(name: &str) -> Result<Kind, String> {
        let found = Kind::ALL.iter().find(|(_, known)| *known == name);
        found.map(|(kind, _)| *kind).ok_or_else(|| {
            let names: Vec<&str> = Kind::ALL.iter().map(|(_, name)| *name).collect();
            format!("there is no such failure; there are {}", names.join(", "))
        })
    }

    /// Makes the next so many fail; 0 makes none fail.
    pub fn set(&self, kind: Kind, count: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)[kind as usize] = count;
    }

    /// Whether this one fails; counts it if so.
    pub fn take(&self, kind: Kind) -> bool {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = &mut left[kind as usize];
        let fails = *left > 0;
        *left = left.saturating_sub(1);
        fails
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_fail_and_no_more() {
        let failures = Failures::default();
        let kind = Failures::kind("rate_limited").unwrap();
        assert!(!failures.take(kind));
        failures.set(kind, 2);
        assert!(!failures.take(Kind::CallFailed));
        assert_eq!([failures.take(kind), failures.take(kind), failures.take(kind)], [true, true, false]);
        failures.set(kind, 9);
        failures.set(kind, 0);
        assert!(!failures.take(kind));
        assert!(Failures::kind("weather").unwrap_err().ends_with("state_discarded"));
    }
}
