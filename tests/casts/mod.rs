//! Fifty casts from seeds, so that nothing is tuned to the twelve of the demo: everybody ends as deserved, and nobody
//! honest is blamed.
//!
//! The whole path is walked: `waag up --dev` in a process of its own with a challenge for each cast, registrations and
//! commitments by extrinsics, uploads over HTTP, checks, comparison and rollouts of the embedded profile, ranking,
//! weights set and read back, evidence verified. What is not as in the demo: few episodes, runs without confirming
//! rounds (who wins is not what is asked here), a small limit on uploads, and blocks that are made by hand where
//! nobody waits for them.

mod disguises;
mod generate;
mod mistakes;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use futures::future::try_join_all;
use subxt_rpcs::{RpcClient, client::rpc_params};
use waag::{
    artifact,
    chain::{self, Client},
    cli::demo::{
        cast::{Act, End},
        disguise::Dice,
        play::{Actor, Stage},
        report,
    },
    clock::SystemClock,
    config::profile::{EMBEDDED_DEFAULT, Profile, embedded},
    fault::Fault,
    gym::{env::Environment, policy::BackendChoice},
    ids::SystemEntropy,
    pipeline::life::Status,
    server::{self, views},
    stage::checks,
};

use self::{
    generate::{Cast, generated},
    mistakes::{EXTERNAL, MALFORMED},
};
use crate::play::{NETUID, start};

/// Wall milliseconds between two blocks while somebody waits for them.
const BLOCK_MS: u64 = 100;
/// Blocks in which a run closes, gets its seed and is final.
const RUN_BLOCKS: u32 = 40;
/// Blocks after which a commitment without an upload is given up, and some.
const OVERDUE_BLOCKS: u32 = 320;

/// The embedded profile, small.
fn profile(seed: u64) -> Profile {
    let mut text = embedded(EMBEDDED_DEFAULT).expect("it is embedded").to_owned();
    let slug = format!("slug = \"cast-{seed}\"");
    for (from, to) in [
        ("slug = \"quickstart\"", slug.as_str()),
        ("share = 1.0 ", "share = 0.05 "),
        ("bytes_max = 8_388_608", "bytes_max = 262_144"),
        ("artifact_within_blocks = 600", "artifact_within_blocks = 300"),
        ("rounds_after_arrival = 3", "rounds_after_arrival = 0"),
        ("episodes = 200", "episodes = 20"),
    ] {
        assert!(text.contains(from), "the profile says `{from}`");
        text = text.replace(from, to);
    }
    Profile::parse(&text, "generated").expect("it is still valid")
}

/// Makes so many blocks and waits until everything that can go on in them has come to rest.
async fn pass(stage: &Stage, rpc: &RpcClient, blocks: u32) -> Result<(), Fault> {
    let _made: serde_json::Value = rpc.request("dev_newBlock", rpc_params![blocks]).await.expect("blocks are made");
    let head = stage.chain.finalized_head().await.map_err(|error| error.fault())?.number;
    stage
        .until(async || {
            let status = stage.api.status().await.map_err(|error| error.fault())?;
            let followed = status.subnet.is_some_and(|subnet| subnet.finalized >= head);
            let all = stage.api.all_submissions(&views::Filter::default()).await.map_err(|error| error.fault())?;
            let rests = |status: Status| status == Status::Awaiting || status.is_finished() || status.is_terminal();
            Ok(followed && all.iter().all(|submission| rests(submission.status)))
        })
        .await
}

async fn set_interval(rpc: &RpcClient, ms: u64) {
    let _set: serde_json::Value = rpc.request("dev_setInterval", rpc_params![ms]).await.expect("a devnet");
}

