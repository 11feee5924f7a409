//! The cast: twelve miners, each with a real artifact, and what each of them deserves.
//!
//! Owns the artifacts, made from the embedded policies, and the expected ends. Refuses to act: the play does. The demo
//! and the tests use it.

use super::disguise::{self, Dice};
use crate::{
    fault::{Class, Fault},
    pipeline::life::Status,
};

/// Bytes of the artifact that is too large: more than the profile's eight megabytes.
const OVERSIZED_BYTES: usize = 9 * 1024 * 1024;
/// The largest change of a weight in the noisy copy, relative to the weight.
const NOISE: f32 = 1e-3;

macro_rules! policies {
    ($member:literal: $($environment:literal),+) => {
        vec![$(($environment, include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"), "/assets/cast/", $member, "/", $environment, ".onnx"
        )).to_vec())),+]
    };
}

/// A policy's files by environment.
pub type Models = Vec<(&'static str, Vec<u8>)>;

/// The strong generalist's policies.
#[must_use]
pub fn generalist() -> Models {
    policies!("generalist": "CartPole-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1")
}

/// The later, slightly better generalist's policies.
#[must_use]
pub fn later() -> Models {
    policies!("later": "CartPole-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1")
}

/// The mediocre miner's policies.
#[must_use]
pub fn mediocre() -> Models {
    policies!("mediocre": "CartPole-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1")
}

/// The specialist's policies.
#[must_use]
pub fn specialist() -> Models {
    policies!("specialist": "CartPole-v1", "Pendulum-v1")
}

/// What a member does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Registers, commits, uploads.
    Plays,
    /// Commits what the member of this name commits, in the same block, and uploads that member's artifact.
    CopiesCommitmentOf(&'static str),
    /// Registers and commits, and never uploads.
    NeverUploads,
    /// Is not registered, and tries all the same.
    Unregistered,
}

/// Where a member ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Its submission's status; `None` when there is no submission.
    pub status: Option<Status>,
    /// The class of the fault, where there is one.
    pub class: Option<Class>,
    /// The code, where there is one.
    pub code: Option<&'static str>,
}

impl End {
    const fn plain(status: Status) -> Self {
        Self { status: Some(status), class: None, code: None }
    }

    const fn rejected(code: &'static str) -> Self {
        Self { status: Some(Status::Rejected), class: Some(Class::Miner), code: Some(code) }
    }

    /// Whether this is where it ended.
    #[must_use]
    pub fn is(&self, status: Option<Status>, fault: Option<&Fault>) -> bool {
        self.status == status
            && self.class == fault.map(|fault| fault.class)
            && self.code == fault.map(|fault| fault.code.as_str())
    }
}

/// One miner.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its name, also that of its wallet.
    pub name: &'static str,
    /// Who it is, in words.
    pub who: &'static str,
    /// What it does.
    pub act: Act,
    /// What it commits to and uploads.
    pub artifact: Vec<u8>,
    /// Where it ends.
    pub end: End,
}

/// An archive of these files, as anybody's `tar` writes it.
#[must_use]
pub fn archive(name: &str, models: &[(&'static str, Vec<u8>)]) -> Vec<u8> {
    let mut manifest = format!("format = 1\nname = \"{name}\"\n\n[environments]\n");
    for (environment, _) in models {
        manifest.push_str(&format!("\"{environment}\" = \"{environment}.onnx\"\n"));
    }
    let mut tar = tar::Builder::new(Vec::new());
    add(&mut tar, "policy.toml", manifest.as_bytes());
    for (environment, bytes) in models {
        add(&mut tar, &format!("{environment}.onnx"), bytes);
    }
    tar.into_inner().unwrap_or_default()
}

fn add(tar: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    // Names are short and writing to memory cannot fail.
    drop(tar.append_data(&mut header, name, bytes));
}

/// The twelve, in the order in which they commit.
#[must_use]
pub fn cast() -> Vec<Member> {
    let mut dice = Dice::new(12);
    let strong = generalist();
    let bytes = archive("generalist", &strong);
    let noisy: Models = strong.iter().map(|(id, model)| (*id, disguise::add_noise(model, NOISE, &mut dice))).collect();
    let member = |name, who, act, artifact, end| Member { name, who, act, artifact, end };
    vec![
        member(
            "specialist",
            "an early specialist in two environments",
            Act::Plays,
            archive("specialist", &specialist()),
            End::plain(Status::Ranked),
        ),
        member("generalist", "a strong generalist", Act::Plays, bytes.clone(), End::plain(Status::Lost)),
        member(
            "echo",
            "commits what generalist commits, in the same block",
            Act::CopiesCommitmentOf("generalist"),
            bytes.clone(),
            End::rejected("artifact_missing"),
        ),
        member("mediocre", "a mediocre one", Act::Plays, archive("mediocre", &mediocre()), End::plain(Status::Lost)),
        member(
            "later",
            "a later, slightly better generalist",
            Act::Plays,
            archive("later", &later()),
            End::plain(Status::Ranked),
        ),
        member("parrot", "the generalist's file, byte for byte", Act::Plays, bytes, End::rejected("duplicate_bytes")),
        member(
            "whisper",
            "the generalist's weights with noise",
            Act::Plays,
            archive("whisper", &noisy),
            End::rejected("near_copy"),
        ),
        member(
            "broken",
            "a file that is no ONNX",
            Act::Plays,
            archive("broken", &malformed()),
            End::rejected("onnx_malformed"),
        ),
        member(
            "remote",
            "keeps its weights in another file",
            Act::Plays,
            archive("remote", &external()),
            End::rejected("onnx_external_data"),
        ),
        member(
            "giant",
            "over the size limit",
            Act::Plays,
            archive("giant", &oversized(&mut dice)),
            End::rejected("upload_too_large"),
        ),
        member(
            "silent",
            "commits and never uploads",
            Act::NeverUploads,
            archive("silent", &mediocre()[..1]),
            End::rejected("artifact_missing"),
        ),
        member(
            "stranger",
            "is not registered",
            Act::Unregistered,
            archive("stranger", &mediocre()[..1]),
            End { status: None, class: None, code: None },
        ),
    ]
}

/// A real file with its end cut off.
fn malformed() -> Models {
    let mut models = generalist();
    models.truncate(1);
    for (_, model) in &mut models {
        model.truncate(model.len() / 2);
    }
    models
}

/// A real file that names another for its weights.
fn external() -> Models {
    let mut models = mediocre();
    models.truncate(1);
    models.iter().map(|(id, model)| (*id, disguise::externalise(model, "weights.bin"))).collect()
}

/// Bytes that do not shrink.
fn oversized(dice: &mut Dice) -> Models {
    let bytes: Vec<u8> = (0..OVERSIZED_BYTES / 8).flat_map(|_| dice.roll().to_le_bytes()).collect();
    vec![("CartPole-v1", bytes)]
}
