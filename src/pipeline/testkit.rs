//! What tests of this room and of its users are about: a challenge without stages, in which a service says who is paid.

use serde_json::json;

use super::{Challenge, IntakePolicy, RunPolicy};
use crate::{
    config::profile::{Incumbents, Opens},
    score,
};

/// A challenge that has the whole subnet and takes in what this says.
pub fn challenge(slug: &str, intake: IntakePolicy) -> Challenge {
    Challenge {
        slug: slug.to_owned(),
        share: 1.0,
        profile_text: format!("slug = \"{slug}\"\nshare = 1.0\n[ranking]\nrule = \"reported\"\n"),
        steps: Vec::new(),
        run: RunPolicy {
            opens: Opens::Operator,
            every_blocks: 1,
            contestants_max: 1,
            incumbents: Incumbents::None,
            seed_delay_blocks: 0,
            rounds_after_arrival: 0,
            guarded: false,
        },
        intake,
        rule: score::rule("reported").unwrap(),
        rule_options: json!({}),
    }
}
