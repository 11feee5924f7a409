//! Challenges: what is played and what a miner must send.

use serde::{Deserialize, Serialize};

use crate::{auth::headers, ids::Digest, pipeline};

/// One challenge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Challenge {
    /// Its slug.
    pub slug: String,
    /// Its part of the subnet's emission, 0 to 1.
    pub share: f64,
    /// The profile, word for word.
    pub profile: String,
    /// SHA-256 of the profile.
    pub profile_digest: Digest,
    /// The names of its stages, in order.
    pub stages: Vec<String>,
    /// The name of its ranking rule.
    pub rule: String,
    /// What a miner must send.
    pub how_to: HowTo,
}

/// What a miner must send, and by when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HowTo {
    /// The form of the commitment on chain.
    pub commitment: String,
    /// Where the artifact is sent: the method, and the address, or the path alone where no public address is set.
    pub upload: String,
    /// The headers of the signed upload; its body is the artifact.
    pub headers: Vec<String>,
    /// Bytes of the largest artifact.
    pub artifact_bytes_max: u64,
    /// An upload later than this many blocks after its commitment counts from its upload.
    pub reveal_within_blocks: u64,
    /// A commitment without an artifact is rejected after this many blocks.
    pub artifact_within_blocks: u64,
    /// Uploads by one hotkey in an hour.
    pub uploads_per_hour: u32,
}

/// The challenges of the pipeline, by slug.
pub(in crate::server) fn challenges(pipeline: &pipeline::Pipeline, public_url: Option<&str>) -> Vec<Challenge> {
    let base = public_url.unwrap_or_default().trim_end_matches('/');
    pipeline.challenges().values().map(|challenge| view(challenge, base)).collect()
}

fn view(challenge: &pipeline::Challenge, base: &str) -> Challenge {
    let slug = &challenge.slug;
    let intake = &challenge.intake;
    let names = [
        headers::HOTKEY,
        headers::TIMESTAMP,
        headers::NONCE,
        headers::SIGNATURE,
        headers::CHALLENGE,
        headers::ARTIFACT,
        headers::SALT,
        headers::SIZE,
    ];
    let payment = intake.fee.map(|_fee| headers::PAYMENT);
    Challenge {
        slug: slug.clone(),
        share: challenge.share,
        profile: challenge.profile_text.clone(),
        profile_digest: Digest::of(challenge.profile_text.as_bytes()),
        stages: challenge.steps.iter().map(|step| step.name.clone()).collect(),
        rule: challenge.rule.name().to_owned(),
        how_to: HowTo {
            commitment: match &intake.form.pattern {
                None => format!("waag1:{slug}:<64 hex digits>"),
                Some(pattern) => pattern.as_str().to_owned(),
            },
            upload: format!("POST {base}/v1/challenges/{slug}/submissions"),
            headers: names.into_iter().chain(payment).map(str::to_owned).collect(),
            artifact_bytes_max: intake.artifact_bytes_max,
            reveal_within_blocks: intake.reveal_within_blocks,
            artifact_within_blocks: intake.artifact_within_blocks,
            uploads_per_hour: intake.uploads_per_hour,
        },
    }
}
