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

/// Where a member's submission ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It played to its end and nobody blames it: it is paid, or not good enough.
    Finished,
    /// The same, and with this status.
    As(Status),
    /// The miner's own fault, with this code.
    Rejected(&'static str),
    /// There is no submission.
    Nothing,
}

impl End {
    /// Whether this is where it ended.
    #[must_use]
    pub fn is(&self, status: Option<Status>, fault: Option<&Fault>) -> bool {
        match (self, status, fault) {
            (Self::Finished, Some(status), None) => status.is_finished(),
            (Self::As(wanted), Some(status), None) => *wanted == status,
            (Self::Rejected(code), Some(Status::Rejected), Some(fault)) => {
                fault.class == Class::Miner && fault.code == *code
            }
            (Self::Nothing, None, None) => true,
            _ => false,
        }
    }
}

/// What a member is told when it knocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refused {
    /// The code of the chain, where it refuses.
    pub by_chain: Option<&'static str>,
    /// The code of the door, where it refuses.
    pub by_door: Option<&'static str>,
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
    /// What it is refused on the way.
    pub refused: Refused,
}

impl Member {
    /// A member that nobody turns away at the door.
    #[must_use]
    pub const fn new(name: &'static str, who: &'static str, act: Act, artifact: Vec<u8>, end: End) -> Self {
        Self { name, who, act, artifact, end, refused: Refused { by_chain: None, by_door: None } }
    }

    /// One whose upload the door refuses with this code.
    #[must_use]
    pub fn refused_by_door(self, code: &'static str) -> Self {
        Self { refused: Refused { by_door: Some(code), ..self.refused }, ..self }
    }

    /// One whose commitment the chain refuses with this code.
    #[must_use]
    pub fn refused_by_chain(self, code: &'static str) -> Self {
        Self { refused: Refused { by_chain: Some(code), ..self.refused }, ..self }
    }
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
    vec![
        Member::new(
            "specialist",
            "an early specialist in two environments",
            Act::Plays,
            archive("specialist", &specialist()),
            End::As(Status::Ranked),
        ),
        Member::new("generalist", "a strong generalist", Act::Plays, bytes.clone(), End::As(Status::Lost)),
        Member::new(
            "echo",
            "commits what generalist commits, in the same block",
            Act::CopiesCommitmentOf("generalist"),
            bytes.clone(),
            End::Rejected("artifact_missing"),
        )
        .refused_by_door("commitment_mismatch"),
        Member::new("mediocre", "a mediocre one", Act::Plays, archive("mediocre", &mediocre()), End::As(Status::Lost)),
        Member::new(
            "later",
            "a later, slightly better generalist",
            Act::Plays,
            archive("later", &later()),
            End::As(Status::Ranked),
        ),
        Member::new(
            "parrot",
            "the generalist's file, byte for byte",
            Act::Plays,
            bytes,
            End::Rejected("duplicate_bytes"),
        ),
        Member::new(
            "whisper",
            "the generalist's weights with noise",
            Act::Plays,
            archive("whisper", &noisy),
            End::Rejected("near_copy"),
        ),
        Member::new(
            "broken",
            "a file that is no ONNX",
            Act::Plays,
            archive("broken", &malformed()),
            End::Rejected("onnx_malformed"),
        ),
        Member::new(
            "remote",
            "keeps its weights in another file",
            Act::Plays,
            archive("remote", &external()),
            End::Rejected("onnx_external_data"),
        ),
        Member::new(
            "giant",
            "over the size limit",
            Act::Plays,
            archive("giant", &oversized(OVERSIZED_BYTES, &mut dice)),
            End::Rejected("upload_too_large"),
        )
        .refused_by_door("upload_too_large"),
        Member::new(
            "silent",
            "commits and never uploads",
            Act::NeverUploads,
            archive("silent", &mediocre()[..1]),
            End::Rejected("artifact_missing"),
        ),
        Member::new(
            "stranger",
            "is not registered",
            Act::Unregistered,
            archive("stranger", &mediocre()[..1]),
            End::Nothing,
        )
        .refused_by_chain("chain_commit_not_allowed")
        .refused_by_door("hotkey_unregistered"),
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

/// So many bytes that do not shrink.
#[must_use]
pub fn oversized(bytes: usize, dice: &mut Dice) -> Models {
    let bytes: Vec<u8> = (0..bytes.div_ceil(8)).flat_map(|_| dice.roll().to_le_bytes()).collect();
    vec![("CartPole-v1", bytes)]
}
