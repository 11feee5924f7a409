//! Casts from seeds: who takes part, whom the copiers copy and how they hide it, in which order all commit and upload,
//! and what each deserves.

use std::{io::Write as _, path::Path};

use waag::{
    cli::demo::{
        cast::{Act, End, Member, Models, archive, generalist, later, mediocre, oversized, specialist},
        disguise::{Dice, add_noise},
    },
    config::profile::Profile,
};

use super::{
    disguises::{log_uniform, permute, re_export},
    mistakes::{EXTERNAL, MALFORMED, Mistake},
};

/// Noise of copies, relative to each weight.
const NOISE: (f64, f64) = (1e-6, 1e-2);
/// Honest members whose artifacts are trained files of their own; the twins share recipe and form with the generalist,
/// and the last two of them the weights they began with.
const HONEST: [&str; 9] =
    ["specialist", "generalist", "later", "mediocre", "twin-a", "twin-b", "twin-c", "twin-d", "twin-e"];
/// The two honest ones that began with the same weights.
const SAME_START: [&str; 2] = ["twin-d", "twin-e"];

/// A cast and who of it uploads late: after a run that the others were in.
pub struct Cast {
    pub members: Vec<Member>,
    pub late: Vec<&'static str>,
    /// Copiers who upload before those whose work it is.
    pub early: Vec<&'static str>,
}

impl Cast {
    pub fn is_late(&self, member: &Member) -> bool {
        self.late.contains(&member.name)
    }
}

/// A trained policy.
fn models(name: &str) -> Models {
    match name {
        "specialist" => specialist(),
        "generalist" => generalist(),
        "later" => later(),
        "mediocre" => mediocre(),
        twin => {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/cast").join(twin);
            let read = |id: &str| std::fs::read(folder.join(format!("{id}.onnx"))).expect("the twins are there");
            generalist().into_iter().map(|(id, _)| (id, read(id))).collect()
        }
    }
}

fn each(models: &Models, mut change: impl FnMut(&[u8]) -> Vec<u8>) -> Models {
    models.iter().map(|(id, model)| (*id, change(model))).collect()
}

/// Some of the environments, at least one, in another order.
fn some(mut models: Models, dice: &mut Dice) -> Models {
    dice.shuffle(&mut models);
    let kept = 1 + dice.below(models.len());
    models.truncate(kept);
    models
}

/// The archive as some sender would write it.
fn sent(name: &str, models: &Models, dice: &mut Dice) -> Vec<u8> {
    let plain = archive(name, models);
    if dice.below(2) == 0 {
        return plain;
    }
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).expect("memory takes it");
    gzip.finish().expect("memory takes it")
}

/// Who takes part honestly, in the order in which they commit.
fn honest(dice: &mut Dice) -> Vec<(&'static str, Vec<u8>, Models)> {
    let mut names = HONEST.to_vec();
    dice.shuffle(&mut names);
    names.truncate(3 + dice.below(2));
    if dice.below(3) == 0 {
        names.retain(|name| !SAME_START.contains(name));
        names.extend(SAME_START);
        dice.shuffle(&mut names);
    }
    let mut members = Vec::new();
    for name in names {
        let whole = models(name);
        // Nobody has to play everywhere.
        let models = if dice.below(4) == 0 { some(whole, dice) } else { whole };
        members.push((name, sent(name, &models, dice), models));
    }
    members
}