/// Plays the casts of these seeds on one chain against one appliance.
async fn play(seeds: std::ops::Range<u64>) {
    drop(rustls::crypto::ring::default_provider().install_default());
    let dir = tempfile::tempdir().expect("a temporary directory");
    let profiles: Vec<Profile> = seeds.clone().map(profile).collect();
    let casts: Vec<Cast> = seeds.clone().zip(&profiles).map(|(seed, profile)| generated(seed, profile)).collect();
    let appliance = start(dir.path(), BLOCK_MS, &write(&profiles, dir.path()));
    let client = Client::connect(chain::Options::new(vec![appliance.chain.clone()])).await.expect("the chain answers");
    let stages: Vec<Stage> = profiles
        .iter()
        .map(|profile| Stage {
            netuid: NETUID,
            challenge: profile.slug.to_string().parse().expect("a slug"),
            chain: client.clone(),
            chain_url: appliance.chain.clone(),
            block_ms: BLOCK_MS,
            api: server::Client::new(&appliance.api).expect("an address"),
            folder: dir.path().join(profile.slug.to_string()),
            clock: SystemClock::shared(),
        })
        .collect();
    let rpc = RpcClient::from_url(&appliance.chain).await.expect("the chain answers");
    // The price of a place does not climb with two hundred newcomers.
    let dear = rpc_params![NETUID, "max_burn", 1_000_000_000_u64];
    let _set: serde_json::Value = rpc.request("dev_setHyperparameter", dear).await.expect("a devnet");

    let quiet = |_: &str| {};
    let entering = stages.iter().zip(&casts).map(|(stage, cast)| stage.enter(&cast.members, &SystemEntropy, &quiet));
    let mut actors: Vec<Vec<Actor<'_>>> = try_join_all(entering).await.expect("everybody commits who may");
    set_interval(&rpc, 0).await;
    pass(&stages[0], &rpc, 1).await.expect("the appliance has read it all");
    for late in [false, true] {
        for ((stage, cast), actors) in stages.iter().zip(&casts).zip(&mut actors) {
            let is_asked = |member: &_| cast.is_late(member) == late;
            stage.upload(actors, is_asked, &SystemEntropy).await.expect("uploads are taken or refused");
        }
        pass(&stages[0], &rpc, RUN_BLOCKS).await.expect("it comes to rest");
    }
    pass(&stages[0], &rpc, OVERDUE_BLOCKS).await.expect("it comes to rest");
    let wrong = judge(&stages, &casts, &actors).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    set_interval(&rpc, BLOCK_MS).await;
    let (stage, cast) = (&stages[0], &casts[0]);
    stage.until(async || confirmed(stage).await).await.expect("the weights are set");
    let parts = actors.swap_remove(0).into_iter().map(|actor| actor.part).collect();
    let report = report::gather(stage, &cast.members, parts).await.expect("everything can be asked");
    assert!(report.weights.equal, "{:?}", report.weights);
    assert!(report.evidence.verified);
}

/// Writes the profiles to files.
fn write(profiles: &[Profile], dir: &Path) -> Vec<PathBuf> {
    let write = |profile: &Profile| {
        let path = dir.join(format!("{}.toml", profile.slug));
        std::fs::write(&path, profile.text()).expect("the profile is written");
        path
    };
    profiles.iter().map(write).collect()
}

/// Whether the weights of the newest rankings stand on chain.
async fn confirmed(stage: &Stage) -> Result<bool, Fault> {
    let status = stage.api.status().await.map_err(|error| error.fault())?;
    let Some(vector) = status.vector.filter(|vector| vector.state == "confirmed") else { return Ok(false) };
    Ok(status.challenges.iter().all(|challenge| {
        let version = challenge.ranking.as_ref().map(|ranking| ranking.version);
        vector.rankings[&challenge.slug].as_i64() == version
    }))
}