/// How a copier changes what it copies, and what it is called for that.
type Trick = (&'static str, &'static str, &'static str, fn(&Models, &mut Dice) -> Models);

const TRICKS: [Trick; 5] = [
    ("whisper", "adds noise to every weight", "near_copy", |models, dice| with_noise(models, dice)),
    ("juggler", "gives the neurons another order", "near_copy", |models, dice| each(models, |it| permute(it, dice))),
    ("scribe", "writes the same network with another exporter", "duplicate_content", |models, dice| {
        each(models, |model| re_export(model, dice))
    }),
    ("magpie", "takes some of the environments", "duplicate_content", |models, dice| {
        let taken = some(models.clone(), dice);
        each(&taken, |model| re_export(model, dice))
    }),
    ("masked", "does all of it at once", "near_copy", |models, dice| {
        let moved = each(models, |model| permute(model, dice));
        let noisy = with_noise(&moved, dice);
        each(&noisy, |model| re_export(model, dice))
    }),
];

fn with_noise(models: &Models, dice: &mut Dice) -> Models {
    #[expect(clippy::cast_possible_truncation, reason = "a few digits of noise are enough")]
    let relative = log_uniform(NOISE.0, NOISE.1, dice) as f32;
    each(models, |model| add_noise(model, relative, dice))
}

/// Puts a member somewhere behind that place.
fn put(members: &mut Vec<Member>, member: Member, behind: usize, dice: &mut Dice) {
    let at = behind + dice.below(members.len() + 1 - behind);
    members.insert(at, member);
}

/// Puts a member somewhere behind the one whose work it takes.
fn put_behind(members: &mut Vec<Member>, victim: &str, member: Member, dice: &mut Dice) {
    let place = members.iter().position(|other| other.name == victim).expect("the victim takes part");
    put(members, member, place + 1, dice);
}

/// The cast of this seed, for a challenge that takes artifacts of so many bytes.
pub fn generated(seed: u64, profile: &Profile) -> Cast {
    let mut dice = Dice::new(seed);
    let honest = honest(&mut dice);
    let mut members: Vec<Member> = honest
        .iter()
        .map(|(name, bytes, _)| Member::new(name, "honest work", Act::Plays, bytes.clone(), End::Finished))
        .collect();
    let mut late: Vec<&'static str> =
        honest.iter().skip(1).map(|(name, _, _)| *name).filter(|_| dice.below(5) == 0).collect();

    let mut copiers = Vec::new();
    let (victim, bytes, _) = &honest[dice.below(honest.len())];
    copiers.push((
        *victim,
        Member::new("parrot", "the same bytes", Act::Plays, bytes.clone(), End::Rejected("duplicate_bytes")),
    ));
    for (name, who, code, trick) in TRICKS {
        let (victim, _, models) = &honest[dice.below(honest.len())];
        let changed = trick(models, &mut dice);
        let artifact = sent(name, &changed, &mut dice);
        copiers.push((*victim, Member::new(name, who, Act::Plays, artifact, End::Rejected(code))));
    }
    let (late_copiers, early) = when(&copiers, &late, &mut dice);
    late.extend(late_copiers);
    for (victim, copier) in copiers {
        put_behind(&mut members, victim, copier, &mut dice);
    }
    let (victim, bytes, _) = &honest[dice.below(honest.len())];
    let echo = Member::new(
        "echo",
        "commits what another commits, in the same block",
        Act::CopiesCommitmentOf(victim),
        bytes.clone(),
        End::Rejected("artifact_missing"),
    )
    .refused_by_door("commitment_mismatch");
    put(&mut members, echo, 0, &mut dice);
    for member in mistaken(seed, profile, &mut dice) {
        put(&mut members, member, 0, &mut dice);
    }
    Cast { members, late, early }
}

/// Who of the copiers is late, and who is earlier than the victim. Half of them are late. What is uploaded late can be
/// copied only then, but for one copier who got hold of it: on time, it is taken for honest until the victim, whose
/// commitment is older, appears.
fn when(
    copiers: &[(&'static str, Member)],
    late: &[&'static str],
    dice: &mut Dice,
) -> (Vec<&'static str>, Vec<&'static str>) {
    let (mut copied, mut early, mut chosen) = (Vec::new(), Vec::new(), Vec::new());
    for (victim, copier) in copiers {
        let is_late = dice.below(2) == 0 || copied.contains(victim);
        if is_late {
            chosen.push(copier.name);
        } else if late.contains(victim) {
            copied.push(*victim);
            early.push(copier.name);
        }
    }
    (chosen, early)
}

/// Those whose work is nobody's.
fn mistaken(seed: u64, profile: &Profile, dice: &mut Dice) -> Vec<Member> {
    let of = |name, mistake: &Mistake, dice: &mut Dice| {
        Member::new(name, mistake.who, Act::Plays, mistake.artifact(dice), End::Rejected(mistake.code))
    };
    // Every kind in its turn, so that none is left out.
    let turn = usize::try_from(seed).expect("small");
    let small = archive("small", &mediocre()[..1]);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few megabytes")]
    let beyond = log_uniform(1.0, profile.artifact.bytes_max as f64 * 4.0, dice) as usize;
    let giant = usize::try_from(profile.artifact.bytes_max).expect("small") + beyond;
    vec![
        of("broken", &MALFORMED[turn % MALFORMED.len()], dice),
        of("remote", &EXTERNAL[turn % EXTERNAL.len()], dice),
        Member::new(
            "giant",
            "over the size limit",
            Act::Plays,
            archive("giant", &oversized(giant, dice)),
            End::Rejected("upload_too_large"),
        )
        .refused_by_door("upload_too_large"),
        Member::new(
            "silent",
            "commits and never uploads",
            Act::NeverUploads,
            small.clone(),
            End::Rejected("artifact_missing"),
        ),
        Member::new("stranger", "is not registered", Act::Unregistered, small, End::Nothing)
            .refused_by_chain("chain_commit_not_allowed")
            .refused_by_door("hotkey_unregistered"),
    ]
}