/// Everybody who did not end as deserved, in words.
async fn judge(stages: &[Stage], casts: &[Cast], actors: &[Vec<Actor<'_>>]) -> Vec<String> {
    let mut wrong = Vec::new();
    let submissions = stages[0].api.all_submissions(&views::Filter::default()).await.expect("they can be asked for");
    for ((stage, cast), actors) in stages.iter().zip(casts).zip(actors) {
        let slug = stage.challenge.as_str();
        for actor in actors {
            let (member, part) = (actor.member(), &actor.part);
            let found = submissions.iter().find(|one| one.challenge == slug && one.hotkey == part.hotkey);
            let (status, fault) = (found.map(|one| one.status), found.and_then(|one| one.fault.as_ref()));
            if !member.end.is(status, fault) || !part.is_refused_as(member.refused) {
                wrong.push(format!(
                    "{slug}: {} ({}) ended as {status:?} {fault:?}, refused by chain {:?} and door {:?}",
                    member.name, member.who, part.chain_refused, part.door_refused
                ));
            }
        }
        let ranking = stage.api.ranking(slug, None).await.expect("it is ranked");
        let honest: BTreeSet<_> =
            actors.iter().filter(|actor| actor.member().end == End::Finished).map(|actor| actor.part.hotkey).collect();
        let paid: Vec<_> = ranking.ranking.rows.iter().filter(|row| row.share > 0.0).collect();
        if paid.is_empty() || paid.iter().any(|row| !honest.contains(&row.hotkey)) {
            wrong.push(format!("{slug}: paid are {paid:?} ({} late)", cast.late.join(", ")));
        }
    }
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn casts_0_to_12_end_as_they_deserve() {
    play(0..13).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn casts_13_to_25_end_as_they_deserve() {
    play(13..26).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn casts_26_to_37_end_as_they_deserve() {
    play(26..38).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn casts_38_to_49_end_as_they_deserve() {
    play(38..50).await;
}

/// Every mistake is refused by the operator's own checks with its code, whatever the dice.
#[test]
fn every_mistake_has_its_code() {
    let environments: Vec<Environment> = Environment::ALL.to_vec();
    let limits = artifact::Limits::with_archive_bytes(262_144);
    for mistake in MALFORMED.iter().chain(EXTERNAL) {
        for seed in 0..20 {
            let bytes = mistake.artifact(&mut Dice::new(seed));
            let checked = checks::check(&bytes, &limits, &environments, &BackendChoice::Embedded);
            let fault = checked.expect_err(mistake.who);
            assert_eq!(fault.code, mistake.code, "{}, seed {seed}: {}", mistake.who, fault.detail);
        }
    }
}

/// Fifty seeds make different casts, in which everything occurs and victims commit first.
#[test]
fn casts_differ_and_victims_come_first() {
    let mut seen = BTreeSet::new();
    let mut orders = BTreeSet::new();
    let mut early = 0;
    for seed in 0..50 {
        let cast = generated(seed, &profile(seed));
        let names: Vec<&str> = cast.members.iter().map(|member| member.name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "seed {seed}: names are wallets");
        assert_eq!(names, generated(seed, &profile(seed)).members.iter().map(|it| it.name).collect::<Vec<_>>());
        let first_honest = cast.members.iter().position(|member| member.end == End::Finished);
        let first_copier = names.iter().position(|name| ["parrot", "whisper", "masked"].contains(name));
        assert!(first_honest < first_copier, "seed {seed}: {names:?}");
        let uploads = cast.members.iter().filter(|member| member.act == Act::Plays && !cast.is_late(member));
        assert!(uploads.clone().any(|member| member.end == End::Finished), "seed {seed}: somebody is on time");
        seen.extend(cast.members.iter().map(|member| (member.name, member.who)));
        orders.insert(names);
        early += cast.early.len();
    }
    assert!(early > 5, "{early} copiers are earlier than their victims");
    assert_eq!(orders.len(), 50);
    for mistake in MALFORMED.iter().chain(EXTERNAL) {
        assert!(seen.iter().any(|(_, who)| *who == mistake.who), "never: {}", mistake.who);
    }
}
